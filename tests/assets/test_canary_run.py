"""Driving a canary with traffic over HTTP, split by the routes that it sets."""

import threading
import time
from collections.abc import Collection, Iterator

import pytest

from llmops_assets import canary_run
from llmops_assets.canary_arms import judge_pods, pods_read
from llmops_assets.canary_run import run_canary
from llmops_assets.operations.overview import overview
from llmops_assets.operations.rollback import roll_back
from llmops_core.errors import GateRefused, TransientError
from llmops_core.status import SILENT, fold
from llmops_core.traffic_counts import TrafficCounts
from llmops_core.verdict import Verdict
from resources.traffic.metrics import Metrics
from tests.fakes.http_gateway import Behaviour
from tests.fakes.platform_doors import UNTIL_APPROVAL, World

FIRST, SECOND = "tiny-production-v1", "tiny-production-v2"


def _shares(world: World) -> dict[str, int]:
    """{beginning of a deployment's name: its share} of production."""
    route = world.gateway.current().route("tiny", "production")
    return {s.deployment.name.rpartition("-")[0]: s.weight_percent for s in route.shares} if route else {}


def _ticks(world: World, stage: str = "canary") -> list[dict]:
    fingerprint = world.release().fingerprints[stage]
    return [f.body for f in world.doors().ledger.facts("tiny") if f.kind == "ticked" and f.fingerprint == fingerprint]


def test_a_healthy_candidate_was_not_promoted(candidate: World) -> None:
    fact = run_canary(candidate.step("canary"))
    assert fact.body["verdict"] == "passed", fact.body["reason"]
    assert _shares(candidate) == {FIRST: 50, SECOND: 50}  # production moves the rest, on evidence of its own
    last = _ticks(candidate)[-1]
    assert last["action"] == "promote" and last["requests"] >= 10


def test_our_own_traffic_asked_what_training_had_seen(candidate: World) -> None:
    run_canary(candidate.step("canary"))
    assert candidate.gateway.prompts and all(prompt.startswith("tell:") for prompt in candidate.gateway.prompts)


def test_a_candidate_that_fails_was_promoted_or_kept_its_traffic(candidate: World) -> None:
    candidate.gateway.behaviours[SECOND] = Behaviour(status=503)
    fact = run_canary(candidate.step("canary"))
    assert fact.body["verdict"] == "failed"
    assert _shares(candidate) == {FIRST: 100}
    assert not any(one.name.startswith(SECOND) for one in candidate.serving.running())
    (blocked,) = fold("tiny", candidate.doors().ledger.facts()).blocked
    assert blocked.stage == "canary" and "failed" in blocked.reason


def test_the_reason_was_told_only_when_a_hanging_candidate_had_ended(candidate: World, monkeypatch) -> None:
    candidate.gateway.behaviours[SECOND] = Behaviour(status=503)
    told: list[str] = []

    def retire(name: str) -> None:
        told.extend(blocked.stage for blocked in fold("tiny", candidate.doors().ledger.facts()).blocked)

    monkeypatch.setattr(candidate.serving, "retire", retire)
    run_canary(candidate.step("canary"))
    assert told == ["canary"]


def test_a_candidate_that_is_slow_was_promoted(candidate: World) -> None:
    candidate.gateway.behaviours[SECOND] = Behaviour(seconds=0.9)
    assert run_canary(candidate.step("canary")).body["verdict"] == "failed"
    assert _shares(candidate) == {FIRST: 100}


def test_production_took_over_after_a_failed_canary(candidate: World) -> None:
    candidate.gateway.behaviours[SECOND] = Behaviour(status=503)
    assert not candidate.materialize("canary", "production").success
    assert candidate.reasons("production")[0].startswith("canary is failed")
    assert _shares(candidate) == {FIRST: 100}


def test_a_failed_canary_could_not_be_tried_again(candidate: World) -> None:
    candidate.gateway.behaviours[SECOND] = Behaviour(status=503)
    assert candidate.materialize("canary").success  # the record of a canary that failed is a result
    candidate.gateway.behaviours.clear()
    assert candidate.materialize("canary", "production").success
    assert _shares(candidate) == {SECOND: 100}


def test_what_production_answered_before_was_evidence_of_the_canary(candidate: World) -> None:
    """A candidate whose name had traffic before, such as that of a canary before this one, starts from nothing."""
    run_canary(candidate.step("canary"))
    seen = _ticks(candidate)[-1]["requests"]
    candidate.doors().ledger.append("switched", model="tiny", subject="staging", body={"deployment": None})
    run_canary(candidate.step("canary"))
    second = _ticks(candidate)
    begun = next(
        index for index, tick in enumerate(second) if index and tick["requests"] < second[index - 1]["requests"]
    )
    assert second[begun]["requests"] < seen + 10


class _Dies(Exception):
    """A process that is killed."""


def test_a_killed_canary_began_again_from_nothing(candidate: World, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate.repository.commit_settings("canary", min_requests_per_step=60)
    _until_approved(candidate)
    advance, calls = canary_run.advance, []

    def dying(*arguments):
        if len(calls) == 3:
            raise _Dies
        calls.append(arguments)
        return advance(*arguments)

    monkeypatch.setattr(canary_run, "advance", dying)
    monkeypatch.setattr(canary_run, "_give_up", lambda *_: None)  # what is killed does nothing more
    with pytest.raises(_Dies):
        run_canary(candidate.step("canary"))
    left = _ticks(candidate)
    monkeypatch.setattr(canary_run, "advance", advance)
    fact = run_canary(candidate.step("canary"))
    assert fact.body["verdict"] == "passed"
    after = _ticks(candidate)
    assert after[:3] == left and len(left) == 3
    assert after[3]["requests"] >= left[-1]["requests"]
    assert after[3]["state"]["began_seconds"] == left[0]["state"]["began_seconds"]
    assert candidate.step("canary").report(fact)["ticks"] == after


def test_a_canary_killed_between_deciding_and_acting_left_the_traffic_where_it_was(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate.gateway.behaviours[SECOND] = Behaviour(status=503)
    restore = canary_run._restore
    monkeypatch.setattr(canary_run, "_restore", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_canary(candidate.step("canary"))
    assert SECOND in _shares(candidate)
    monkeypatch.setattr(canary_run, "_restore", restore)
    assert run_canary(candidate.step("canary")).body["verdict"] == "failed"
    assert _shares(candidate) == {FIRST: 100}


class _Flaky(Metrics):
    """The real counts, but for the calls that are to fail (the first one is 0)."""

    def __init__(self, real: Metrics, failing: range) -> None:
        self.real, self.failing, self.calls = real, failing, 0

    def counts(self, since: float | None = None) -> dict[str, TrafficCounts]:
        self.calls += 1
        if self.calls - 1 in self.failing:
            raise TransientError("the gateway's metrics do not answer")
        return self.real.counts(since)


def test_a_candidate_was_promoted_though_nothing_could_be_measured(candidate: World) -> None:
    candidate.repository.commit_settings("canary", max_seconds_per_step=0.3)
    _until_approved(candidate)
    step = candidate.step("canary")
    step.platform.__dict__["metrics"] = _Flaky(step.platform.metrics, range(1, 10**6))
    fact = run_canary(step)
    assert fact.body["verdict"] == "failed" and "not enough evidence" in fact.body["reason"]
    assert _shares(candidate) == {FIRST: 100}


def test_metrics_that_come_back_were_not_used(candidate: World) -> None:
    step = candidate.step("canary")
    metrics = step.platform.__dict__["metrics"] = _Flaky(step.platform.metrics, range(1, 3))
    assert run_canary(step).body["verdict"] == "passed" and metrics.calls > 3


def test_a_canary_began_though_nothing_could_be_measured(candidate: World) -> None:
    step = candidate.step("canary")
    step.platform.__dict__["metrics"] = _Flaky(step.platform.metrics, range(1))
    with pytest.raises(TransientError):
        run_canary(step)
    assert _shares(candidate) == {FIRST: 100}


class _InPods(_Flaky):
    """Counts of pods, of which one is not scraped in the first `hidden` readings."""

    begins_anew = False

    def __init__(self, real: Metrics, hidden: int = 0) -> None:
        super().__init__(real, range(0))
        self.hidden, self.settled, self.asked = hidden, 0, set[float | None]()

    def scraped(self) -> frozenset[str]:
        self.hidden -= 1
        return frozenset({"one", "two"} if self.hidden < 0 else {"one"})

    def settle(self, pods: Collection[str]) -> None:
        assert set(pods) == {"one", "two"}
        self.settled += 1

    def counts(self, since: float | None = None) -> dict[str, TrafficCounts]:
        self.asked.add(since)
        return super().counts(since)


@pytest.fixture
def in_pods(candidate: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(candidate.serving, "counted_in", lambda name: frozenset({"one", "two"}), raising=False)
    yield candidate


def test_a_pod_that_nobody_scrapes_was_taken_for_one_without_failures(in_pods: World) -> None:
    in_pods.repository.commit_settings("canary", max_seconds_per_step=0.5)
    _until_approved(in_pods)
    step = in_pods.step("canary")
    step.platform.__dict__["metrics"] = _InPods(step.platform.metrics, hidden=10**6)
    fact = run_canary(step)
    assert fact.body["verdict"] == "failed" and "two of tiny-production-v" in fact.body["reason"]
    assert "is ready and not scraped: what it counts is unknown" in fact.body["reason"]
    (pods,) = {tuple(told["scraped"]) for tick in _ticks(in_pods) for told in tick["pods"].values()}
    assert pods == ("one",) and _shares(in_pods) == {FIRST: 100}


def test_a_pod_that_nobody_scrapes_kept_every_objective(in_pods: World) -> None:
    doors = in_pods.doors()
    metrics = _InPods(doors.metrics, hidden=1)
    doors.__dict__["metrics"] = metrics
    name = next(one.name for one in in_pods.serving.running() if one.name.startswith(FIRST))
    hidden, seen = (judge_pods(pods_read(doors, [name])) for _ in range(2))
    assert hidden is not None and hidden.verdict is Verdict.ERROR and f"two of {name} is ready" in hidden.reason
    assert seen is not None and seen.verdict is Verdict.PASSED


def test_harm_that_is_seen_waited_for_a_pod_that_nobody_scrapes(in_pods: World) -> None:
    in_pods.gateway.behaviours[SECOND] = Behaviour(status=503)
    step = in_pods.step("canary")
    step.platform.__dict__["metrics"] = _InPods(step.platform.metrics, hidden=10**6)
    assert "failed" in run_canary(step).body["reason"] and _ticks(in_pods)[-1]["seconds"] < 30


def test_a_pod_that_is_scraped_late_held_the_canary_for_ever(in_pods: World) -> None:
    step = in_pods.step("canary")
    metrics = step.platform.__dict__["metrics"] = _InPods(step.platform.metrics, hidden=4)
    assert run_canary(step).body["verdict"] == "passed"
    assert "all 4 pods are scraped" in _ticks(in_pods)[-1]["reason"] and len(metrics.asked) == 1


def test_a_step_was_passed_on_counts_that_lacked_its_last_requests(
    in_pods: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate fails when all that is to be seen is that it answers well: the counts of that come later."""
    step = in_pods.step("canary")
    metrics = step.platform.__dict__["metrics"] = _InPods(step.platform.metrics)
    settle = metrics.settle

    def settled(pods: Collection[str]) -> None:
        in_pods.gateway.behaviours[SECOND] = Behaviour(status=503)
        while sum(status == 503 for outcomes in in_pods.gateway.outcomes.values() for status, _ in list(outcomes)) < 10:
            time.sleep(0.01)
        settle(pods)

    monkeypatch.setattr(metrics, "settle", settled)
    assert run_canary(step).body["verdict"] == "failed" and metrics.settled
    assert _shares(in_pods) == {FIRST: 100}


def test_counts_of_a_replica_that_lags_were_taken_for_a_restart(in_pods: World) -> None:
    """Of two Prometheus behind one address, one is a scrape behind: what shrank is not all new."""
    step = in_pods.step("canary")
    metrics = step.platform.__dict__["metrics"] = _InPods(step.platform.metrics)
    count, seen = metrics.counts, list[dict[str, TrafficCounts]]()

    def counts(since: float | None = None) -> dict[str, TrafficCounts]:
        seen.append(count(since))
        return seen[-3] if len(seen) % 3 == 0 else seen[-1]

    metrics.counts = counts  # type: ignore[method-assign]
    assert run_canary(step).body["verdict"] == "passed"
    asked = sum(len(outcomes) for name, outcomes in in_pods.gateway.outcomes.items() if name.startswith(SECOND))
    assert _ticks(in_pods)[-1]["requests"] <= asked
    assert any("older than those of the last tick" in tick["reason"] for tick in _ticks(in_pods))


def test_a_canary_that_died_before_its_first_tick_lost_what_was_asked_since(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_run, "advance", lambda *arguments: 1 / 0)
    monkeypatch.setattr(canary_run, "_give_up", lambda *_: None)
    candidate.gateway.behaviours[SECOND] = Behaviour(status=503)
    with pytest.raises(ZeroDivisionError):
        run_canary(candidate.step("canary"))
    monkeypatch.undo()
    lost = sum(len(outcomes) for name, outcomes in candidate.gateway.outcomes.items() if name.startswith(SECOND))
    run_canary(candidate.step("canary"))
    assert lost and _ticks(candidate)[0]["requests"] >= lost


def test_a_canary_gave_traffic_back_to_what_a_person_rolled_back(candidate: World) -> None:
    """Versions 1 and 2 are there, 3 is in its canary; the rollback to 2, which serves, must stand."""
    assert candidate.materialize("canary", "production").success
    candidate.repository.commit_model("training", seed=3)
    candidate.repository.commit_settings("canary", min_requests_per_step=10**6)
    assert candidate.materialize(*UNTIL_APPROVAL).success
    ended: list[object] = []

    def run() -> None:
        with pytest.raises(GateRefused) as refused:
            run_canary(candidate.step("canary"))
        ended.append(refused.value)

    thread = threading.Thread(target=run)
    thread.start()
    while len(_shares(candidate)) < 2:
        time.sleep(0.01)
    roll_back(candidate.doors(), "tiny", "users complain")
    thread.join(20)
    assert "rolled back meanwhile (users complain)" in str(ended[0])
    assert _shares(candidate) == {SECOND: 100}


def test_the_first_version_of_a_model_waited_for_a_baseline(released: World) -> None:
    ticks = _ticks(released)
    assert ticks[-1]["action"] == "promote" and len(ticks[-1]["arms"]) == 1


def test_a_first_version_that_fails_kept_its_route(begun: World) -> None:
    begun.gateway.behaviours["tiny-production"] = Behaviour(status=500)
    assert not begun.materialize().success
    assert begun.gateway.current().route("tiny", "production") is None
    assert [one.name for one in begun.serving.running() if "-production-" in one.name] == []


def test_a_gateway_that_restarts_made_the_counts_go_backwards(candidate: World) -> None:
    candidate.repository.commit_settings("canary", min_requests_per_step=60)
    _until_approved(candidate)
    restart = threading.Timer(0.3, candidate.gateway.outcomes.clear)
    restart.start()
    fact = run_canary(candidate.step("canary"))
    restart.join()
    assert fact.body["verdict"] == "passed", fact.body["reason"]


def test_a_canary_ran_without_approval(candidate: World) -> None:
    candidate.repository.commit_model("serving", timeout_seconds=9)
    with pytest.raises(GateRefused, match="no current staging_deployment"):
        run_canary(candidate.step("canary"))
    assert _shares(candidate) == {FIRST: 100}


def test_a_commit_that_changes_nothing_took_production_down(released: World) -> None:
    """Its approval is bound to another revision, so the canary runs again, with what serves as its candidate."""
    released.repository.commit({"README.md": "Hello."})
    assert released.materialize().success
    assert _shares(released) == {FIRST: 100}
    assert [one.name.rpartition("-")[0] for one in released.serving.running()] == [FIRST, "tiny-staging-v1"]


def _lost(world: World, *, forgotten: bool) -> str:
    """The server of what serves is dead, or nothing of it is left here. Returns its name."""
    name = next(one.name for one in world.serving.running() if one.name.startswith(FIRST))
    world.serving.broken.add(name)
    if forgotten:
        world.serving.retire(name)
    return name


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_failed_canary_took_the_route_of_a_version_whose_server_is_lost(candidate: World, forgotten: bool) -> None:
    lost = _lost(candidate, forgotten=forgotten)
    candidate.gateway.behaviours[SECOND] = candidate.gateway.behaviours[FIRST] = Behaviour(status=503)
    fact = run_canary(candidate.step("canary"))
    assert fact.body["verdict"] == "failed" and _shares(candidate) == {FIRST: 100}
    told = f"{lost}, which has all traffic again, does not answer either"
    assert told in fact.body["reason"] and "hold for a person" in fact.body["reason"]
    assert candidate.step("canary").report(fact)["reason"] == fact.body["reason"]
    (status,) = overview(candidate.doors())
    assert (status.environments["production"].state, status.environments["staging"].state) == (SILENT, "serving")
    assert status.environments["production"].trouble and "hold for a person" in status.blocked[0].reason


def test_a_candidate_got_all_traffic_because_what_serves_is_lost(candidate: World) -> None:
    _lost(candidate, forgotten=True)
    candidate.gateway.behaviours[FIRST] = Behaviour(status=503)
    assert run_canary(candidate.step("canary")).body["verdict"] == "passed"
    routes = [table.route("tiny", "production") for table in candidate.gateway.applied]
    shares = [share for route in routes if route for share in route.shares if share.deployment.name.startswith(SECOND)]
    assert {share.weight_percent for share in shares} == {50}


def test_a_canary_began_though_nothing_is_left_to_go_back_to(candidate: World) -> None:
    _lost(candidate, forgotten=True)
    candidate.gateway.revise(lambda table: table.without_route("tiny", "production"))
    with pytest.raises(GateRefused, match=r"neither a server nor a route: hold for a person: .*--revision"):
        run_canary(candidate.step("canary"))
    assert _shares(candidate) == {}


def test_a_lost_server_was_not_brought_back_by_the_release_of_what_should_serve(released: World) -> None:
    _lost(released, forgotten=True)
    (status,) = overview(released.doors())
    assert status.environments["production"].state == SILENT
    released.serving.broken.clear()
    assert released.materialize("production").success
    (status,) = overview(released.doors())
    assert status.environments["production"].state == "serving"


def _until_approved(world: World) -> None:
    """The settings of the canary belong to what is approved."""
    assert world.materialize("staging_deployment", "staging_tests", "approval").success
