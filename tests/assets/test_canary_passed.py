"""A canary that passed and is not promoted: its candidate kept its last share, judged by nobody."""

from types import SimpleNamespace

import pytest

from llmops_assets.assets import production
from llmops_assets.deploying import deployment_named, route, serving_now
from llmops_assets.operations.open_canaries import open_canaries
from llmops_assets.operations.overview import overview
from llmops_assets.sensors.canaries import canaries
from llmops_assets.step import Step
from llmops_assets.tags import REVISION_TAG
from llmops_core.errors import IntegrityError, TransientError
from llmops_core.facts import Fact
from resources.ledger.ledger import SqlLedger
from tests.fakes.platform_doors import World
from tests.fakes.ticking import Ticking

FIRST, SECOND = "tiny-production-v1", "tiny-production-v2"


def _released(world: World, *stages: str) -> bool:
    return world.materialize(*stages, tags={REVISION_TAG: world.repository.head}).success


def test_a_refused_promotion_left_the_candidate_its_share(candidate: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        forged = IntegrityError("its version in the registry is not what was registered")
        patch.setattr(candidate.registry, "verify", lambda *_: (_ for _ in ()).throw(forged))
        assert not _released(candidate, "canary", "production")
    assert candidate.shares() == {FIRST: 50, SECOND: 50}
    assert overview(candidate.doors())[0].canary.endswith("passed and not promoted yet")
    assert Ticking(candidate, sensor=canaries).tick() == [] and candidate.shares() == {FIRST: 100}
    (status,) = overview(candidate.doors())
    assert status.canary == "" and str(forged) in candidate.reasons("canary")[-1]
    assert not _released(candidate, "production")  # all traffic at once, on the proof of a share that it lost
    assert "there is no current canary" in candidate.reasons("production")[-1]
    assert _released(candidate, "canary", "production") and candidate.shares() == {SECOND: 100}


def test_a_run_that_died_in_its_promotion_was_finished_by_nobody(
    candidate: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(production, "record_switch", lambda *_: (_ for _ in ()).throw(MemoryError("killed")))
        assert not _released(candidate, "canary", "production")
    assert candidate.shares() == {SECOND: 100}
    assert overview(candidate.doors())[0].canary.startswith(f"{SECOND}")
    ticking = Ticking(candidate, sensor=canaries)
    assert ticking.tick() == []
    clock.ahead = 70
    (request,) = ticking.tick()
    assert candidate.materialize("canary", "production", tags=dict(request.tags)).success
    (status,) = overview(candidate.doors())
    assert status.canary == "" and status.environments["production"].version == "2"
    begun = [f for f in candidate.doors().ledger.facts("tiny") if f.kind == "intended" and f.subject == "canary"]
    assert len({fact.body["candidate"] for fact in begun}) == 2  # the first version's and this one's: no new canary


def test_what_a_person_did_not_promote_was_promoted_or_kept_its_share_for_ever(
    candidate: World, clock: SimpleNamespace
) -> None:
    assert _released(candidate, "canary")
    ticking = Ticking(candidate, sensor=canaries)
    clock.ahead = 590
    assert ticking.tick() == [] and candidate.shares() == {FIRST: 50, SECOND: 50}
    clock.ahead = 610
    assert ticking.tick() == [] and candidate.shares() == {FIRST: 100}
    assert candidate.reasons("canary")[-1].endswith("it passed, and was not promoted within 10 minutes")


def test_traffic_that_was_given_back_meanwhile_was_taken_all_the_same(
    candidate: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _released(candidate, "canary")
    real = production.deploy

    def slow(*arguments: object) -> object:
        clock.ahead = 610
        assert Ticking(candidate, sensor=canaries).tick() == [] and candidate.shares() == {FIRST: 100}
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(production, "deploy", slow)
    assert not _released(candidate, "production") and candidate.shares() == {FIRST: 100}
    assert "there is no current canary" in candidate.reasons("production")[-1]


def test_a_share_that_was_given_back_without_a_word_counted_as_proof(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger was away, so that nobody could write that the traffic went back."""
    assert _released(candidate, "canary")
    doors = candidate.doors()
    now = serving_now(doors, "tiny", "production")
    assert now is not None
    baseline = deployment_named(doors, now.body["deployment"])
    assert baseline is not None
    route(doors, "production", [(baseline, 100)])
    assert not _released(candidate, "production") and candidate.shares() == {FIRST: 100}
    assert "has lost the share that its canary proved" in candidate.reasons("production")[-1]


def test_the_server_of_what_is_not_promoted_any_more_kept_its_gpus(
    candidate: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _released(candidate, "canary")
    clock.ahead = 610
    real = production.deploy

    def late(*arguments: object) -> object:
        assert Ticking(candidate, sensor=canaries).tick() == []
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(production, "deploy", late)
    assert not _released(candidate, "production")
    assert not any(one.name.startswith(SECOND) for one in candidate.serving.running())


def test_a_promotion_that_hashes_large_weights_had_ten_minutes(
    candidate: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model of 70 B parameters no version would have come to production."""
    monkeypatch.setattr(Step, "bytes_of", lambda *_: 140 * 10**9)
    assert _released(candidate, "canary")
    ticking = Ticking(candidate, sensor=canaries)
    clock.ahead = 3300
    assert ticking.tick() == [] and candidate.shares() == {FIRST: 50, SECOND: 50}
    clock.ahead = 3500
    assert ticking.tick() == [] and candidate.shares() == {FIRST: 100}
    assert candidate.reasons("canary")[-1].endswith("it passed, and was not promoted within 57 minutes")


def test_a_canary_whose_way_back_is_decided_was_gone_on_with_and_could_never_be_promoted(
    candidate: World, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway was away when the sensor decided it; then the run's turn came."""
    assert _released(candidate, "canary")
    clock.ahead = 610
    with monkeypatch.context() as patch:
        away = TransientError("the gateway does not answer")
        patch.setattr(candidate.gateway, "revise", lambda _: (_ for _ in ()).throw(away))
        ticking = Ticking(candidate, sensor=canaries)
        assert ticking.tick() == [] and "could not be given back" in ticking.said
        ticking.tick()
    decided = [fact for fact in candidate.doors().ledger.facts("tiny") if fact.subject == "way_back"]
    assert len(decided) == 1 and candidate.shares() == {FIRST: 50, SECOND: 50}
    assert not _released(candidate, "production")
    assert _released(candidate, "canary", "production") and candidate.shares() == {SECOND: 100}
    assert overview(candidate.doors())[0].canary == ""


def test_every_tick_read_all_that_ever_happened_to_every_model(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _released(candidate, "canary")
    facts, read = SqlLedger.facts, []

    def counted(self: SqlLedger, model: str | None = None, after: int = 0, before: int | None = None) -> list[Fact]:
        found = facts(self, model, after, before)
        read.append(len(found))
        return found

    monkeypatch.setattr(SqlLedger, "facts", counted)
    begun = candidate.doors().ledger.newest("tiny", "intended")
    last = candidate.doors().ledger.last()
    assert begun is not None and last is not None
    (open_one,) = open_canaries(candidate.doors())
    assert open_one[0].has_passed and read == [last.sequence - begun.sequence + 1]
    assert _released(candidate, "production")
    read.clear()
    assert open_canaries(candidate.doors()) == [] and read == []
