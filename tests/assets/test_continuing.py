"""Releases that a gate held up go on when what they wait for has come, whatever else happened to their model meanwhile,
and none of them undoes a newer one."""

import pytest
from dagster import RunRequest, SensorResult, SkipReason, build_sensor_context

from llmops_assets.cli.approve import revision_to_sign
from llmops_assets.operations.changes import request
from llmops_assets.operations.continuing import cursor_at, seen_in
from llmops_assets.operations.overview import overview
from llmops_assets.sensors.approvals import approvals
from llmops_assets.sensors.dependents import dependents
from llmops_assets.tags import GENERATION_TAG, REVISION_TAG
from llmops_core.errors import TransientError
from tests.fakes.people import GRACE, signed
from tests.fakes.platform_doors import World
from tests.fakes.ticking import Ticking

SERVES = {
    **{"deployment": "first-production-v1", "state": "serving", "revision": "x", "version": "1", "previous": None},
    **{"weights_digest": "0" * 64, "why": "promoted"},
}


def _approvals(world: World) -> list[RunRequest]:
    with build_sensor_context(instance=world.instance, cursor="") as context:
        result = approvals(context, platform=world.resource())
    assert isinstance(result, SensorResult)
    return list(result.run_requests or [])


def _dependents(world: World, cursor: str = "") -> SensorResult:
    with build_sensor_context(instance=world.instance, cursor=cursor) as context:
        result = dependents(context, platform=world.resource())
    assert isinstance(result, SensorResult | SkipReason)
    return result if isinstance(result, SensorResult) else SensorResult(cursor=cursor)


def test_an_invalid_commit_and_its_revert_left_the_release_before_them_waiting_for_ever(tested: World) -> None:
    ticking = Ticking(tested)
    (asked,) = ticking.tick()
    waits = tested.repository.head
    assert not tested.materialize("approval", tags=dict(asked.tags)).success
    tested.repository.commit_model("training", steps="many")
    assert ticking.tick() == []
    (status,) = overview(tested.doors())
    assert [blocked.stage for blocked in status.blocked] == ["model.yaml", "approval"]
    tested.repository.git("revert", "--no-edit", "HEAD")
    assert ticking.tick() == [] and "nothing it depends on changed" in ticking.said
    (status,) = overview(tested.doors())
    assert [blocked.stage for blocked in status.blocked] == ["approval"]
    signed(tested, GRACE, revision=waits)
    (continued,) = _approvals(tested)
    assert continued.tags[REVISION_TAG] == waits


def test_a_commit_on_top_made_people_sign_what_does_not_wait(tested: World) -> None:
    waits = tested.repository.head
    assert revision_to_sign(tested.doors(), "tiny") == waits  # nothing waits: what is checked out
    assert not tested.materialize("approval").success
    tested.repository.commit({"README.md": "Hello."})
    assert revision_to_sign(tested.doors(), "tiny") == waits


def test_a_release_at_a_later_commit_lost_its_number_when_it_went_on(tested: World) -> None:
    """It answers the request of an earlier commit, which depends on the same."""
    (asked,) = Ticking(tested).tick()
    tested.repository.commit({"README.md": "Hello."})
    tags = {**asked.tags, REVISION_TAG: tested.repository.head}
    assert not tested.materialize("approval", tags=tags).success
    signed(tested, GRACE)
    (continued,) = _approvals(tested)
    assert continued.tags[REVISION_TAG] == tested.repository.head
    assert continued.tags[GENERATION_TAG] == asked.tags[GENERATION_TAG]


def test_an_older_run_undid_a_release_that_a_later_commit_brought_back(candidate: World) -> None:
    ticking = Ticking(candidate)
    (older,) = ticking.tick()
    candidate.repository.commit_model("training", seed=1, message="as it serves already")
    (newer,) = ticking.tick()
    candidate.repository.commit({"README.md": "Hello."})
    head = candidate.repository.head
    assert request(candidate.release(head), "llmops").body["generation"] == int(newer.tags[GENERATION_TAG])
    assert candidate.materialize(tags={**newer.tags, REVISION_TAG: head}).success
    assert not candidate.materialize(tags=dict(older.tags)).success
    assert "was asked for later, is in production" in candidate.reasons("order")[0]


def test_a_refused_file_hid_that_a_model_waits_for_another(released: World) -> None:
    released.repository.commit_model(depends_on=["first"])
    assert not released.materialize().success
    ledger = released.doors().ledger
    ledger.append("refused", model="tiny", subject="arrivals", body={"reason": "a bad file", "into": "x", "files": []})
    ledger.append("switched", model="first", subject="production", body=SERVES)
    (continued,) = _dependents(released).run_requests or []
    assert continued.tags[REVISION_TAG] == released.repository.head


def test_what_could_not_be_told_once_was_never_asked_again(released: World, monkeypatch: pytest.MonkeyPatch) -> None:
    released.repository.commit_model(depends_on=["first"])
    assert not released.materialize().success
    released.doors().ledger.append("switched", model="first", subject="production", body=SERVES)

    def busy(*_: object) -> None:
        raise TransientError("the ledger cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr("llmops_assets.sensors.dependents.spec_at", busy)
        first = _dependents(released)
    assert first.run_requests == [] and first.cursor == ""
    assert len(_dependents(released, str(first.cursor)).run_requests or []) == 1


def test_signatures_in_a_ledger_that_was_restored_from_a_backup_were_not_seen(begun: World) -> None:
    ledger = begun.doors().ledger
    kept = ledger.append("refused", model="tiny", subject="run", body={"reason": "x", "revision": ""})
    assert seen_in(ledger, cursor_at(kept)) == kept.sequence
    lost = kept.model_copy(update={"digest": "f" * 64})  # the fact of this number in the ledger that is gone
    assert seen_in(ledger, cursor_at(lost)) == 0
    assert seen_in(ledger, cursor_at(kept.model_copy(update={"sequence": 9}))) == 0
    assert [seen_in(ledger, text) for text in ("", None, "7", "x:y", "²:z", f"{kept.sequence}:")] == [0] * 6
