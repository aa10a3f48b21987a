"""A plan that says less, more or something else than what a change causes."""

import re
import string
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.change_plan import as_markdown, plan_change, plan_removed, plan_untried, something_runs
from llmops_core.model_spec import load_model_spec
from llmops_core.plan import STAGES, UPSTREAM, ModelInputs, fingerprints, ingredients
from llmops_core.settings import load_settings
from tests.core.releases import CODE, DATA, ROOT, inputs, settings, with_spec

MODEL = (ROOT / "models" / "atlas-qa" / "model.yaml").read_bytes()
LOCAL = (ROOT / "config" / "local.yaml").read_bytes()


def runs(before: ModelInputs | None, after: ModelInputs, made: dict[str, str] | None = None) -> list[str]:
    return [row.asset for row in plan_change(before, after, made or {}) if row.action == "run"]


def why(before: ModelInputs, after: ModelInputs, asset: str) -> str:
    return next(row.reason for row in plan_change(before, after, {}) if row.asset == asset)


def test_no_change_ran_something() -> None:
    assert runs(inputs(), inputs(revision="2" * 40)) == []


def test_a_new_model_ran_nothing() -> None:
    assert runs(None, inputs()) == list(STAGES)
    assert {row.reason for row in plan_change(None, inputs(), {})} == {"the model is new"}


def test_the_reason_did_not_name_what_changed() -> None:
    rate = with_spec("training", learning_rate=0.5)
    assert why(inputs(), rate, "weights") == "model.yaml training.learning_rate changed 0.006 → 0.5"
    assert why(inputs(), rate, "evaluation") == "follows weights"
    assert why(inputs(), rate, "base_weights") == "nothing it depends on changed"
    rows = inputs(data={**DATA, "train.jsonl": "9c41" + "0" * 28})
    assert why(inputs(), rows, "weights") == "data/atlas/train.jsonl changed 0000… → 9c41…"
    code = inputs(code={**CODE, "finetune": {"recipes/finetune.py": "d" * 64, "peft": "0.21.2"}})
    assert why(inputs(), code, "weights") == "peft added; recipes/finetune.py changed cccc… → dddd…"


def test_many_changes_filled_the_page() -> None:
    many = with_spec("training", seed=7, steps=7, learning_rate=7.0, warmup_steps=7, row_tokens=128)
    assert why(inputs(), many, "weights").endswith(" and 2 more")


def test_work_that_exists_was_done_again() -> None:
    after = with_spec("training", seed=7)
    (row,) = [row for row in plan_change(inputs(), after, {"weights": "a" * 40}) if row.asset == "weights"]
    assert (row.action, row.reason) == ("skip", f"made at {'a' * 12} from the same inputs")
    assert "weights" not in runs(inputs(), after, {"weights": "a" * 40})


def test_another_environment_file_deployed_here() -> None:
    other = settings().model_copy(update={"memory_factor": 0.5})
    assert runs(inputs(), inputs(production=other))[0] == "canary"
    assert "config/local.yaml memory_factor" in why(inputs(), inputs(production=other), "canary")


def test_a_removed_or_untried_model_ran() -> None:
    assert not something_runs([*plan_removed("gone"), *plan_untried("big", "local", ["it needs a GPU"])])
    assert "llmops retire gone" in plan_removed("gone")[0].reason


def test_a_commit_wrote_into_the_table_of_a_pull_request() -> None:
    (row, *_) = plan_untried("big", "local", ["a | b\n# <img src=x> [click](http://example.com) `code` @everyone"])
    (line,) = [line for line in as_markdown("Plan", [row]).splitlines() if line.startswith("| big")]
    cells = re.split(r"(?<!\\)\|", line.strip("|"))
    assert [cell.strip() for cell in cells[:3]] == ["big", "dataset", "skip"] and len(cells) == 4
    assert not re.search(r"(?<!\\)[|<>\[`@#]", cells[3])


# --- properties -------------------------------------------------------------------------------------------------------

scalars = st.one_of(st.integers(1, 9), st.sampled_from(["x", "y"]))


@given(st.randoms(use_true_random=False), st.lists(st.text(string.ascii_letters + " :#-", max_size=20), max_size=5))
def test_the_order_of_keys_or_a_comment_changed_a_fingerprint(random, comments) -> None:
    def turned(value):
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.shuffle(keys)
        return {key: turned(value[key]) for key in keys}

    def written(content: bytes) -> bytes:
        lines = yaml.safe_dump(turned(yaml.safe_load(content)), sort_keys=False).splitlines()
        for comment in comments:
            lines.insert(0, f"# {comment}")
        return "\n".join(lines).encode()

    spec = load_model_spec(written(MODEL), "models/atlas-qa/model.yaml")
    local = load_settings(written(LOCAL), "config/local.yaml")
    shuffled = list(DATA.items())
    random.shuffle(shuffled)
    same = inputs(spec=spec, staging=local, production=local, data=dict(shuffled), revision="7" * 40)
    assert fingerprints(same) == fingerprints(inputs())
    assert runs(inputs(), same) == []


def _every_ingredient() -> list[tuple[str, str]]:
    return [(stage, name) for stage, named in ingredients(inputs()).items() for name in named]


@pytest.mark.parametrize(("stage", "name"), _every_ingredient())
def test_a_relevant_change_was_not_seen_or_reached_stages_before_it(
    stage: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever single ingredient of a stage differs: that stage runs, and all that rest on it, and no other."""
    before = fingerprints(inputs())
    told = ingredients(inputs())
    told[stage] = {**told[stage], name: "something else"}
    monkeypatch.setattr("llmops_core.plan.ingredients", lambda _: told)
    after = fingerprints(inputs())
    assert {each for each in STAGES if before[each] != after[each]} == _downstream(stage)


def _downstream(stage: str) -> set[str]:
    found = {stage}
    for each in STAGES:
        if found & set(UPSTREAM[each]):
            found.add(each)
    return found


@given(st.dictionaries(st.sampled_from(sorted(DATA)), st.sampled_from(["1" * 32, "2" * 32]), min_size=1))
def test_rows_reached_stages_that_do_not_read_them(changed: dict[str, str]) -> None:
    found = set(runs(inputs(), inputs(data={**DATA, **changed})))
    expected = _downstream("dataset")
    for name, stage in [("pretrain.jsonl", "base_weights"), ("train.jsonl", "weights"), ("test.jsonl", "evaluation")]:
        expected |= _downstream(stage) if name in changed else set()
    expected |= _downstream("evaluation") if "retained.jsonl" in changed else set()
    assert found == expected


def test_weights_that_dvc_tracks_changed_unseen() -> None:
    before = replace(inputs(), weights_data={"weights/base": "1" * 32 + ".dir"})
    after = replace(inputs(), weights_data={"weights/base": "2" * 32 + ".dir"})
    assert runs(before, after)[0] == "base_weights"
    assert why(before, after, "base_weights") == "weights/base changed 1111… → 2222…"


def test_what_failed_already_was_planned_again() -> None:
    after = with_spec("training", seed=7)
    rows = plan_change(inputs(), after, {"weights": "a" * 40}, {"evaluation": "b" * 40})
    said = {row.asset: (row.action, row.reason) for row in rows}
    assert said["evaluation"] == ("skip", f"it failed at {'b' * 12} from the same inputs: nothing is new")
    assert said["production"] == ("skip", "no run gets there: evaluation failed") and not something_runs(rows)


def test_a_failure_that_a_change_does_not_mend_was_passed_over() -> None:
    rows = plan_change(inputs(), with_spec("serving", parallel=9), {}, {"evaluation": "b" * 40})
    said = {row.asset: row.reason for row in rows}
    assert said["evaluation"] == "nothing it depends on changed" and not something_runs(rows)
    assert said["staging_deployment"] == "no run gets there: evaluation failed"


def test_a_model_that_could_not_be_released_before_was_called_new() -> None:
    rows = plan_change(None, inputs(), {}, absent="the model could not be released at 123")
    assert {row.reason for row in rows} == {"the model could not be released at 123"}
