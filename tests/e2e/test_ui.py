"""The asset graph as a person sees it: the real webserver, serving this project's definitions, in a real Chromium.

The selection box is parsed twice, by the page's own grammar and, where a selection is part of a definition, by
Dagster's Python grammar. This test holds the first; `tests/test_dvc_and_dagster_together.py` and
`tests/assets/test_definitions.py` hold the second, which is the one that the antlr runtime can break.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llmops_assets.charts import loss_curve
from llmops_assets.definitions import STORY
from llmops_assets.picture import WIDTH
from tests.fakes.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NAMES = {asset.key.to_user_string() for asset in STORY}
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
OFFLINE = ("--disable-component-update", "--disable-sync")
WRONG = ".selection-input-error"  # how the box marks what it cannot parse
START_SECONDS, SEEN_SECONDS = 60, 20


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a webserver of its own, on a state folder of its own."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    home = tmp_path_factory.mktemp("ui")
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    _record_weights(home / "dagster")
    port = free_port()
    program = Path(sys.executable).with_name("dagster-webserver")
    command = [str(program), "-m", "llmops_assets.definitions", "-h", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(home / "dagster"), "LLMOPS_HOME": str(home / "state")}
    with (home / "webserver.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/server_info", process, home / "webserver.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _record_weights(folder: Path) -> None:
    """As if a run had trained a model: its loss as the asset shows it."""
    from dagster import AssetMaterialization, DagsterInstance, MetadataValue

    loss = MetadataValue.md(loss_curve([(step, 400 / (step + 50)) for step in range(400)], "training loss"))
    with DagsterInstance.from_config(str(folder)) as instance:
        instance.add_dynamic_partitions("models", ["atlas-qa"])
        made = AssetMaterialization("weights", partition="atlas-qa", metadata={"loss": loss})
        instance.report_runless_asset_event(made)


@pytest.fixture(scope="module")
def page(ui: str) -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *OFFLINE])
        yield browser.new_page(viewport={"width": 2600, "height": 1000})
        browser.close()


def test_an_asset_of_the_story_was_missing_in_the_graph(ui: str, page: "Page") -> None:
    open_graph(page, ui)
    assert see(page, NAMES) == NAMES


def test_a_selection_typed_into_the_box_failed_or_selected_something_else(ui: str, page: "Page") -> None:
    open_graph(page, ui)
    select(page, "key:weights+")
    expected = NAMES - {"dataset", "base_weights"}
    assert see(page, expected) == expected
    assert "key%3Aweights" in page.url
    assert not page.locator(WRONG).count()


def test_a_mistake_in_the_box_would_not_have_been_seen(ui: str, page: "Page") -> None:
    open_graph(page, ui)
    select(page, "key:weights+ and and")
    page.locator(WRONG).first.wait_for(timeout=SEEN_SECONDS * 1000)


def test_a_selection_of_a_group_showed_more_than_the_group(ui: str, page: "Page") -> None:
    open_graph(page, ui)
    select(page, 'group:"staging"')
    assert see(page, {"staging_deployment", "staging_tests"}) == {"staging_deployment", "staging_tests"}


@pytest.mark.parametrize("view", ["overview", "partitions&partition=atlas-qa"])
def test_a_picture_was_broken_or_hidden_behind_a_link(ui: str, page: "Page", view: str) -> None:
    page.goto(f"{ui}/assets/weights?view={view}", wait_until="domcontentloaded")
    picture = page.get_by_alt_text("training loss").first
    picture.wait_for(timeout=SEEN_SECONDS * 1000)
    assert picture.evaluate("image => image.naturalWidth") == WIDTH


def open_graph(page: "Page", ui: str) -> None:
    page.goto(f"{ui}/asset-groups", wait_until="domcontentloaded")
    page.locator(".CodeMirror").first.wait_for(timeout=SEEN_SECONDS * 1000)
    page.get_by_text("training", exact=True).first.wait_for(timeout=SEEN_SECONDS * 1000)


def select(page: "Page", selection: str) -> None:
    page.locator(".CodeMirror").first.click()
    page.keyboard.type(selection, delay=20)
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")  # the list of suggestions
    page.keyboard.press("Enter")
    page.wait_for_url("**/asset-groups~**", timeout=SEEN_SECONDS * 1000, wait_until="commit")


def see(page: "Page", expected: set[str]) -> set[str]:
    """The assets that the graph shows once its groups are open: when they are the expected ones, or time is over."""
    deadline = time.monotonic() + SEEN_SECONDS
    while (found := shown(page)) != expected and time.monotonic() < deadline:
        if not found:
            page.keyboard.press("Alt+e")  # opens all groups
        page.wait_for_timeout(500)
    return found


def shown(page: "Page") -> set[str]:
    return NAMES & set(page.inner_text("body").splitlines())


def wait_until_up(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the webserver did not come up: {log.read_text()[-2000:]}")
