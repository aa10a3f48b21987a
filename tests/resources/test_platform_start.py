"""Bringing the platform up: refusals before anything starts, and a reason for what does not come up."""

import json
import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from llmops_core.platform_settings import Secret, Webhook
from resources.home import Home
from resources.host import platform_start
from resources.host.platform_programs import platform_programs, write_dagster_instance
from resources.host.platform_start import parts, running, start, stop
from resources.host.processes import Program
from resources.serving.serving import LocalServing
from resources.wiring import Platform, build_platform
from tests.contracts.test_serving_contract import command, plan
from tests.fakes.platform import route, table
from tests.fakes.ports import PLATFORM_STEP, free_port_base
from tests.fakes.processes import FakeProcesses
from tests.fakes.traffic import FakeGateway

ROOT = Path(__file__).parents[2]


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = build_platform(Home(ROOT, tmp_path, free_port_base()))
    made.__dict__.update(processes=FakeProcesses(), gateway=FakeGateway())
    return made


@pytest.fixture(params=["gateway_port", "mlflow_port", "dagster_port", "code_port"])
def taken(request: pytest.FixtureRequest, platform: Platform) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", getattr(platform.home, request.param))):
        yield getattr(platform.home, request.param)


def test_a_port_in_use_was_not_named(platform: Platform, taken: int) -> None:
    with pytest.raises(EnvironmentLacks, match=rf"port {taken}, .* in use by \S+ \(process {os.getpid()}\).*PORT_BASE"):
        list(start(platform))
    with pytest.raises(TransientError, match="keeper does not run"):
        platform.processes.programs()  # nothing was started beside it, and nothing is left


@pytest.mark.parametrize("runs", [False, True])
def test_a_port_taken_since_the_last_start_was_waited_for(
    platform: Platform, taken: int, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs of last time begin with the keeper, or are begun again and again: alive, but without their port."""
    monkeypatch.setattr(platform_start, "START_LIMIT_SECONDS", 1.0)
    (platform.home.root / "port_base").write_text(f"{platform.home.port_base}\n")
    platform.processes.start()
    for name in ("gateway", "mlflow", "dagster", "code"):
        platform.processes.put(Program(name, ("sleep", "1000"), ROOT))
    if not runs:
        platform.processes.stop()
    with pytest.raises(EnvironmentLacks, match=rf"port {taken}, which .* is in use by"):
        list(start(platform))
    assert running_programs(platform) == (4 if runs else 0)  # nothing began, nothing of what ran was ended


def running_programs(platform: Platform) -> int:
    try:
        return len([state for state in platform.processes.programs() if state.alive])
    except TransientError:
        return 0


def test_a_part_that_dies_was_waited_for_without_end(platform: Platform) -> None:
    processes = platform.processes
    assert isinstance(processes, FakeProcesses)
    processes.logs["gateway"] = "no such option"
    with pytest.raises(TransientError, match=r"gateway does not answer at .*\n.*no such option"):
        list(start(platform))  # no program of this name is kept: it is gone


def test_what_answers_was_not_told_or_started_twice(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_start, "_answers", lambda url: True)
    monkeypatch.setattr(platform_start, "_dagster_loaded", lambda url: True)
    assert [line.split(" ")[0] for line in start(platform)] == ["gateway", "MLflow", "Dagster"]
    before = {state.name: state.pid for state in platform.processes.programs()}
    assert list(start(platform)) and {s.name: s.pid for s in platform.processes.programs()} == before
    assert running(platform)
    stop(platform)
    assert not running(platform)


@pytest.mark.parametrize(
    ("answer", "loaded"),
    [
        ([], False),
        ([{"locationOrLoadError": None}], False),
        ([{"locationOrLoadError": {"__typename": "PythonError"}}], False),
        ([{"locationOrLoadError": {"__typename": "RepositoryLocation"}}], True),
    ],
)
def test_a_ui_without_its_code_location_counted_as_up(answer: list, loaded: bool, monkeypatch) -> None:
    class Response:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, *_):
            return json.dumps({"data": {"workspaceOrError": {"locationEntries": answer}}}).encode()

    monkeypatch.setattr(platform_start.urllib.request, "urlopen", lambda *_, **__: Response())
    assert platform_start._dagster_loaded("http://127.0.0.1:1") is loaded


def test_nothing_listening_counted_as_up() -> None:
    assert not platform_start._dagster_loaded("http://127.0.0.1:1")
    assert not platform_start._answers("http://127.0.0.1:1")


def test_programs_were_told_of_another_platform(tmp_path: Path) -> None:
    home = Home(ROOT, tmp_path, 9100, "local")
    programs = {program.name: program for program in platform_programs(home, None)}
    assert list(programs) == ["mlflow", "code", "daemon", "dagster"]
    for program in programs.values():
        assert Path(program.command[0]).is_absolute()
        variables = dict(program.environment)
        assert (variables["LLMOPS_HOME"], variables["LLMOPS_PORT_BASE"]) == (str(tmp_path), "9100")
        assert variables["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert "9104" in programs["code"].command and "9101" in programs["dagster"].command


def test_webhooks_were_heard_without_a_secret_or_not_with_one(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = Webhook(github=Secret(env="GITHUB_WEBHOOK"), gitlab=Secret(file="/run/secrets/gitlab"))
    monkeypatch.delenv("GITHUB_WEBHOOK", raising=False)
    with pytest.raises(EnvironmentLacks, match="variable GITHUB_WEBHOOK, which is not set"):
        platform_programs(platform.home, webhook)
    monkeypatch.setenv("GITHUB_WEBHOOK", "hunter2")
    *others, intake = platform_programs(platform.home, webhook)
    assert intake.name == "intake" and intake.environment["GITHUB_WEBHOOK"] == "hunter2"
    assert str(platform.home.intake_port) in intake.command and "hunter2" not in intake.command
    assert all("GITHUB_WEBHOOK" not in program.environment for program in others)
    assert "webhooks" not in [part.name for part in parts(platform)]
    heard = Platform(platform.home, platform.settings.model_copy(update={"webhook": webhook}))
    assert parts(heard)[-1].url == f"{platform.home.intake_url}/webhooks"


def test_the_intake_outlived_the_secrets_it_had(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_start, "_answers", lambda url: True)
    monkeypatch.setattr(platform_start, "_dagster_loaded", lambda url: True)
    platform.processes.start()
    platform.processes.put(Program("intake", ("sleep", "1000"), ROOT))
    list(start(platform))
    assert platform.processes.state_of("intake") is None


def test_two_releases_of_one_model_ran_at_once_or_ticks_filled_the_disk(tmp_path: Path) -> None:
    write_dagster_instance(Home(ROOT, tmp_path, 9100))
    instance = json.loads((tmp_path / "dagster" / "dagster.yaml").read_text())
    (limit,) = instance["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limit == {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    assert instance["retention"]["sensor"]["purge_after_days"]["skipped"] == 1
    assert instance["run_monitoring"]["enabled"] and not instance["telemetry"]["enabled"]


def test_an_environment_that_does_not_exist_ruled(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"LLMOPS_ENVIRONMENT.*one of: development-cluster, development, local, production, staging"
    ):
        build_platform(Home(ROOT, tmp_path, 9100, "nowhere"))


def test_an_environment_on_a_cluster_served_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    platform = build_platform(Home(ROOT, tmp_path, 9100, "production"))
    with pytest.raises(EnvironmentLacks, match="no cluster is known"):
        _ = platform.serving
    with pytest.raises(EnvironmentLacks, match="no cluster is known"):
        _ = platform.gateway
    assert platform.gateway_url == "https://models.production.example.com"
    assert "gateway" not in [part.name for part in parts(platform)]


def test_reading_the_ledger_opened_other_doors(tmp_path: Path) -> None:
    platform = build_platform(Home(ROOT, tmp_path / "new", 9100))
    assert platform.ledger.facts() == []
    assert {"registry", "gateway", "processes"}.isdisjoint(platform.__dict__)


@pytest.fixture
def moving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Platform]]:
    """Opens a platform of one state folder on a base of ports: a real keeper and gateway, small servers as models, and
    neither Dagster nor MLflow."""
    idle = Program("idle", ("sleep", "1000"), ROOT)
    monkeypatch.setattr(platform_start, "platform_programs", lambda home, webhook, places: [idle])
    monkeypatch.setattr(platform_start, "_make_dagster_storage", lambda platform, programs: None)
    monkeypatch.setattr(platform_start, "parts", lambda home: parts(home)[:1])
    opened: list[Platform] = []

    def on(base: int) -> Platform:
        platform = build_platform(Home(ROOT, tmp_path, base))
        serving = LocalServing(tmp_path, base, platform.processes, command)
        platform.__dict__["serving"] = serving
        opened.append(platform)
        return platform

    yield on
    for platform in opened:
        stop(platform)


def test_after_a_move_to_other_ports_the_gateway_asked_the_old_ones(moving: Callable[[int], Platform]) -> None:
    first, other = free_port_base(), free_port_base() + PLATFORM_STEP
    platform = moving(first)
    list(start(platform))
    deployment = platform.serving.deploy(plan())
    platform.serving.wait_ready(deployment, 10)
    platform.gateway.apply(table(route((deployment, 100))))
    stop(platform)
    with socket.create_server(("127.0.0.1", deployment.port)), socket.create_server(("127.0.0.1", first)):
        moved = moving(other)
        assert list(start(moved))[-1] == f"{deployment.name} answers"
        (now,) = moved.serving.running()
        assert other < now.port < other + PLATFORM_STEP and moved.gateway.current() == table(route((now, 100)))
        with urllib.request.urlopen(f"{moved.home.gateway_url}/models/atlas-qa/ready") as answer:
            assert answer.status == 200


def test_a_running_platform_was_moved_under_its_users(moving: Callable[[int], Platform]) -> None:
    first = free_port_base()
    platform = moving(first)
    list(start(platform))
    with pytest.raises(EnvironmentLacks, match=rf"runs on the ports from {first}.*`llmops stop`.*LLMOPS_PORT_BASE"):
        list(start(moving(first + PLATFORM_STEP)))
    assert running(platform)


def test_a_model_that_does_not_come_up_was_not_told_of_or_held_the_others_up(
    moving: Callable[[int], Platform],
) -> None:
    platform = moving(free_port_base())
    list(start(platform))
    platform.serving.deploy(plan("crashed", alias="crash"))
    platform.serving.deploy(plan("sound"))
    told = list(start(platform))
    assert told[-1] == "sound answers" and told[-2].startswith("crashed does not answer: ")
    assert "out of memory" in told[-2]
