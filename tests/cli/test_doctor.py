"""`llmops doctor` of this machine, with its real parts."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_assets.operations.doctor import PARTS, asked
from llmops_core.doctor import Health
from resources.home import home_from
from resources.wiring import build_platform
from tests.cli.conftest import Ended
from tests.fakes.git_with_data import GitWithData

Run = Callable[..., Ended]
WELL = ("settings", "repository", "artifacts", "feedback", "signing", "ledger", "mlflow", "disk")


def verdicts(ended: Ended) -> dict[str, str]:
    return {each["name"]: each["verdict"] for each in ended.json["diagnoses"]}


def test_an_environment_that_can_run_was_called_ill(llmops: Run, clone: GitWithData) -> None:
    ended = llmops("doctor", "--json")
    found = verdicts(ended)
    assert (ended.exit_code, ended.json["well"]) == (0, True), ended.output
    assert found["kubernetes"] == "not needed"
    assert {found[name] for name in WELL} == {"ok"}
    assert "All is well." in llmops("doctor").output


def test_looking_made_a_platform_that_no_state_can_be_moved_to(llmops: Run, clone: GitWithData) -> None:
    assert llmops("doctor").exit_code == 0
    assert list(build_platform(home_from(os.environ, clone.path)).ledger.facts()) == []


def test_broken_settings_kept_the_machine_from_being_looked_at(llmops: Run, clone: GitWithData) -> None:
    (clone.path / "config" / "local.yaml").write_text("name: local\n")
    ended = llmops("doctor", "--json")
    assert ended.exit_code == 1
    found = verdicts(ended)
    assert found["settings"] == "failed" and found["programs"] == "ok"


def test_a_port_that_another_program_holds_was_called_free(
    llmops: Run, monkeypatch: pytest.MonkeyPatch, clone: GitWithData
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(os.environ["LLMOPS_PORT_BASE"])))
        other.listen()
        ended = llmops("doctor", "--json")
    assert (ended.exit_code, verdicts(ended)["ports"]) == (1, "failed")


def test_a_state_folder_that_cannot_be_written_was_called_good(
    llmops: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "file"))
    ended = llmops("doctor", "--json")
    assert (ended.exit_code, verdicts(ended)["artifacts"], verdicts(ended)["ledger"]) == (1, "failed", "failed")


def test_an_environment_that_does_not_exist_was_examined(llmops: Run) -> None:
    ended = llmops("doctor", "--json", "--environment", "moon")
    assert ended.exit_code == 1 and verdicts(ended)["settings"] == "failed"
    assert "moon" in ended.json["diagnoses"][0]["found"]


@pytest.mark.parametrize(
    ("section", "verdict"), [("['remote \"store\"']\n    url = {store}\n", "ok"), ("", "failed")], ids=["there", "gone"]
)
def test_a_dvc_remote_that_cannot_be_asked_was_called_good(
    llmops: Run, clone: GitWithData, tmp_path: Path, section: str, verdict: str
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    config = clone.path / ".dvc" / "config"
    config.write_text("[core]\n    remote = store\n" + section.format(store=store))
    assert verdicts(llmops("doctor", "--json"))["dvc remote"] == verdict


@pytest.mark.parametrize(("known", "verdict"), [(True, "ok"), (False, "failed")], ids=["known", "unknown"])
def test_a_key_whose_signatures_nobody_believes_was_called_good(
    llmops: Run, clone: GitWithData, tmp_path: Path, known: bool, verdict: str
) -> None:
    key = tmp_path / "platform"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", key], check=True)
    half = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    signers = clone.path / "config" / "platform_signers" / "local"
    signers.parent.mkdir(exist_ok=True)
    signers.write_text(f'llmops-platform namespaces="llmops-version" {half}\n' if known else "# nobody yet\n")
    settings = clone.path / "config" / "local.yaml"
    told = f"platform: {{signing: {{key: {key}, signers: config/platform_signers/local}}}}\n"
    settings.write_text(f"{settings.read_text()}\n{told}")
    ended = llmops("doctor", "--json")
    (found,) = [each for each in ended.json["diagnoses"] if each["name"] == "signing"]
    assert found["verdict"] == verdict, found
    assert known or "config/platform_signers/local" in found["found"]


@pytest.mark.parametrize(("page", "good"), [(b"{}", True), (b"[]", False), (b"<html>Log in</html>", False)])
def test_a_page_to_log_in_at_was_called_a_registry(page: bytes, good: bool) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Not onto the terminal."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        places = SimpleNamespace(mlflow=SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", token=None))
        platform: Any = SimpleNamespace(settings=SimpleNamespace(platform=places))
        found, *files = asked("mlflow", lambda: PARTS["mlflow"](platform))
        server.shutdown()
    assert found.verdict is (Health.OK if good else Health.FAILED), found
    assert [each.verdict for each in files] == ([Health.UNKNOWN] if good else []), "it has no experiment"
