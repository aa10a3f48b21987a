"""Looks at a watched place, and makes its whole files a new version of the dataset, once.

What was taken or refused is a fact that names each file with its version, so no look offers it again; what was taken is
never taken again under another name either. Intent, commit, outcome: a killed run leaves an `intended` fact, and
whoever takes next finds its branch and writes the outcome, or finds none and begins anew. One proposal for each file of
a dataset is open at a time, by whichever place, because two would both add to its end and not merge.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmops_assets.operations.arrival_data import Dataset, dataset_now, message_of, sharing
from llmops_assets.release import head_of
from llmops_core.arrival_settings import WatchedPlace
from llmops_core.arrivals import (
    Arrived,
    Judged,
    Look,
    RefusedFile,
    Sorting,
    TakenFile,
    batch_of,
    digest_of_contents,
    judge_arrivals,
    new_version,
    sort_out,
)
from llmops_core.errors import InputError
from llmops_core.facts import Fact
from llmops_core.fingerprint import digest_of
from resources.data.dataset_commit import Merged, Proposal
from resources.storage.publishing import exclusive
from resources.wiring import Platform

SUBJECT = "arrivals"
ATTEMPTS = 3  # when the branch gets other commits meanwhile


@dataclass(frozen=True)
class Seen:
    """What a look found. `batch` is {name: version} of files to take now; `waits` says why none may be taken yet;
    `refused` are files that still lie there, each with why it is not taken."""

    sorting: Sorting
    batch: dict[str, str]
    waits: str
    refused: dict[str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of a batch. `revision` is empty where no row was new; `passed_on` says what happens to the branch."""

    taken: tuple[TakenFile, ...] = ()
    refused: tuple[RefusedFile, ...] = ()
    changed: tuple[str, ...] = ()
    rows: int = 0
    path: str = ""
    revision: str = ""
    branch: str = ""
    passed_on: str = ""


def look(platform: Platform, watched: WatchedPlace, before: Mapping[str, Look], now: float) -> Seen:
    """What lies in the place; nothing is read or written."""
    sorting = sort_out(platform.place(watched).listed(), before, now, watched.settle_seconds)
    facts = _facts(platform, watched, sharing(platform, watched)) if sorting.whole else []
    done = _handled(facts)
    batch = batch_of({name: version for name, version in sorting.whole.items() if (name, version) not in done})
    refused = {
        file["name"]: fact.body["reason"]
        for fact in facts
        for file in fact.body["files"]
        if fact.kind == "refused" and sorting.whole.get(file["name"]) == file["version"]
    }
    return Seen(sorting, batch, _open_proposal(platform, watched, facts) if batch else "", refused)


def take(platform: Platform, watched: WatchedPlace, files: Mapping[str, str], run_id: str) -> Outcome:
    """Makes a new version of these files ({name: version}), refuses them, or finds that it was done. Raises InputError
    for what no arriving file can mend, TransientError for an outage."""
    # by what is written, and not by the place: of two places into one file the second must see the first one's rows
    names = sharing(platform, watched)
    with exclusive(platform.home.folder("work") / f"arrivals-{min(names)}-{watched.into}.lock"):
        _finish_begun(platform, watched, run_id)
        facts = _facts(platform, watched, names)
        done = _handled(facts)
        wanted = {name: version for name, version in files.items() if (name, version) not in done}
        if waits := _open_proposal(platform, watched, facts) if wanted else "":
            return Outcome(passed_on=waits)
        arrived, refused, changed = _read(platform, watched, wanted)
        known = {file["sha256"] for fact in facts if fact.kind == "produced" for file in fact.body["files"]}
        again = tuple(TakenFile(f.name, f.version, f.sha256, 0, 0) for f in arrived if f.sha256 in known)
        new = [file for file in arrived if file.sha256 not in known]
        outcome = _committed(platform, watched, new, again)
        outcome = replace(outcome, refused=(*outcome.refused, *refused), changed=changed)
        if outcome.taken:
            _record(platform, watched, outcome, run_id)
        for file in outcome.refused:
            _refuse(platform, watched, file, run_id)
        return outcome


def batch_digest(files: Mapping[str, str]) -> str:
    """Names what a look offers, without reading it."""
    return digest_of(dict(files))


def _facts(platform: Platform, watched: WatchedPlace, names: Collection[str]) -> list[Fact]:
    """All facts about files that arrived for the same file of these models, by whichever place, in order."""
    facts = (fact for name in names for fact in platform.ledger.facts(name))
    into = (fact for fact in facts if fact.subject == SUBJECT and fact.body["into"] == watched.into)
    return sorted(into, key=lambda fact: fact.sequence)


def _handled(facts: Iterable[Fact]) -> set[tuple[str, str]]:
    ended = (fact for fact in facts if fact.kind in ("produced", "refused"))
    return {(file["name"], file["version"]) for fact in ended for file in fact.body["files"]}


def _open_proposal(platform: Platform, watched: WatchedPlace, facts: Iterable[Fact]) -> str:
    """Why the next files wait: a branch with earlier ones that is neither merged nor gone. Empty when there is none."""
    bodies = [fact.body for fact in facts if fact.kind == "produced" and fact.body["branch"]][-1:]
    bodies += _begun_elsewhere(watched, facts)
    open_now = [(body, tip) for body in bodies if (tip := platform.dataset_commits.tip(body["branch"]))]
    if not open_now:
        return ""
    head = head_of(platform)
    for body, tip in open_now:
        if not platform.source.is_ancestor(tip, head) and not _same_data(platform, body["path"], tip, head):
            branch = body["branch"]
            return f"the branch {branch} with earlier rows is open: merge it or delete it, then more are taken"
    return ""


def _begun_elsewhere(watched: WatchedPlace, facts: Iterable[Fact]) -> list[dict[str, Any]]:
    """What another place's run began and did not end: it may have been killed after it pushed. A run of this place
    would finish its own."""
    facts = list(facts)
    ended = {fact.fingerprint for fact in facts if fact.kind == "produced"}
    begun = {
        fact.fingerprint: fact.body
        for fact in facts
        if fact.kind == "intended" and fact.body["place"] != watched.name and fact.fingerprint not in ended
    }
    return list(begun.values())


def _same_data(platform: Platform, path: str, one: str, other: str) -> bool:
    """Whether both revisions hold the same version of a file, as after a merge that made another commit."""
    try:
        return platform.data.listed(one, path) == platform.data.listed(other, path)
    except InputError:  # one of them has no such file
        return False


def _read(
    platform: Platform, watched: WatchedPlace, files: Mapping[str, str]
) -> tuple[list[Arrived], tuple[RefusedFile, ...], tuple[str, ...]]:
    """The files' bytes, those that cannot be read whatever is in them, and those that changed since they were seen."""
    place = platform.place(watched)
    arrived: list[Arrived] = []
    refused: list[RefusedFile] = []
    changed: list[str] = []
    for name, version in sorted(files.items()):
        try:
            content = place.read(name, version)
        except InputError as error:
            refused.append(RefusedFile(name, version, "", error.problems))
            continue
        if content is None:
            changed.append(name)
        else:
            arrived.append(Arrived(name, version, hashlib.sha256(content).hexdigest(), content))
    return arrived, tuple(refused), tuple(changed)


def _committed(
    platform: Platform, watched: WatchedPlace, files: Collection[Arrived], again: tuple[TakenFile, ...]
) -> Outcome:
    """Judges the files beside the newest data and proposes their rows; on a branch that moves, once more."""
    outcome = Outcome(again)
    for _ in range(ATTEMPTS if files else 0):
        dataset = dataset_now(platform, watched)
        judged = judge_arrivals(files, dataset.known, dataset.spec.data.pii)
        outcome = Outcome((*judged.taken, *again), judged.refused)
        if not judged.rows:
            break
        branch = f"arrivals/{watched.name}/{digest_of_contents(judged.taken)[:12]}"
        revision = _propose(platform, watched, dataset, judged, branch)
        merged = _merge(platform, watched, revision)
        told = _passed_on(platform, branch, merged)
        outcome = replace(
            outcome, rows=len(judged.rows), path=dataset.path, revision=revision, branch=branch, passed_on=told
        )
        if merged.state != "moved":
            break
    return outcome


def _propose(platform: Platform, watched: WatchedPlace, dataset: Dataset, judged: Judged, branch: str) -> str:
    """The commit with the new rows. The intent fixes its time, so a repetition is the same commit."""
    digest = digest_of_contents(judged.taken)
    body = _body(watched, dataset.path, judged.taken, len(judged.rows), branch)
    once = f"arrivals:intended:{watched.name}:{digest[:32]}:{dataset.revision[:12]}"
    intent = platform.ledger.append(
        "intended", model=watched.model, subject=SUBJECT, fingerprint=digest, body=body, once=once
    )
    proposal = Proposal(
        base=dataset.revision,
        branch=branch,
        path=dataset.path,
        declared_in=dataset.declared_in,
        content=new_version(dataset.present, judged.rows),
        message=message_of(watched, dataset, judged, digest),
        at=intent.at,
    )
    return platform.dataset_commits.propose(proposal, instead_of=platform.dataset_commits.tip(branch))


def _merge(platform: Platform, watched: WatchedPlace, revision: str) -> Merged:
    if platform.source.is_ancestor(revision, head_of(platform)):
        return Merged("merged")
    if watched.merge == "review":
        return Merged("kept", "the policy of this place")
    return platform.dataset_commits.merge(revision, platform.settings.branch)


def _passed_on(platform: Platform, branch: str, merged: Merged) -> str:
    if merged.state == "merged":
        return f"merged into {platform.settings.branch}"
    return f"{branch} waits for review: {merged.reason}"


def _finish_begun(platform: Platform, watched: WatchedPlace, run_id: str) -> None:
    """Writes the outcome of what a killed run had pushed already. Where it had not, nothing has happened."""
    facts = [fact for fact in _facts(platform, watched, [watched.model]) if fact.body["place"] == watched.name]
    ended = {fact.fingerprint for fact in facts if fact.kind == "produced"}
    for fact in reversed(facts):
        body = fact.body
        tip = platform.dataset_commits.tip(body["branch"]) if fact.kind == "intended" else None
        if tip and fact.fingerprint not in ended:
            ended.add(fact.fingerprint)
            told = _passed_on(platform, body["branch"], _merge(platform, watched, tip))
            taken = tuple(TakenFile(**file) for file in body["files"])
            outcome = Outcome(taken, (), (), body["rows"], body["path"], tip, body["branch"], told)
            _record(platform, watched, outcome, run_id)


def _record(platform: Platform, watched: WatchedPlace, outcome: Outcome, run_id: str) -> None:
    digest = digest_of_contents(file for file in outcome.taken if file.rows)  # those without were taken before
    body = _body(watched, outcome.path, outcome.taken, outcome.rows, outcome.branch)
    body |= {"revision": outcome.revision, "passed_on": outcome.passed_on, "run_id": run_id}
    body |= {"digest": digest, "inputs": {}, "verdict": "passed"}
    offered = batch_digest({file.name: file.version for file in outcome.taken})
    once = f"arrivals:produced:{watched.name}:{offered[:32]}"
    platform.ledger.append("produced", model=watched.model, subject=SUBJECT, fingerprint=digest, body=body, once=once)


def _refuse(platform: Platform, watched: WatchedPlace, file: RefusedFile, run_id: str) -> None:
    named = {"name": file.name, "version": file.version, "sha256": file.sha256}
    reason = "; ".join(str(problem) for problem in file.problems)
    body = {"place": watched.name, "into": watched.into, "files": [named], "reason": reason, "run_id": run_id}
    body["problems"] = [problem.as_dict() for problem in file.problems]
    once = f"arrivals:refused:{watched.name}:{digest_of(named)[:32]}"
    platform.ledger.append("refused", model=watched.model, subject=SUBJECT, body=body, once=once)


def _body(watched: WatchedPlace, path: str, taken: Iterable[TakenFile], rows: int, branch: str) -> dict[str, Any]:
    files = [file.as_dict() for file in taken]
    where = {"place": watched.name, "source": watched.place, "path": path, "into": watched.into}
    return {**where, "files": files, "rows": rows, "branch": branch}
