"""What people are told must be what happened last."""

from llmops_core.status import fold
from tests.core.releases import History

SERVING = {
    "version": "1",
    "revision": "1" * 40,
    "weights_digest": "w" * 64,
    "state": "serving",
    "deployment": "atlas-qa-v1",
}


def test_a_refusal_outlived_the_revision_it_was_about() -> None:
    history = History()
    history.add("pinned", "run", revision="a")
    history.add("refused", "evaluation", revision="a", reason="0.1 is below 0.95")
    assert [b.reason for b in fold("atlas-qa", history.facts).blocked] == ["0.1 is below 0.95"]
    history.add("pinned", "run", revision="b")
    assert fold("atlas-qa", history.facts).blocked == ()


def test_a_late_refusal_of_an_older_revision_was_shown_for_the_newest() -> None:
    history = History()
    history.add("pinned", "run", revision="a")
    history.add("pinned", "run", revision="b")
    history.add("refused", "evaluation", revision="a", reason="old")
    assert fold("atlas-qa", history.facts).blocked == ()


def test_a_failed_verdict_was_not_shown_as_the_reason() -> None:
    history = History()
    history.add("pinned", "run", revision="a")
    history.add("produced", "evaluation", verdict="failed", reason="0.1 is below 0.95", revision="a")
    assert [(b.stage, b.reason) for b in fold("atlas-qa", history.facts).blocked] == [
        ("evaluation", "0.1 is below 0.95")
    ]
    history.add("produced", "evaluation", verdict="passed", revision="a")
    assert fold("atlas-qa", history.facts).blocked == ()


def test_another_model_s_facts_were_mixed_in() -> None:
    history = History()
    history.add("switched", "production", **SERVING)
    assert fold("other", history.facts).environments == {}


def test_the_newest_switch_did_not_win() -> None:
    history = History()
    history.add("switched", "production", **SERVING)
    history.add("switched", "production", **{**SERVING, "version": "2", "deployment": "atlas-qa-v2"})
    status = fold("atlas-qa", history.facts)
    assert status.environments["production"].version == "2"
    assert status.as_dict()["environments"]["production"]["version"] == "2"
    history.add("switched", "production", deployment=None)
    assert fold("atlas-qa", history.facts).environments == {}


def test_a_removed_model_that_serves_was_said_to_be_ended() -> None:
    history = History()
    history.add("pinned", "run", revision="a")
    history.add("refused", "evaluation", revision="a", reason="0.1 is below 0.95")
    history.add("switched", "production", **SERVING)
    history.add("retired", "folder", generation=2, author="ada@example.com", reason="Remove it")
    status = fold("atlas-qa", history.facts)
    assert status.retired and status.retired.state == "folder" and status.blocked == ()
    assert status.told_of_retirement.endswith("production keeps serving until `llmops retire atlas-qa`")
    history.add("retired", "production", generation=3, by="ada", reason="too dear")
    assert "`llmops retire atlas-qa` ends what still serves" in fold("atlas-qa", history.facts).told_of_retirement
    history.add("switched", "production", deployment=None)
    told = fold("atlas-qa", history.facts).told_of_retirement
    assert told.startswith("atlas-qa was ended by ada on ") and told.endswith(": too dear")


def test_a_model_that_was_asked_for_again_stayed_retired() -> None:
    history = History()
    history.add("retired", "production", generation=1, by="ada", reason="too dear")
    history.add("requested", "run", generation=2)
    status = fold("atlas-qa", history.facts)
    assert status.retired is None and status.told_of_retirement == ""


def test_a_commit_that_was_refused_hid_the_release_that_waits_or_outlived_the_next_request() -> None:
    history = History()
    history.add("pinned", "run", revision="a", run_id="1")
    history.add("refused", "approval", revision="a", reason="waiting for technical", run_id="1")
    history.add("refused", "model.yaml", revision="b", reason="steps: many", by="repository")
    status = fold("atlas-qa", history.facts)
    assert status.latest_revision == "a"
    assert [(b.stage, b.commit) for b in status.blocked] == [("model.yaml", "b"), ("approval", "")]
    history.add("requested", "run", generation=2)
    assert [b.stage for b in fold("atlas-qa", history.facts).blocked] == ["approval"]


def test_a_rollback_that_died_half_way_was_told_by_nobody() -> None:
    history = History()
    history.add("switched", "production", **{**SERVING, "deployment": "atlas-qa-v2"})
    told = {"deployment": "atlas-qa-v1", "rolled_back": "atlas-qa-v2", "reason": "too terse"}
    history.add("intended", "rollback", **told)
    history.add("pinned", "run", revision="c")
    (blocked,) = fold("atlas-qa", history.facts).blocked
    assert blocked.stage == "rollback" and blocked.reason.endswith("`llmops rollback atlas-qa` goes on with it")
    history.add("switched", "production", **SERVING)
    assert fold("atlas-qa", history.facts).blocked == ()
    history.add("intended", "rollback", **told)  # from a candidate: the sensor of canaries finishes that
    assert fold("atlas-qa", history.facts).blocked == ()
