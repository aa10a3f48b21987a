"""Names of jobs: one name for one attempt, legal wherever Kubernetes puts it, and never one for two."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.job_names import JobIdentity, identify, job_name, label_value, labels

DIGEST = "0123456789abcdef" * 4
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
MODELS = st.one_of(
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?)?", fullmatch=True),
    st.sampled_from(["atlas-qa", "llama-3.1-8b", "a" * 63, "0", "a.b", "a-b"]),
)
IDENTITIES = st.builds(
    JobIdentity,
    model=MODELS,
    stage=st.sampled_from(["weights", "base_weights", "evaluation"]),
    recipe=st.sampled_from(["finetune", "evaluate", "a_recipe_with_a_long_name"]),
    fingerprint=st.text("0123456789abcdef", min_size=64, max_size=64),
)


@given(IDENTITIES, st.integers(1, 9999))
def test_the_api_server_refused_a_name_or_label(identity: JobIdentity, attempt: int) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", job_name(identity, attempt))
    assert all(LABEL.fullmatch(value) for value in labels(identity, attempt, "run").values())


@given(st.lists(st.tuples(IDENTITIES, st.integers(1, 12)), min_size=2, max_size=8))
def test_two_attempts_got_one_name(asked: list[tuple[JobIdentity, int]]) -> None:
    names = {job_name(identity, attempt) for identity, attempt in asked}
    assert len(names) == len({(each.model, each.recipe, each.fingerprint[:12], number) for each, number in asked})


@pytest.mark.parametrize(("one", "other"), [("a.b", "a-b"), ("a" * 62 + "b", "a" * 62 + "c")])
def test_models_of_like_names_shared_a_job(one: str, other: str) -> None:
    first, second = (job_name(JobIdentity(model, "weights", "finetune", DIGEST), 1) for model in (one, other))
    assert first != second


def test_the_name_no_longer_told_model_recipe_and_attempt() -> None:
    name = job_name(JobIdentity("atlas-qa", "weights", "finetune", DIGEST), 3)
    assert name == "llmops-atlas-qa-0123456789ab-finetune-a3"


def test_two_runs_of_a_recipe_in_one_stage_shared_a_job() -> None:
    """Evaluation asks the candidate and the model in production."""
    one, same, other = (identify("m", "evaluation", "evaluate", DIGEST, {"weights": each}) for each in "aab")
    assert one == same and one.fingerprint != other.fingerprint


@given(st.text(max_size=90))
def test_a_label_was_refused(text: str) -> None:
    assert LABEL.fullmatch(label_value(text)) and label_value(text)
