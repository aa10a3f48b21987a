"""Back to the version before: at once, to exactly that version, or a clear no."""

import sqlite3
from pathlib import Path

import pytest

from llmops_assets.assets import production
from llmops_assets.deploying import retire_unrouted
from llmops_assets.operations import rollback
from llmops_assets.operations.audit import audit
from llmops_assets.operations.overview import overview
from llmops_assets.operations.rollback import roll_back
from llmops_assets.operations.summary import summarise
from llmops_core.errors import GateRefused, IntegrityError, TransientError
from llmops_core.lineage import verdict_of
from llmops_core.promotion import serves
from tests.fakes.http_gateway import Behaviour
from tests.fakes.platform_doors import UNTIL_APPROVAL, World


@pytest.fixture
def twice(candidate: World) -> World:
    """Version 2 has taken over from version 1."""
    assert candidate.materialize("canary", "production").success
    return candidate


def _serving(world: World) -> list[str]:
    route = world.gateway.current().route("tiny", "production")
    return [share.deployment.version for share in route.shares] if route else []


def test_production_did_not_go_back(twice: World) -> None:
    before = twice.release(twice.repository.git("rev-parse", "HEAD~1"))
    done = roll_back(twice.doors(), "tiny", "too terse")
    assert (done.left_version, done.version, done.revision) == ("2", "1", before.revision)
    assert _serving(twice) == ["1"] and twice.registry.alias("tiny", "production") == 1
    assert serves(before.platform.ledger.facts("tiny"), before.fingerprints)
    assert verdict_of(audit(twice.doors(), "tiny")) == "verified"


def test_a_rollback_cut_off_the_ledger_s_end_was_not_missed(twice: World) -> None:
    roll_back(twice.doors(), "tiny", "too terse")
    with sqlite3.connect(twice.home.root / "ledger.db") as database:
        database.execute("DELETE FROM facts WHERE sequence = (SELECT MAX(sequence) FROM facts)")
    route = next(link for link in audit(twice.doors(), "tiny") if link.name == "route")
    assert route.verdict == "broken" and "-v1-" in route.detail and "recorded is tiny-production-v2" in route.detail


def test_the_status_did_not_say_why_the_newest_commit_does_not_serve(twice: World) -> None:
    roll_back(twice.doors(), "tiny", "too terse")
    (status,) = overview(twice.doors())
    assert status.blocked[0].stage == "production" and status.blocked[0].reason.endswith("too terse")


def test_what_was_rolled_back_came_again_without_a_new_proof(twice: World) -> None:
    roll_back(twice.doors(), "tiny", "too terse")
    assert twice.release().evidence().keys().isdisjoint({"canary", "production"})
    assert not twice.materialize("production").success
    assert _serving(twice) == ["1"]


def test_a_second_rollback_went_forward_again(twice: World) -> None:
    roll_back(twice.doors(), "tiny", "too terse")
    with pytest.raises(GateRefused, match="no version of tiny served before"):
        roll_back(twice.doors(), "tiny", "again")
    assert _serving(twice) == ["1"]


def test_the_summary_after_a_rollback_told_of_the_version_that_was_left(twice: World) -> None:
    first = summarise(twice.doors(), "tiny", True, [])
    roll_back(twice.doors(), "tiny", "too terse")
    told = summarise(twice.doors(), "tiny", True, [])
    version = twice.doors().ledger.facts("tiny")
    facts = [f.body["facts"] for f in version if f.subject == "registered_version" and f.kind == "produced"]
    assert told.version == "1" and told.weights_digest == facts[0]["weights_digest"] != first.weights_digest
    chain = [f.body["reason"] for f in version if f.subject == "canary" and f.kind == "produced"]
    assert told.canary == f"passed: {chain[0]}" and told.audit == "not audited"


def test_a_model_that_does_not_serve_was_rolled_back(begun: World) -> None:
    with pytest.raises(GateRefused, match="does not serve in production"):
        roll_back(begun.doors(), "tiny", "why not")


def test_a_first_version_was_rolled_back_into_nothing(released: World) -> None:
    with pytest.raises(GateRefused, match="no version of tiny served before"):
        roll_back(released.doors(), "tiny", "why not")
    assert _serving(released) == ["1"]


def test_a_version_whose_server_is_gone_got_the_traffic(twice: World) -> None:
    twice.serving.retire(next(one.name for one in twice.serving.running() if "-production-v1" in one.name))
    with pytest.raises(GateRefused, match="is not running any more; release its revision again"):
        roll_back(twice.doors(), "tiny", "too terse")
    assert _serving(twice) == ["2"]


def test_a_version_that_was_tampered_with_got_the_traffic(twice: World) -> None:
    first = next(one for one in twice.serving.running() if "-production-v1" in one.name)
    path: Path = twice.serving.plans[first.name].model_file
    path.chmod(0o600)
    path.write_bytes(b"other")
    with pytest.raises(IntegrityError, match="cannot be trusted"):
        roll_back(twice.doors(), "tiny", "too terse")
    assert _serving(twice) == ["2"]


def test_a_rollback_was_said_to_be_done_though_another_version_answers(twice: World) -> None:
    twice.gateway.behaviours["tiny-production-v1"] = Behaviour(version="2")
    with pytest.raises(IntegrityError, match="answers with version 2 after the rollback"):
        roll_back(twice.doors(), "tiny", "too terse")


def test_a_rollback_that_died_before_its_fact_brought_back_what_it_left(
    twice: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its route had changed; the same command again took the version before for a candidate."""
    with monkeypatch.context() as patch:
        silent = TransientError("the gateway does not answer")
        patch.setattr(rollback, "_answering", lambda *_: (_ for _ in ()).throw(silent))
        with pytest.raises(TransientError):
            roll_back(twice.doors(), "tiny", "too terse")
    assert _serving(twice) == ["1"]
    assert not twice.materialize("production").success  # nor does a run that goes on bring it back
    done = roll_back(twice.doors(), "tiny", "too terse")
    assert (done.left_version, done.version) == ("2", "1") and _serving(twice) == ["1"]


def test_the_next_canary_undid_a_rollback_that_broke_off(twice: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rollback, "_answering", lambda *_: (_ for _ in ()).throw(TransientError("no answer")))
        with pytest.raises(TransientError):
            roll_back(twice.doors(), "tiny", "too terse")
    twice.repository.commit_model("training", seed=3)
    assert twice.materialize(*UNTIL_APPROVAL).success
    assert not twice.materialize("canary").success and _serving(twice) == ["1"]
    assert "`llmops rollback tiny` goes on with it" in twice.reasons("canary")[-1]
    assert roll_back(twice.doors(), "tiny", "too terse").version == "1"
    assert twice.materialize("canary", "production").success and _serving(twice) == ["3"]


def test_a_promotion_ended_the_server_that_a_rollback_had_given_the_traffic(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollback waits for nobody, and came between the switch and the end of older servers."""
    real = production.record_switch

    def then_back(*arguments: object) -> object:
        switched = real(*arguments)  # type: ignore[arg-type]
        if arguments[2] == "production":
            roll_back(candidate.doors(), "tiny", "too terse")
        return switched

    assert candidate.materialize("canary").success
    monkeypatch.setattr(production, "record_switch", then_back)
    candidate.materialize("production")
    assert _serving(candidate) == ["1"]
    assert any(one.version == "1" and "-production-" in one.name for one in candidate.serving.running())


def test_a_canary_that_was_given_up_ended_the_server_that_a_rollback_goes_back_to(twice: World) -> None:
    """A commit that goes back to version 1 has a canary of the server that is kept warm."""
    first = next(one.name for one in twice.serving.running() if "-production-v1" in one.name)
    retire_unrouted(twice.doors(), "tiny", first)
    assert roll_back(twice.doors(), "tiny", "too terse").version == "1" and _serving(twice) == ["1"]
