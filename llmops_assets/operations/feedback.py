"""Ratings of what a model answered: recorded with the version that is said to have answered, and curated into rows.

Curating reads the data that the version which serves now was made and judged with, by the digests that its facts name:
what it teaches is known, what it examines with must not be learnt. The result is an artefact and no commit: a person
looks through the rows and puts them into the dataset, and the commit that does it is released like any other.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmops_assets.deploying import serving_now
from llmops_assets.operations.audit import production_of
from llmops_assets.release import spec_at
from llmops_assets.repositories import doors_of
from llmops_core.errors import GateRefused, InputError, IntegrityError, Problem
from llmops_core.facts import Fact
from llmops_core.feedback import CuratedFeedback, curate_feedback, judge_feedback, known_rows
from llmops_core.lineage import ancestry
from llmops_core.model_spec import ModelSpec
from llmops_core.ratings import Rating
from llmops_core.verdict import Finding
from resources.wiring import Platform

ROWS, REPORT = "curated.jsonl", "report.json"


@dataclass(frozen=True)
class Answerer:
    """The version that so many of the ratings are about; `assumed` where nobody said so."""

    version: str
    digest: str
    assumed: bool
    ratings: int


@dataclass(frozen=True)
class Recorded:
    """What a submission left behind; `repeated` when the same one was there already."""

    model: str
    ratings: int
    repeated: bool
    file: str
    answered_by: tuple[Answerer, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Published:
    """Rows for the next version of the dataset, in the file `rows`, and what is to be done with them."""

    curated: CuratedFeedback
    finding: Finding
    digest: str
    rows: Path
    next_step: str

    def as_dict(self) -> dict[str, Any]:
        judged = {"verdict": self.finding.verdict.label, "reason": self.finding.reason}
        place = {"digest": self.digest, "curated": str(self.rows), "next_step": self.next_step}
        return {**judged, **place, **self.curated.as_dict()}


def record_ratings(platform: Platform, model: str, ratings: Sequence[Rating], source: str) -> Recorded:
    """Keeps ratings, all or none. Those that name no version count for what serves in production now.

    Raises InputError for a version that was never registered here (`source` names the input), GateRefused where no
    version is named and none serves.
    """
    facts = platform.ledger.facts(model)
    _refuse_unknown(facts, model, ratings, source)
    serving = serving_now(platform, model, "production")
    complete = [each if each.version else _assumed(each, serving, model) for each in ratings]
    submission = platform.feedback.submit(model, complete)
    answerers = Counter((each.version, each.digest, each.assumed) for each in complete)
    told = tuple(Answerer(*who, count) for who, count in sorted(answerers.items()))
    return Recorded(model, len(complete), submission.repeated, submission.place, told)


def curate_ratings(platform: Platform, model: str) -> Published:
    """Curates all ratings of a model and publishes the rows. Raises GateRefused where nothing serves or was rated."""
    serving = serving_now(platform, model, "production")
    if serving is None:
        raise GateRefused("feedback", f"{model} does not serve in production: there is no dataset to compare with")
    ratings = platform.feedback.ratings(model)
    if not ratings:
        raise GateRefused("feedback", f"nobody has rated an answer of {model}")
    spec = spec_at(doors_of(platform, model), serving.body["revision"], model)
    known = known_rows(_dataset(platform, model, serving), spec.learnt_from)
    curated = curate_feedback(ratings, known, spec.data.pii)
    finding = judge_feedback(curated)
    with tempfile.TemporaryDirectory(dir=platform.home.folder("work")) as scratch:
        artifact = platform.artifacts.publish("feedback", _written(Path(scratch) / "feedback", curated, finding))
    rows = artifact.path / ROWS
    return Published(curated, finding, artifact.digest, rows, _next_step(spec, rows, len(curated.rows)))


def _refuse_unknown(facts: Sequence[Fact], model: str, ratings: Sequence[Rating], source: str) -> None:
    made = [fact.body for fact in facts if fact.kind == "produced" and fact.subject == "registered_version"]
    registered = {(body["version"], body["facts"]["weights_digest"]) for body in made}
    known = ", ".join(f"{version} ({digest[:12]})" for version, digest in sorted(registered)) or "none"
    problems = [
        Problem(
            source,
            f"line {number}: version",
            f"{rating.version} ({rating.digest[:12]})",
            f"a version with its weights' digest: {known}",
            f"no such version of {model} was registered here",
        )
        for number, rating in enumerate(ratings, start=1)
        if rating.version and (rating.version, rating.digest) not in registered
    ]
    if problems:
        raise InputError(*problems[:20])


def _assumed(rating: Rating, serving: Fact | None, model: str) -> Rating:
    if serving is None:
        reason = (
            f"{model} does not serve in production; say who answered with version and digest (the x-llmops headers)"
        )
        raise GateRefused("feedback", reason)
    body = serving.body
    return replace(rating, version=body["version"], digest=body["weights_digest"], assumed=True)


def _dataset(platform: Platform, model: str, serving: Fact) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """(file, rows) of all data that what serves was trained, judged and registered with, every byte re-hashed."""
    facts = platform.ledger.facts(model)
    made = production_of(facts, serving)
    if made is None:
        raise IntegrityError(f"nothing was recorded to have made {serving.body['deployment']}: audit {model}")
    chain = ancestry(facts, made).values()
    for digest in sorted({fact.body["digest"] for fact in chain if fact.subject == "dataset"}):
        folder = platform.artifacts.verified("dataset", digest).path
        for path in sorted(folder.rglob("*.jsonl")):
            yield path.relative_to(folder).as_posix(), map(json.loads, path.read_bytes().splitlines())


def _written(folder: Path, curated: CuratedFeedback, finding: Finding) -> Path:
    folder.mkdir()
    lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) for row in curated.rows)
    (folder / ROWS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    report = {"finding": finding.as_dict(), **curated.as_dict()}
    (folder / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True), encoding="utf-8")
    return folder


def _next_step(spec: ModelSpec, rows: Path, count: int) -> str:
    if not count:
        return f"nothing is to be added; what is held waits for a person in {rows.with_name(REPORT)}"
    data, train = spec.data.path, " or ".join(spec.training.files) or "the file to train on"
    return (
        f"look through {rows}, append its rows to {train} in {data}, run `dvc add` on it (or mend the DVC stage that "
        "makes it), commit, and let somebody review it; the commit is then released by itself"
    )
