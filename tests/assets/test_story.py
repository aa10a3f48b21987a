"""The whole story in one process: every asset runs for real, on fakes of what trains and serves."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor

from dagster import DagsterInstance

from llmops_assets.picture import SHOWN_BELOW
from llmops_assets.tags import REVISION_TAG
from llmops_core.facts import first_broken
from llmops_core.plan import STAGES
from tests.fakes.git_with_data import DATA, rows
from tests.fakes.http_gateway import Behaviour
from tests.fakes.platform_doors import World


def test_a_commit_did_not_reach_production(released: World) -> None:
    release = released.release()
    assert tuple(release.evidence()) == STAGES
    route = released.gateway.current().route("tiny", "production")
    assert route is not None and [share.weight_percent for share in route.shares] == [100]
    assert released.registry.alias("tiny", "production") == 1
    assert first_broken(released.doors().ledger.facts()) is None


def test_a_second_run_of_the_same_commit_trained_again(released: World) -> None:
    assert released.materialize("dataset", "base_weights", "weights", "evaluation", "production").success
    assert released.jobs.ran == []


def test_another_training_parameter_trained_the_base_again(candidate: World) -> None:
    ran = candidate.doors().ledger.facts("tiny")
    made = [fact.subject for fact in ran if fact.kind == "produced"]
    assert (made.count("base_weights"), made.count("weights")) == (1, 2)


def test_the_second_version_did_not_take_over_or_the_first_was_not_kept_warm(candidate: World) -> None:
    assert candidate.materialize("canary", "production").success
    names = [one.name for one in candidate.serving.running() if "-production-" in one.name]
    assert [name.split("-")[2] for name in names] == ["v1", "v2"]
    assert candidate.registry.alias("tiny", "production") == 2


def test_an_evaluation_below_the_minimum_was_registered(begun: World) -> None:
    begun.jobs.right = 0.5
    assert not begun.materialize().success
    assert begun.registry.registered == {}
    assert begun.reasons("registered_version")[0].startswith("evaluation is failed: sums: 30 of 60 rows right")


def test_a_run_that_selects_registration_alone_got_round_the_failed_evaluation(begun: World) -> None:
    begun.jobs.right = 0.5
    begun.materialize()
    assert not begun.materialize("registered_version").success
    assert begun.registry.registered == {}


def test_a_serving_limit_decided_what_is_right_or_asked_every_question_anew(begun: World) -> None:
    evaluated = ("dataset", "base_weights", "weights", "evaluation")
    assert begun.materialize(*evaluated).success
    limit = begun.release().spec.serving.timeout_seconds
    assert begun.jobs.configs["evaluate"]["serving"]["timeout_seconds"] > limit
    ran = list(begun.jobs.ran)
    begun.repository.commit_model("serving", timeout_seconds=limit + 1, parallel=3)
    assert begun.materialize(*evaluated).success and begun.jobs.ran == ran
    begun.repository.commit_model("serving", context_tokens=100)
    assert begun.materialize(*evaluated).success and begun.jobs.ran == [*ran, "evaluate"]


def test_staging_passed_a_server_that_answers_otherwise_than_the_evaluated_model(begun: World) -> None:
    begun.gateway.behaviours["tiny-staging"] = Behaviour(answer="42 or so")
    assert not begun.materialize().success
    assert "0 of 50 answers are those of the evaluation" in begun.reasons("approval")[0]


def test_staging_passed_a_server_of_another_version(begun: World) -> None:
    begun.gateway.behaviours["tiny-staging"] = Behaviour(version="7")
    assert not begun.materialize().success
    assert "version 7" in begun.reasons("approval")[0]


def test_production_took_over_although_the_gateway_answers_as_another_version(candidate: World) -> None:
    assert candidate.materialize("canary").success
    candidate.gateway.behaviours["tiny-production-v2"] = Behaviour(version="1")
    assert not candidate.materialize("production").success
    assert candidate.reasons("production") == ["the gateway answers with version 1, not with 2"]
    assert candidate.registry.alias("tiny", "production") == 1


def test_a_model_went_up_before_the_one_it_depends_on(released: World) -> None:
    released.repository.commit_model("serving", parallel=2)
    released.repository.commit_model(depends_on=["first"])
    assert not released.materialize().success
    assert released.reasons("production") == ["first, on which tiny depends, is not in production"]
    route = released.gateway.current().route("tiny", "production")
    assert route is not None and len(route.shares) == 1  # nor had it a share while it waits


def test_dagster_showed_an_asset_without_its_pictures(begun: World) -> None:
    done = begun.materialize("dataset", "base_weights", "weights", "evaluation")
    events = [event for event in done.all_events if event.is_step_materialization]
    shown = {e.asset_key.path[-1]: e.step_materialization_data.materialization.metadata for e in events}
    for picture in (shown["weights"]["loss"], shown["evaluation"]["picture"]):
        assert "data:image/svg+xml" in str(picture.value) and len(str(picture.value)) < SHOWN_BELOW
    assert "learn: what is" in str(shown["dataset"]["sample"].value)
    assert shown["dataset"]["revision"].value == begun.repository.head


def test_dataset_let_a_test_question_be_learnt(begun: World) -> None:
    begun.repository.track({"train.jsonl": {"a?": "1"}, "pretrain.jsonl": {"c?": "1"}, "test.jsonl": {"a?": "1"}})
    begun.repository.commit({}, "a leak")
    assert not begun.materialize("dataset").success
    assert "test.jsonl" in begun.reasons("dataset")[0]


def test_another_row_to_fine_tune_on_trained_the_base_again(begun: World) -> None:
    begun.repository.track_apart(DATA)
    begun.repository.commit({}, "every file apart")
    assert begun.materialize("dataset", "base_weights", "weights").success
    begun.repository.track_apart({**DATA, "train.jsonl": rows("learn", 21)})
    begun.repository.commit({}, "one row more")
    assert begun.materialize("dataset", "base_weights", "weights").success
    made = [fact.subject for fact in begun.doors().ledger.facts("tiny") if fact.kind == "produced"]
    assert (made.count("dataset"), made.count("base_weights"), made.count("weights")) == (2, 1, 2)


def test_two_runs_of_two_revisions_at_once_mixed_their_data_or_code(begun: World) -> None:
    first = begun.repository.head
    begun.repository.track({**DATA, "train.jsonl": rows("other", 20)})
    second = begun.repository.commit_model("training", message="other rows", seed=9)
    begun.repository.commit({"recipes/finetune.py": "raise SystemExit('a third commit')\n"})
    beside = copy.copy(begun)
    beside.instance = DagsterInstance.ephemeral()
    beside.instance.add_dynamic_partitions("models", ["tiny"])

    def run(world: World, revision: str) -> bool:
        return world.materialize("dataset", "base_weights", "weights", tags={REVISION_TAG: revision}).success

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [begun, beside], [first, second])) == [True, True]
    doors = begun.doors()
    made = {f.body["revision"]: f for f in doors.ledger.facts("tiny") if (f.kind, f.subject) == ("produced", "dataset")}
    for revision, kind in ((first, "learn"), (second, "other")):
        artifact = doors.artifacts.get("dataset", made[revision].body["digest"])
        assert artifact is not None and f'"{kind}: ' in (artifact.path / "train.jsonl").read_text()


def test_a_file_that_the_data_lacks_was_missed_only_by_the_training(begun: World) -> None:
    assert begun.materialize("dataset").success
    begun.repository.commit_model("training", train="nope.jsonl")
    assert not begun.materialize("dataset", "base_weights", "weights").success
    assert begun.jobs.ran == []
    assert "models/tiny/model.yaml: training.train" in begun.reasons("dataset")[0]


def test_an_exam_that_became_training_data_was_not_seen_since_the_rows_are_the_same(begun: World) -> None:
    begun.repository.track({**DATA, "more.jsonl": DATA["test.jsonl"]})
    begun.repository.commit({}, "the exam's rows once more")
    assert begun.materialize("dataset").success
    begun.repository.commit_model("training", train="more.jsonl")
    assert not begun.materialize("dataset").success
    assert "test.jsonl" in begun.reasons("dataset")[0]


def test_rows_that_are_no_text_were_trained_on(begun: World) -> None:
    begun.repository.track({"train.jsonl": {"a?": "1"}, "pretrain.jsonl": {}, "test.jsonl": {"b?": "1"}})
    begun.repository.commit({}, "an empty file")
    assert not begun.materialize("dataset").success
    assert "pretrain.jsonl" in begun.reasons("dataset")[0]


def test_a_damaged_dvc_object_was_trained_on(begun: World) -> None:
    (pointer,) = begun.doors().data.tracked(begun.repository.head).values()
    listing = json.loads(begun.repository.cached(pointer.md5).read_text())
    begun.repository.cached(listing[0]["md5"]).write_text('{"prompt": "evil", "response": "row"}\n')
    assert not begun.materialize("dataset").success
    assert "the cache is damaged" in begun.reasons("dataset")[0]


def test_a_dvc_object_that_nobody_has_was_passed_over(begun: World) -> None:
    (pointer,) = begun.doors().data.tracked(begun.repository.head).values()
    begun.repository.cached(pointer.md5).unlink()
    assert not begun.materialize("dataset").success
    assert "dvc push" in begun.reasons("dataset")[0]
