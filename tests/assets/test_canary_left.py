"""A canary whose doors or whose run go away in the middle: its candidate kept a share that nobody judged."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import DagsterExecutionInterruptedError, DagsterRunStatus

from llmops_assets import canary_run
from llmops_assets.canary_run import run_canary
from llmops_assets.operations.overview import overview
from llmops_assets.operations.rollback import roll_back
from llmops_assets.sensors.canaries import canaries
from llmops_assets.tags import REVISION_TAG
from llmops_core.errors import EnvironmentLacks, GateRefused, TransientError
from llmops_core.open_canary import OpenCanary, open_canary
from resources.ledger.ledger import SqlLedger
from tests.fakes.http_gateway import Behaviour
from tests.fakes.platform_doors import World
from tests.fakes.ticking import Ticking
from tests.fakes.traffic import FakeMetrics

FIRST, SECOND = "tiny-production-v1", "tiny-production-v2"
FOR_EVER = 10**9


def _open(world: World) -> OpenCanary | None:
    return open_canary(world.doors().ledger.facts("tiny"))


def _failing(real: Callable[..., Any], error: BaseException, first: int, last: int = FOR_EVER) -> Callable[..., Any]:
    """Raises the error in these calls; the first call is 1."""
    calls = itertools.count(1)

    def call(*arguments: Any, **named: Any) -> Any:
        if first <= next(calls) <= last:
            raise error
        return real(*arguments, **named)

    return call


def _soon_over(world: World) -> None:
    world.repository.commit_settings("canary", max_seconds_per_step=0.3, min_requests_per_step=10**6)
    assert world.materialize("staging_deployment", "staging_tests", "approval").success


AWAY = TransientError("the API server does not answer")


def test_a_gateway_that_was_away_for_some_ticks_ended_the_canary(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate.gateway, "revise", _failing(candidate.gateway.revise, AWAY, 1, 3))
    fact = run_canary(candidate.step("canary"))
    assert fact.body["verdict"] == "passed", fact.body["reason"]
    ticks = [f.body for f in candidate.doors().ledger.facts("tiny") if f.kind == "ticked"]
    assert any("its share of the traffic could not be set: the API server" in tick["reason"] for tick in ticks)


def test_a_gateway_that_stays_away_left_the_candidate_its_share(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share is given back by the sensor, as soon as the gateway can be told."""
    _soon_over(candidate)
    with monkeypatch.context() as patch:
        patch.setattr(candidate.gateway, "revise", _failing(candidate.gateway.revise, AWAY, 2))
        assert not candidate.materialize("canary").success
        assert candidate.shares() == {FIRST: 50, SECOND: 50}
        assert candidate.reasons("canary")[-1].endswith("canary left at 50 %: the API server does not answer")
        assert overview(candidate.doors())[0].canary.startswith(SECOND)
        ticking = Ticking(candidate, sensor=canaries)
        assert ticking.tick() == [] and "could not be given back" in ticking.said
    assert ticking.tick() == [] and candidate.shares() == {FIRST: 100}
    (status,) = overview(candidate.doors())
    assert status.canary == "" and "all traffic went back to tiny-production-v1" in status.blocked[0].reason
    assert not any(one.name.startswith(SECOND) for one in candidate.serving.running())


def test_metrics_that_refuse_us_left_the_candidate_its_share(candidate: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = EnvironmentLacks("Prometheus answers 401")
    monkeypatch.setattr(FakeMetrics, "counts", _failing(FakeMetrics.counts, lacks, 3))
    assert not candidate.materialize("canary").success
    assert candidate.shares() == {FIRST: 100} and _open(candidate) is None
    assert candidate.reasons("canary")[-1] == "Prometheus answers 401; the traffic was given back"


def test_a_ledger_that_takes_no_tick_left_the_candidate_its_share(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _soon_over(candidate)
    append = SqlLedger.append

    def full(self: SqlLedger, kind: Any, **named: Any) -> Any:
        if kind == "ticked":
            raise TransientError("the ledger took no fact")
        return append(self, kind, **named)

    monkeypatch.setattr(SqlLedger, "append", full)
    fact = run_canary(candidate.step("canary"))
    assert fact.body["verdict"] == "failed" and "not enough evidence" in fact.body["reason"]
    assert candidate.shares() == {FIRST: 100}


def test_a_ledger_that_is_away_kept_harm_from_being_ended(candidate: World, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate.gateway.behaviours[SECOND] = Behaviour(status=503)
    step = candidate.step("canary")
    away = TransientError("the ledger cannot be reached")
    with monkeypatch.context() as patch:
        patch.setattr(canary_run, "advance", _then(canary_run.advance, lambda: _cut_off(patch, away)))
        with pytest.raises(TransientError):
            run_canary(step)
    assert candidate.shares() == {FIRST: 100} and _open(candidate) is not None  # nobody could write that it ended


def _then(real: Callable[..., Any], do: Callable[[], None]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        do()
        return real(*arguments)

    return call


def _cut_off(patch: pytest.MonkeyPatch, error: TransientError) -> None:
    for name in ("append", "facts", "newest"):
        patch.setattr(SqlLedger, name, _failing(getattr(SqlLedger, name), error, 1))


@pytest.mark.parametrize("error", [DagsterExecutionInterruptedError(), ZeroDivisionError("x")])
def test_a_cancelled_canary_left_the_candidate_its_share(
    candidate: World, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(canary_run, "advance", _failing(canary_run.advance, error, 2))
    with pytest.raises(type(error)):
        run_canary(candidate.step("canary"))
    assert candidate.shares() == {FIRST: 100} and _open(candidate) is None
    assert candidate.reasons("canary")[-1].endswith("the traffic was given back")


class _Killed(Exception):
    """kill -9: nothing more is done by that process."""


@pytest.fixture
def killed(candidate: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 2 has half of production, and its run died at the third tick."""
    with monkeypatch.context() as patch:
        patch.setattr(canary_run, "advance", _failing(canary_run.advance, _Killed(), 3))
        patch.setattr(canary_run, "_give_up", lambda *_: None)
        assert not candidate.materialize("canary", tags={REVISION_TAG: candidate.repository.head}).success
    assert candidate.shares() == {FIRST: 50, SECOND: 50} and _open(candidate) is not None
    return candidate


def test_a_canary_whose_worker_was_killed_was_finished_by_nobody(killed: World, clock: SimpleNamespace) -> None:
    ticking = Ticking(killed, sensor=canaries)
    assert ticking.tick() == []  # a cluster starts the run anew itself
    clock.ahead = 70
    (request,) = ticking.tick()
    assert (request.partition_key, request.tags[REVISION_TAG]) == ("tiny", killed.repository.head)
    before = _open(killed)
    assert ticking.tick() == []  # its run waits in the queue
    assert killed.materialize("canary", "production", tags=dict(request.tags)).success
    assert killed.shares() == {SECOND: 100} and _open(killed) is None
    ticks = [fact.body for fact in killed.doors().ledger.facts("tiny") if fact.kind == "ticked"]
    assert before is not None and len(before.ticks) == 2 and len(ticks) > 2
    assert {tick["state"]["began_seconds"] for tick in ticks[-3:]} == {before.ticks[0]["state"]["began_seconds"]}


def test_runs_that_die_again_and_again_were_started_for_ever(killed: World, clock: SimpleNamespace) -> None:
    ticking = Ticking(killed, sensor=canaries)
    for pause in (60, 120, 240):
        clock.ahead = pause - 10
        assert ticking.tick() == []
        clock.ahead = pause + 10
        assert len(ticking.tick()) == 1
        (run,) = killed.instance.get_runs(limit=1)
        killed.instance.report_run_failed(run, message="its worker died")
    clock.ahead = 500
    assert ticking.tick() == [] and len(ticking.launched) == 3
    assert killed.shares() == {FIRST: 100} and _open(killed) is None
    assert "3 more runs died before they could end it" in killed.reasons("canary")[-1]
    assert ticking.tick() == [] and len(killed.reasons("canary")) == 1


def test_a_run_that_waits_in_the_queue_kept_the_share_for_as_long(killed: World, clock: SimpleNamespace) -> None:
    ticking = Ticking(killed, sensor=canaries)
    clock.ahead = 70
    assert len(ticking.tick()) == 1
    clock.ahead = 590
    assert ticking.tick() == [] and killed.shares() == {FIRST: 50, SECOND: 50}
    clock.ahead = 610
    assert ticking.tick() == [] and killed.shares() == {FIRST: 100}
    assert killed.reasons("canary")[-1].endswith("nobody judged it for 10 minutes")
    assert killed.materialize("canary", "production").success and killed.shares() == {
        SECOND: 100
    }  # when its turn comes


def test_a_release_that_a_gate_refuses_meanwhile_left_its_canary_open(killed: World) -> None:
    body = {"reason": "the approval was withdrawn", "revision": killed.repository.head, "run_id": "second"}
    killed.doors().ledger.append("refused", model="tiny", subject="approval", body=body)
    assert Ticking(killed, sensor=canaries).tick() == [] and killed.shares() == {FIRST: 100}
    assert "the approval was withdrawn" in killed.reasons("canary")[-1]


def test_a_canary_that_a_newer_release_supersedes_was_gone_on_with(killed: World) -> None:
    killed.repository.commit_model("training", seed=3)
    (newer,) = Ticking(killed).tick()
    ticking = Ticking(killed, sensor=canaries)
    assert ticking.tick() == [] and killed.shares() == {FIRST: 50, SECOND: 50}  # that run may drive the same canary
    (run,) = killed.instance.get_runs(limit=1)
    killed.instance.report_run_failed(run, message="it was refused")
    assert newer.tags[REVISION_TAG] == killed.repository.head
    assert ticking.tick() == [] and killed.shares() == {FIRST: 100}
    assert "a newer release was asked for" in killed.reasons("canary")[-1]


def test_a_release_that_a_person_cancelled_was_started_again(killed: World) -> None:
    (run,) = killed.instance.get_runs(limit=1)
    killed.instance.add_run_tags(run.run_id, {REVISION_TAG: killed.repository.head})
    killed.instance.report_run_canceled(run)
    (run,) = killed.instance.get_runs(limit=1)
    assert run.status is DagsterRunStatus.CANCELED
    assert Ticking(killed, sensor=canaries).tick() == [] and killed.shares() == {FIRST: 100}


def test_the_first_version_s_canary_left_its_route_when_nobody_drove_it(
    begun: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(canary_run, "advance", _failing(canary_run.advance, _Killed(), 3))
        patch.setattr(canary_run, "_give_up", lambda *_: None)
        assert not begun.materialize().success
    assert begun.shares() == {FIRST: 100}
    done = roll_back(begun.doors(), "tiny", "users complain")
    assert (done.left_version, done.version) == ("1", "") and begun.shares() == {}
    with pytest.raises(GateRefused, match="does not serve in production"):
        roll_back(begun.doors(), "tiny", "again")
    (status,) = overview(begun.doors())
    assert "was rolled back" in status.blocked[-1].reason and status.canary == ""


def test_a_rollback_in_a_canary_went_one_version_too_far_or_was_refused(killed: World, clock: SimpleNamespace) -> None:
    done = roll_back(killed.doors(), "tiny", "users complain")
    assert (done.left_version, done.version) == ("2", "1") and killed.shares() == {FIRST: 100}
    (status,) = overview(killed.doors())
    assert status.canary == "" and status.blocked[-1].reason.endswith("users complain")
    clock.ahead = 3600
    assert Ticking(killed, sensor=canaries).tick() == []  # a person ended it
    assert killed.materialize("canary", "production").success  # a release again has a canary of its own
    starts = [f for f in killed.doors().ledger.facts("tiny") if f.kind == "intended" and f.subject == "canary"]
    assert len({fact.body["candidate"] for fact in starts[-2:]}) == 1 and killed.shares() == {SECOND: 100}


def test_a_rollback_that_died_before_its_route_changed_left_the_candidate_its_share(
    killed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(killed.gateway, "revise", _failing(killed.gateway.revise, AWAY, 1))
        with pytest.raises(TransientError):
            roll_back(killed.doors(), "tiny", "users complain")
    assert Ticking(killed, sensor=canaries).tick() == [] and killed.shares() == {FIRST: 100}
    assert "a person rolled it back: users complain" in killed.reasons("canary")[-1]


def test_what_passed_its_canary_and_was_never_promoted_could_not_be_rolled_back(candidate: World) -> None:
    assert candidate.materialize("canary").success
    assert candidate.shares() == {FIRST: 50, SECOND: 50}
    done = roll_back(candidate.doors(), "tiny", "users complain")
    assert (done.left_version, done.version) == ("2", "1") and candidate.shares() == {FIRST: 100}
    assert not candidate.materialize("production").success  # its proof has ended with it


def test_a_canary_of_a_repository_that_is_watched_no_more_kept_its_share(killed: World, clock: SimpleNamespace) -> None:
    """No run can go on with it, since none could read its commit."""
    ledger, head = killed.doors().ledger, killed.repository.head
    asked = {"revision": head, "generation": 1, "repository": "team"}
    ledger.append("requested", model="tiny", subject="release", body={**asked, "author": "ann", "reason": "x"})
    ledger.append("pinned", model="tiny", subject="run", body={**asked, "run_id": "r"})
    clock.ahead = 70
    assert Ticking(killed, sensor=canaries).tick() == [] and killed.shares() == {FIRST: 100}
    assert killed.reasons("canary")[-1].endswith("the repository team is not watched any more")
