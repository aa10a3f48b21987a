"""A change that must redo work went unseen, or one that must not redid it."""

from dataclasses import replace

import pytest

from llmops_core.plan import STAGES, fingerprints
from tests.core.releases import CODE, DATA, inputs, settings, spec, with_spec


def changed(after: object) -> set[str]:
    before, now = fingerprints(inputs()), fingerprints(after)  # pyright: ignore[reportArgumentType]
    return {stage for stage in STAGES if before[stage] != now[stage]}


def after(stage: str) -> set[str]:
    return set(STAGES[STAGES.index(stage) :])


def test_the_revision_alone_made_work() -> None:
    assert changed(inputs(revision="2" * 40)) == set()


@pytest.mark.parametrize("field", ["steps", "seed", "learning_rate"])
def test_a_training_parameter_did_not_retrain_or_redid_the_base(field: str) -> None:
    assert changed(with_spec("training", **{field: 77})) == after("weights")


def test_a_pretraining_parameter_did_not_make_a_new_base() -> None:
    source = spec().source
    pretrain = source.pretrain.model_copy(update={"seed": 9})  # pyright: ignore
    assert changed(with_spec("source", pretrain=pretrain)) == after("base_weights")


def test_a_threshold_retrained_or_did_not_judge_again() -> None:
    assert changed(with_spec("evaluation", max_regression=0.5)) == after("evaluation")


@pytest.mark.parametrize("limit", ["timeout_seconds", "parallel"])
def test_a_serving_limit_retrained_or_did_not_deploy_again(limit: str) -> None:
    assert changed(with_spec("serving", **{limit: 9})) == after("staging_deployment")


def test_a_context_that_cuts_answers_off_was_not_evaluated_again() -> None:
    assert changed(with_spec("serving", context_tokens=99)) == after("evaluation")


def test_another_quantization_did_not_package_again() -> None:
    assert changed(with_spec("serving", quantization="f16")) == after("weights")


@pytest.mark.parametrize(
    ("name", "first"),
    [("train.jsonl", "weights"), ("test.jsonl", "evaluation"), ("pretrain.jsonl", "base_weights")],
)
def test_changed_rows_reached_other_stages_than_those_that_read_them(name: str, first: str) -> None:
    assert changed(inputs(data={**DATA, name: "f" * 32})) == {"dataset"} | after(first)


def test_a_second_file_to_train_on_did_not_retrain() -> None:
    several = with_spec("training", train=("train.jsonl", "more.jsonl"))
    before = replace(several, data={**DATA, "more.jsonl": "e" * 32})
    after_it = replace(several, data={**DATA, "more.jsonl": "f" * 32})
    one, other = fingerprints(before), fingerprints(after_it)
    assert {stage for stage in STAGES if one[stage] != other[stage]} == {"dataset"} | after("weights")


def test_a_folder_tracked_as_one_did_not_count_for_the_files_in_it() -> None:
    one, other = (fingerprints(inputs(data={"": f"{digit * 32}.dir"})) for digit in "ab")
    assert {stage for stage in STAGES if one[stage] != other[stage]} == set(STAGES)


@pytest.mark.parametrize(
    ("recipe", "first"),
    [("pretrain", "base_weights"), ("finetune", "weights"), ("package", "weights"), ("evaluate", "evaluation")],
)
def test_changed_code_of_a_recipe_did_not_redo_its_stage(recipe: str, first: str) -> None:
    code = {**CODE, recipe: {"recipes/x.py": "d" * 64}}
    assert changed(inputs(code=code)) == after(first)


def test_an_environment_file_did_not_deploy_again() -> None:
    other = settings().model_copy(update={"memory_factor": 0.5})
    assert changed(inputs(production=other)) == after("canary")
    assert changed(inputs(staging=other)) == after("staging_deployment")


def test_two_models_shared_a_fingerprint() -> None:
    assert changed(inputs(model="other")) == set(STAGES)


def test_the_order_of_names_that_are_a_set_made_work() -> None:
    one = inputs(spec=spec().model_copy(update={"owners": ("team:a", "team:b"), "depends_on": ("x", "y")}))
    other = inputs(spec=spec().model_copy(update={"owners": ("team:b", "team:a"), "depends_on": ("y", "x")}))
    assert fingerprints(one) == fingerprints(other)
    roles = [settings().approvals.model_copy(update={"required": each}) for each in (("technical", "security"),) * 2]
    roles[1] = roles[1].model_copy(update={"required": ("security", "technical")})
    before, now = (inputs(production=settings().model_copy(update={"approvals": each})) for each in roles)
    assert fingerprints(before) == fingerprints(now)
