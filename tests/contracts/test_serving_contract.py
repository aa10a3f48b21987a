"""What every serving engine promises, asked of the one in memory and of supervised programs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, IntegrityError
from llmops_core.verdict import Verdict
from resources.serving import DeploymentPlan, LocalServing, ServingEngine
from tests.fakes.platform import Platform
from tests.fakes.serving import FakeServing

ROOT = Path(__file__).parents[2]


def command(plan: DeploymentPlan, port: int) -> tuple[str, ...]:
    """The test server instead of a model; an alias `crash` makes it end at once."""
    return (str(plan.python), "-m", "tests.fakes.model_server", "crash" if plan.alias == "crash" else str(port))


def plan(name: str = "atlas-qa-1.0", **changes: object) -> DeploymentPlan:
    values: dict[str, object] = {
        "name": name,
        "model": "atlas-qa",
        "version": "1",
        "weights_digest": "d" * 64,
        "model_file": ROOT / "model.gguf",
        "alias": "atlas-qa",
        "context_tokens": 128,
        "parallel": 4,
        "timeout_seconds": 5.0,
        "directory": ROOT,
        "python": Path(sys.executable),
    }
    return DeploymentPlan.model_validate({**values, **changes})


@pytest.fixture(params=["fake", "local"])
def serving(request: pytest.FixtureRequest) -> Iterator[ServingEngine]:
    if request.param == "fake":
        yield FakeServing()
        return
    platform: Platform = request.getfixturevalue("platform")
    engine = LocalServing(platform.home, platform.port_base, platform.processes, command)
    yield engine
    for deployment in engine.running():
        engine.retire(deployment.name)


def test_a_deployment_carries_its_plan_and_becomes_ready(serving: ServingEngine) -> None:
    deployment = serving.deploy(plan())
    serving.wait_ready(deployment, 10)
    assert serving.health(deployment.name).verdict is Verdict.PASSED
    assert serving.running() == [deployment]
    assert (deployment.model, deployment.version, deployment.weights_digest) == ("atlas-qa", "1", "d" * 64)
    assert deployment.timeout_seconds == 5.0


def test_deploying_again_keeps_address_and_description(serving: ServingEngine) -> None:
    first = serving.deploy(plan())
    assert serving.deploy(plan()) == first
    assert len(serving.running()) == 1


def test_starting_again_loses_nothing_and_moves_nothing(serving: ServingEngine) -> None:
    first = [serving.deploy(plan("one")), serving.deploy(plan("two"))]
    assert serving.start() == first == serving.running()


def test_two_deployments_have_two_ports(serving: ServingEngine) -> None:
    one, two = serving.deploy(plan("one")), serving.deploy(plan("two"))
    assert one.port != two.port
    assert [deployment.name for deployment in serving.running()] == ["one", "two"]


def test_a_retired_deployment_is_unknown_and_frees_its_port(serving: ServingEngine) -> None:
    one = serving.deploy(plan("one"))
    serving.wait_ready(one, 10)
    serving.retire("one")
    serving.retire("one")
    assert serving.running() == []
    assert serving.health("one").verdict is Verdict.ERROR
    assert serving.deploy(plan("two")).port == one.port


def test_a_changed_plan_replaces_the_server(serving: ServingEngine) -> None:
    serving.deploy(plan())
    changed = serving.deploy(plan(version="2", alias="other"))
    serving.wait_ready(changed, 10)
    assert [deployment.version for deployment in serving.running()] == ["2"]


def test_waiting_for_what_was_never_deployed_ends_at_once(serving: ServingEngine) -> None:
    stranger = serving.deploy(plan("stranger"))
    serving.retire("stranger")
    with pytest.raises(IntegrityError):
        serving.wait_ready(stranger, 10)


def test_more_deployments_than_ports_are_refused(serving: ServingEngine) -> None:
    if isinstance(serving, LocalServing):
        serving._ports = serving._ports[:2]
    else:
        serving = FakeServing(range(1, 3))
    serving.deploy(plan("one"))
    serving.deploy(plan("two"))
    with pytest.raises(EnvironmentLacks, match="free"):
        serving.deploy(plan("three"))
    assert [deployment.name for deployment in serving.running()] == ["one", "two"]
