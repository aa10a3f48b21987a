"""Paths that touch a model and were not seen to, or touch none and were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.touched import data_paths, is_model_yaml, touched

READS = {"a": {"data/a"}, "b": {"data/b/rows.jsonl", "weights/b"}, "c": set[str]()}
RULES = {"config/local.yaml"}


@pytest.mark.parametrize(
    ("changed", "moved", "expected"),
    [
        (["README.md", "LICENSE", "docs/x.svg", "config/staging.yaml", "recipes/README.md", ".ci/run"], [], set()),
        (["data/other.dvc", "data/.gitignore", "dvc.lock", "sub/dvc.yaml", "recipes/rows.pyi"], [], set()),
        (["common/words.py"], [], {"a", "b", "c"}),
        (["common/words.txt"], [], {"a", "b", "c"}),
        (["words.py"], [], {"a", "b", "c"}),
        (["models/a/model.yaml"], [], {"a"}),
        (["models/new/prompts/system.txt"], [], {"new"}),
        (["models/model.schema.json"], [], set()),
        (["config/local.yaml"], [], {"a", "b", "c"}),
        (["recipes/finetune.py", "models/new/model.yaml"], [], {"a", "b", "c", "new"}),
        (["llmops_core/errors.py"], [], {"a", "b", "c"}),
        (["requirements/run.lock"], [], {"a", "b", "c"}),
        (["data/a.dvc"], ["data/a"], {"a"}),
        (["data/a/train.jsonl.dvc"], ["data/a/train.jsonl"], {"a"}),
        (["data.dvc"], ["data"], {"a", "b"}),
        (["weights/b.dvc"], ["weights/b"], {"b"}),
        (["data/ab.dvc"], ["data/ab"], set()),
        (["data/b/other.jsonl.dvc"], ["data/b/other.jsonl"], set()),
    ],
)
def test_a_change_touched_other_models(changed: list[str], moved: list[str], expected: set[str]) -> None:
    assert touched(changed, moved, READS, RULES) == expected


@given(st.lists(st.sampled_from(["models/a/model.yaml", "README.md", "models/b/x", "docs/y"])), st.randoms())
def test_the_order_of_paths_counted(paths: list[str], random) -> None:
    shuffled = random.sample(paths, len(paths))
    assert touched(shuffled, [], READS, RULES) == touched(paths, [], READS, RULES)


def test_another_file_was_taken_for_a_model() -> None:
    assert is_model_yaml("models/llama-3.1-8b/model.yaml")
    assert not any(map(is_model_yaml, ["models/model.yaml", "models/a/b/model.yaml", "x/models/a/model.yaml"]))


def test_a_model_yaml_that_cannot_be_read_stopped_the_others() -> None:
    assert data_paths(b"data: {path: data/x/}\nsource: {type: local, path: weights}", "f") == {"data/x", "weights"}
    for broken in (b"", b"[", b"data: 3", b"data: {path: 3}", b"a: &x 1\nb: *x"):
        assert data_paths(broken, "f") == frozenset()
