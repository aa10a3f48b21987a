"""Feedback end to end: ratings of what serves become rows, and a commit with these rows goes through the gates."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from llmops_assets.cli import main
from llmops_assets.operations.feedback import curate_ratings, record_ratings
from llmops_core.errors import GateRefused, InputError, IntegrityError
from llmops_core.ratings import Rating
from tests.fakes.git_with_data import DATA
from tests.fakes.platform_doors import World

CORRECTED = Rating("why: what is 1 and 1?", "3", 1, "2")
EXAM = Rating(next(iter(DATA["test.jsonl"])), "0", 5)
LEARNT = Rating(next(iter(DATA["train.jsonl"])), " 0", 5)


def _shown(world: World) -> dict[str, Any]:
    done = world.materialize("feedback")
    assert done.success, [str(event.message) for event in done.all_events if event.is_failure]
    (event,) = [event for event in done.all_events if event.is_step_materialization]
    metadata = event.step_materialization_data.materialization.metadata
    return {name: entry.value for name, entry in metadata.items()}


def _rate(world: World, *ratings: Rating) -> Any:
    return record_ratings(world.doors(), "tiny", ratings, "ratings.jsonl")


def _served(world: World) -> tuple[str, str]:
    (version,) = world.registry.registered["tiny"]
    return str(version.version), version.facts().weights_digest


def test_ratings_did_not_become_rows(released: World) -> None:
    _rate(released, CORRECTED, EXAM, LEARNT, Rating("why: what is 2 and 2?", "5", 2))
    shown = _shown(released)
    assert (shown["verdict"], shown["rows"], shown["ratings"]) == ("passed", 1, 4)
    assert shown["mean_rating"] == pytest.approx(13 / 4)
    assert "| 1 | " in shown["by_version"] and "test.jsonl asks it" in shown["outcomes"]
    assert "what would be right is not known" in shown["waiting"] and "1 and 1" in shown["sample"]
    row = {"prompt": CORRECTED.question, "response": "2", "tags": ["feedback", "corrected"]}
    assert [json.loads(line) for line in Path(shown["curated"]).read_text().splitlines()] == [row]
    assert "train.jsonl in data/tiny" in shown["next_step"] and shown["curated"] in shown["next_step"]
    report = json.loads(Path(shown["curated"]).with_name("report.json").read_text())
    assert report["finding"]["verdict"] == "passed" and sum(each["ratings"] for each in report["counts"]) == 4


def test_the_rows_were_none_that_the_next_version_of_the_dataset_takes(released: World) -> None:
    _rate(released, CORRECTED, EXAM)
    rows = map(json.loads, Path(_shown(released)["curated"]).read_text().splitlines())
    more = {row["prompt"]: row["response"] for row in rows}
    released.repository.track({**DATA, "train.jsonl": {**DATA["train.jsonl"], **more}})
    released.repository.commit({}, "what users taught us")
    assert released.materialize().success
    assert (_shown(released)["rows"], "the training data has it" in _shown(released)["outcomes"]) == (0, True)


def test_a_question_that_only_a_later_or_an_earlier_evaluation_asked_was_learnt(begun: World) -> None:
    (begun.repository.path / "data" / "tiny.dvc").unlink()
    _track_each(begun, DATA)
    begun.repository.commit({}, "each file by itself")
    assert begun.materialize().success
    dropped, *kept = DATA["test.jsonl"].items()
    added = ("later: what is 1 and 1?", "2")
    begun.gateway.answers = {**begun.gateway.answers, added[0]: added[1]}
    _track_each(begun, {"test.jsonl": dict([*kept, added])})
    begun.repository.commit({}, "other questions for the same weights")
    begun.jobs.ran.clear()
    assert begun.materialize().success and begun.jobs.ran == ["evaluate"]
    _rate(begun, *(Rating(question, answer, 5) for question, answer in (dropped, added)))
    assert (_shown(begun)["rows"], "a model must not learn its exam | 2 |" in _shown(begun)["outcomes"]) == (0, True)


def _track_each(world: World, files: dict[str, dict[str, str]]) -> None:
    """What `dvc add data/tiny/*.jsonl` leaves behind."""
    folder = world.repository.path / "data" / "tiny"
    folder.mkdir(exist_ok=True)
    for name, answers in files.items():
        lines = "".join(json.dumps({"prompt": q, "response": a}) + "\n" for q, a in answers.items())
        md5 = hashlib.md5(lines.encode()).hexdigest()
        world.repository.cached(md5).parent.mkdir(parents=True, exist_ok=True)
        world.repository.cached(md5).write_text(lines)
        (folder / f"{name}.dvc").write_text(yaml.safe_dump({"outs": [{"md5": md5, "hash": "md5", "path": name}]}))


def test_curating_again_made_another_artefact(released: World) -> None:
    _rate(released, CORRECTED, EXAM)
    first = curate_ratings(released.doors(), "tiny")
    _rate(released, CORRECTED, EXAM)
    assert curate_ratings(released.doors(), "tiny").digest == first.digest
    assert list((released.home.root / "work").iterdir()) == []


def test_feedback_without_a_model_in_production_passed(begun: World) -> None:
    shown = _shown(begun)
    assert shown["verdict"] == "error" and "does not serve in production" in shown["reason"]
    with pytest.raises(GateRefused, match="does not serve in production; say who answered"):
        _rate(begun, CORRECTED)


def test_feedback_without_ratings_passed(released: World) -> None:
    shown = _shown(released)
    assert shown["verdict"] == "error" and "nobody has rated" in shown["reason"]


def test_who_answered_was_assumed_without_saying_so(released: World) -> None:
    version, digest = _served(released)
    recorded = _rate(released, CORRECTED, Rating("Why?", "so", 5, version=version, digest=digest))
    told = [(who.version, who.digest, who.assumed, who.ratings) for who in recorded.answered_by]
    assert told == [(version, digest, False, 1), (version, digest, True, 1)]
    assert sorted(each.assumed for each in released.doors().feedback.ratings("tiny")) == [False, True]


def test_a_version_that_was_never_registered_was_rated(released: World) -> None:
    version, digest = _served(released)
    for who in [("7", digest), (version, "0" * 64)]:
        with pytest.raises(InputError, match=f"line 2: version: no such version of tiny .* {version} \\({digest[:12]}"):
            _rate(released, CORRECTED, Rating("Why?", "so", 5, version=who[0], digest=who[1]))
    assert released.doors().feedback.ratings("tiny") == []


def test_rows_were_compared_with_data_that_somebody_changed(released: World) -> None:
    _rate(released, EXAM)
    path = released.step("dataset").artifact("dataset").path / "test.jsonl"
    path.chmod(0o600)
    path.write_text("{}\n")
    with pytest.raises(IntegrityError, match=r"test\.jsonl was changed"):
        curate_ratings(released.doors(), "tiny")
    assert not released.materialize("feedback").success


def test_the_command_did_not_say_what_it_did_and_what_is_next(
    released: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def said(*options: str) -> str:
        return " ".join(CliRunner().invoke(main, ["feedback", "tiny", *options]).output.split())

    monkeypatch.setattr("llmops_assets.cli.feedback.platform", released.doors)
    one = ("--question", CORRECTED.question, "--answer", "3", "--rating", "1", "--correction", "2")
    told = said(*one)
    assert "1 rating of tiny is recorded" in told and "assumed: it serves in production now" in told
    assert "was recorded before" in said(*one)
    file = tmp_path / "ratings.jsonl"
    version, digest = _served(released)
    rated = {"question": EXAM.question, "answer": "0", "rating": 5, "version": version, "digest": digest}
    file.write_text(json.dumps(rated) + "\n")
    told = said("--file", str(file))
    assert "as the answer's headers said" in told and "Next: `llmops feedback tiny`" in told
    document = json.loads(said("--json"))
    assert (document["verdict"], document["rows"]) == ("passed", 1) and Path(document["curated"]).is_file()
    told = said()
    assert "test.jsonl asks it" in told and document["curated"] in told
    assert "append its rows to train.jsonl in data/tiny, run `dvc add`" in told
