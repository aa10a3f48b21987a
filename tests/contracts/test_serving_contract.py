"""What every serving engine promises, asked of the one in memory, of supervised programs, and of Deployments."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, IntegrityError
from llmops_core.verdict import Verdict
from resources.serving.serving import DeploymentPlan, LocalServing, ServingEngine
from tests.fakes.platform import Platform
from tests.fakes.serving import FakeServing
from tests.fakes.serving_clusters import ServingCluster, serving_cluster

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


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServingCluster]:
    with serving_cluster() as made:
        yield made


@pytest.fixture(params=["fake", "local", "kubernetes"])
def serving(request: pytest.FixtureRequest) -> Iterator[ServingEngine]:
    yield from _engine(request)


@pytest.fixture(params=["fake", "local"])
def machine(request: pytest.FixtureRequest) -> Iterator[ServingEngine]:
    """One machine, whose servers share its ports."""
    yield from _engine(request)


def _engine(request: pytest.FixtureRequest) -> Iterator[ServingEngine]:
    if request.param == "fake":
        yield FakeServing()
        return
    engine: ServingEngine
    if request.param == "kubernetes":
        engine = request.getfixturevalue("cluster").serving()
    else:
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


def test_two_deployments_have_two_addresses(serving: ServingEngine) -> None:
    one, two = serving.deploy(plan("one")), serving.deploy(plan("two"))
    assert (one.host, one.port) != (two.host, two.port)
    assert [deployment.name for deployment in serving.running()] == ["one", "two"]


def test_a_retired_deployment_is_unknown(serving: ServingEngine) -> None:
    one = serving.deploy(plan("one"))
    serving.wait_ready(one, 10)
    assert serving.plan("one") == plan("one")
    serving.retire("one")
    serving.retire("one")
    assert serving.running() == [] and serving.plan("one") is None
    assert serving.health("one").verdict is Verdict.ERROR


def test_a_deployment_comes_back_after_its_retirement(serving: ServingEngine) -> None:
    serving.deploy(plan("one"))
    serving.retire("one")
    again = serving.deploy(plan("one"))
    serving.wait_ready(again, 10)
    assert serving.running() == [again]


def test_a_retired_deployment_frees_its_port(machine: ServingEngine) -> None:
    one = machine.deploy(plan("one"))
    machine.retire("one")
    assert machine.deploy(plan("two")).port == one.port


def test_a_server_that_is_gone_had_a_witness(serving: ServingEngine) -> None:
    with pytest.raises(IntegrityError):
        serving.witness("atlas-qa-1.0")
    deployment = serving.deploy(plan())
    serving.wait_ready(deployment, 10)
    assert serving.witness(deployment.name)
    serving.retire(deployment.name)
    with pytest.raises(IntegrityError):
        serving.witness(deployment.name)


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


def test_more_deployments_than_ports_are_refused(machine: ServingEngine) -> None:
    serving = machine
    if isinstance(serving, LocalServing):
        serving._ports = serving._ports[:2]
    else:
        serving = FakeServing(range(1, 3))
    serving.deploy(plan("one"))
    serving.deploy(plan("two"))
    with pytest.raises(EnvironmentLacks, match="free"):
        serving.deploy(plan("three"))
    assert [deployment.name for deployment in serving.running()] == ["one", "two"]
