"""What a commit asks of each model, decided once: the same answer whoever asks, however often.

Which models a commit can touch is told from the paths that differ (llmops_core/touched.py); whether it does, by the
fingerprint of production. What was asked for is a fact with a number, the generation. A request is written before any
run exists: a tick that is killed, repeated or overlapped by another finds the same fact and so the same run key. Going
back to an earlier commit is a new request, because the latest one asked for something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmops_assets.release import Release, models_at, open_release, ruling_files, source_path
from llmops_assets.repositories import named, owner, owners, repository_in
from llmops_core.errors import InputError, TransientError
from llmops_core.facts import Fact
from llmops_core.fingerprint import digest_of
from llmops_core.names import why_no_model
from llmops_core.touched import may_track, touched
from llmops_core.validation import lacks
from resources.git.source import Commit, Passage
from resources.wiring import Platform

REQUEST_ATTEMPTS = 20
Verb = Literal["release", "nothing", "refused", "untried", "waits", "silent", "retired"]


@dataclass(frozen=True)
class Change:
    """From one revision of a branch (None: nothing is known) to its newest, and the models this may touch."""

    base: str | None
    head: Commit
    passage: Passage
    models: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """What happens to a model, and why in one sentence. `request` is the fact that asks for a release, `ends` the one
    that ends all releases asked for before it."""

    model: str
    verb: Verb
    why: str
    request: Fact | None = None
    ends: Fact | None = None


def change_since(platform: Platform, base: str | None, head: str) -> Change:
    """All models when `base` is not known here; else those that what differs can touch."""
    newest = platform.source.commit(head)
    passage = platform.source.passage(base, head) if base else Passage("unknown")
    changed = platform.source.changed(base, head) if base else None
    if base is None or changed is None:
        return Change(base, newest, passage, tuple(sorted({*models_at(platform, head), *_active(platform)})))
    return Change(base, newest, passage, tuple(sorted(_touched(platform, base, head, changed))))


def decide(platform: Platform, model: str, change: Change, by: str) -> Decision:
    """Writes what the decision needs to be made only once; launches nothing."""
    head = change.head.revision
    if fault := why_no_model(model):
        return Decision(model, "refused", f"refused: {fault}")
    known = platform.ledger.newest(model, "requested", "retired")
    if (other := owner(known)) not in (None, platform.repository):
        return _leave(platform, model, head, named(other or ""))
    if not _is_model(platform, model, head):
        return _retire(platform, model, change)
    try:
        release = open_release(platform, model, head)
    except InputError as error:
        _refuse(platform, model, head, by, known, str(error))
        return Decision(model, "refused", f"refused: {error}")
    if missing := lacks(release.spec, release.inputs.production):
        return Decision(model, "untried", f"not tried here: {'; '.join(missing)}")
    if known is not None and known.kind == "requested" and known.fingerprint == release.fingerprints["production"]:
        return Decision(model, "nothing", "nothing it depends on changed", known)  # it may have no run yet
    if known is not None and known.fingerprint == release.fingerprints["production"]:
        return Decision(model, "nothing", f"{known.body['by']} ended it, and nothing it depends on changed since")
    if known is not None and known.body.get("by", by) != by and _was_so_before(release, change):
        asked = f"{known.body['by']} asked for {known.body.get('revision', 'its end')[:12]}"
        return Decision(model, "nothing", f"nothing it depends on changed, and {asked}")
    if lost := platform.data.lacking(head, _data_paths(release)):
        reason = "; ".join(f"{path}: {why}" for path, why in lost.items())
        _refuse(platform, model, head, by, known, reason, subject="dataset")
        return Decision(model, "waits", f"waits for data: {reason}")
    fact = request(release, by, change)
    return Decision(model, "release", f"release of {head[:12]} asked for: {fact.body['reason']}", fact)


def _was_so_before(release: Release, change: Change) -> bool:
    """Whether the commits that came change nothing for this model: what a person asked for then stands."""
    if change.base is None:
        return False
    try:
        before = open_release(release.platform, release.model, change.base)
    except InputError:
        return False
    return before.fingerprints["production"] == release.fingerprints["production"]


def request(release: Release, by: str, change: Change | None = None) -> Fact:
    """The fact that asks for this release: the newest one of the model if that asks for the same, else a new one."""
    ledger, fingerprint = release.platform.ledger, release.fingerprints["production"]
    commit = change.head if change else release.platform.source.commit(release.revision)
    for _ in range(REQUEST_ATTEMPTS):
        known = ledger.newest(release.model, "requested", "retired")
        if owner(known) not in (None, release.platform.repository):
            break  # another repository took the name at this moment
        if known is not None and known.kind == "requested" and known.fingerprint == fingerprint:
            return known
        generation = known.body["generation"] + 1 if known else 1
        where = {"revision": release.revision, "repository": release.platform.repository}
        body = {"generation": generation, "by": by, **where, **_said(commit, change)}
        once = f"requested:{release.model}:{generation}"
        fact = ledger.append(
            "requested", model=release.model, subject="run", fingerprint=fingerprint, body=body, once=once
        )
        if fact.fingerprint == fingerprint and repository_in(fact) == release.platform.repository:
            return fact  # else another tick took this number for something else
    raise TransientError(f"{release.model}: others ask for releases faster than this one; it is tried again")


def run_key(request: Fact) -> str:
    """Names a request for ever: what was asked for, which request of the model it was, and the fact that says it: a
    ledger that was restored from a backup counts again from there, but writes other facts."""
    return f"{request.model}:{request.fingerprint[:16]}:{request.body['generation']}:{request.digest[:16]}"


def _touched(platform: Platform, base: str, head: str, changed: frozenset[str]) -> set[str]:
    rules = ruling_files(platform, head)
    pointed = any(path.endswith(".dvc") or path.endswith(("dvc.lock", "dvc.yaml")) for path in changed)
    surveys = [platform.data.survey(revision) for revision in (base, head)] if pointed else []
    moved = _moved(*(survey.pointers for survey in surveys)) if surveys else set[str]()
    reads = {path.split("/")[1]: paths for path, paths in platform.model_reads.at(head).values.items()}
    broken = {problem.file for survey in surveys for problem in survey.problems} & changed  # before, or now
    moved |= {path for paths in reads.values() for path in paths for file in broken if may_track(file, path)}
    names = touched(changed, moved, reads, rules)
    return {name for name in names if any(_is_model(platform, name, revision) for revision in (head, base))}


def _is_model(platform: Platform, name: str, revision: str) -> bool:
    return platform.source.tree_id(revision, f"models/{name}/model.yaml") is not None


def _moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """DVC outputs that are new, gone, or point to other content."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def _active(platform: Platform) -> set[str]:
    """Models of this repository that were asked for and not retired since: their folders may be gone."""
    return {model for model, repository in owners(platform.ledger).items() if repository == platform.repository}


def _leave(platform: Platform, model: str, head: str, other: str) -> Decision:
    """A name that belongs to another repository. It is looked at again, because it may become free without a commit
    here."""
    if not _is_model(platform, model, head):
        return Decision(model, "nothing", f"it is a model of {other}")
    reason = f"{other} has a model of this name: rename models/{model} here, or remove it there"
    body = {"reason": reason, "revision": head, "repository": platform.repository}
    once = f"refused:{model}:{head}:repository {platform.repository}"
    platform.ledger.append("refused", model=model, subject="repository", body=body, once=once)
    return Decision(model, "waits", f"refused: {reason}")


def _retire(platform: Platform, model: str, change: Change) -> Decision:
    """A removed folder ends a model's releases. What serves goes on until a person ends it."""
    why = f"models/{model} was removed: no releases any more; production keeps serving until `llmops retire {model}`"
    for _ in range(REQUEST_ATTEMPTS):
        known = platform.ledger.newest(model, "requested", "retired")
        if known is None or known.kind == "retired":
            return Decision(model, "retired", why, ends=known)
        generation = known.body["generation"] + 1
        where = {"revision": change.head.revision, "repository": platform.repository}
        body = {"generation": generation, **where, **_said(change.head, change)}
        once = f"requested:{model}:{generation}"
        platform.ledger.append("retired", model=model, subject="folder", body=body, once=once)
    raise TransientError(f"{model}: others ask for releases faster than this one; it is tried again")


def _refuse(
    platform: Platform, model: str, head: str, by: str, known: Fact | None, reason: str, subject: str = "model.yaml"
) -> None:
    """Writes that a commit asks for no release, once for each commit and reason after the newest request. What was
    asked for before goes on."""
    reason = reason.encode(errors="replace").decode()  # a path may hold bytes that are no text
    body = {"reason": reason, "revision": head, "by": by}
    after = known.sequence if known else 0
    once = f"refused:{model}:{after}:{head}:{subject}:{digest_of(reason)[:12]}"
    platform.ledger.append("refused", model=model, subject=subject, body=body, once=once)


def _said(commit: Commit, change: Change | None) -> dict[str, Any]:
    """Who asks and why, and the commits that act as one with the newest."""
    came = change.passage.commits if change else ()
    return {
        "author": commit.email,
        "reason": subject_of(commit),
        "commits": [f"{each.revision[:12]} {subject_of(each)}" for each in came],
        "history": change.passage.kinship if change else "same",
        "dropped": [f"{each.revision[:12]} {subject_of(each)}" for each in change.passage.dropped] if change else [],
    }


def subject_of(commit: Commit) -> str:
    """Its first line with something in it, without what would steer a terminal."""
    lines = ("".join(sign for sign in line if sign.isprintable()).strip() for line in commit.message.splitlines())
    return next((line for line in lines if line), "")[:120]


def _data_paths(release: Release) -> list[str]:
    folder = release.spec.data.path
    paths = [f"{folder}/{name}".rstrip("/") for name in release.inputs.data]
    return paths + ([path] if (path := source_path(release.spec)) else [])
