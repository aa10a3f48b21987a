"""Moving a platform's state to another home: facts with their chain, artefacts, registry, ratings and public keys.

Everything that is made cannot be changed and is known by its digest, so moving is copying, and repeating is free. What
records rest on comes in before the records: a killed import leaves artefacts that no fact names yet, and the next one
goes on. What serves is not moved: `llmops release` at the new place puts the same versions into production again,
without making anything anew.

Private keys stay where they are. The new platform signs with a key of its own and keeps the old one's public key; where
its settings name whose signatures count, that file must have the old one's before anything is taken in.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from llmops_assets.operations.identity import APPROVER_KEY, PLATFORM_KEY, public_keys, take_in
from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.facts import Fact, first_broken
from llmops_core.tree_path import checked_path
from resources.storage.archive import CHUNK_BYTES, Archive, ArchiveWriter, Hashed, writing
from resources.wiring import Platform

LEDGER, ORIGIN = "ledger.json", "origin.json"
Entries = list[tuple[Fact, str | None]]


@dataclass(frozen=True)
class Moved:
    """What an archive holds; `new_facts` were not here before an import."""

    file: str
    facts: int
    new_facts: int
    artifacts: int
    submissions: int


def export_state(platform: Platform, file: Path) -> Moved:
    """Writes the archive. Raises InputError for a file that is there, IntegrityError for state that is not what it was:
    nothing unproven is moved."""
    entries = platform.ledger.entries()  # first: what facts name is there before them
    if (broken := first_broken(fact for fact, _ in entries)) is not None:
        raise IntegrityError(f"line {broken.sequence} of the ledger is not what was written there; nothing is exported")
    with writing(file) as archive:
        origin = {"environment": platform.settings.name, "artifacts": platform.artifacts.uri}
        archive.add(ORIGIN, json.dumps(origin).encode())
        archive.add(LEDGER, json.dumps([{**fact.model_dump(), "once": once} for fact, once in entries]).encode())
        for name in (PLATFORM_KEY, APPROVER_KEY):
            for number, key in enumerate(public_keys(platform, name)):
                archive.add(f"keys/{number}-{name}.pub", f"{key}\n".encode())
        submissions = platform.feedback.submissions()
        for model, name in submissions:
            archive.add(f"feedback/{model}/{name}", platform.feedback.submitted(model, name))
        with tempfile.TemporaryDirectory(dir=platform.home.folder("work")) as scratch:
            platform.registry_at_rest.export_to(Path(scratch))
            for path in sorted(p for p in Path(scratch).rglob("*") if p.is_file()):
                archive.add_file(f"registry/{path.relative_to(scratch)}", path)
        artifacts = platform.artifacts.listed()
        for kind, digest in artifacts:
            _add_artifact(platform, archive, kind, digest)
    return Moved(str(file), len(entries), 0, len(artifacts), len(submissions))


def import_state(platform: Platform, file: Path) -> Moved:
    """Takes the archive in. Raises IntegrityError for one that is not whole, InputError where this platform has facts,
    or versions in its registry, of another history. Safe to repeat, also after a kill."""
    archive = Archive(file)
    origin, entries = _head(archive, file)
    _refuse_other_history(platform, entries)
    artifacts = submissions = 0
    with tempfile.TemporaryDirectory(dir=platform.home.folder("work")) as scratch:
        registry = Path(scratch, "registry")
        registry.mkdir()
        for (kind, *_), members in groupby(archive.members(), lambda member: _place(member[0])):
            for name, stream in members if kind != "artifacts" else ():
                submissions += _take_in(platform, name, stream, registry)
            if kind == "artifacts":
                _take_artifact_in(platform, members, Path(scratch))
                artifacts += 1
        here = platform.artifacts.uri
        platform.registry_at_rest.import_from(registry, lambda uri: _moved(uri, origin["artifacts"], here))
    new = platform.ledger.restore(entries)
    return Moved(str(file), len(entries), new, artifacts, submissions)


def _add_artifact(platform: Platform, archive: ArchiveWriter, kind: str, digest: str) -> None:
    artifact = platform.artifacts.get(kind, digest)
    if artifact is None:
        raise IntegrityError(f"{kind} {digest[:12]} went while it was exported")
    for entry in artifact.manifest.files:
        name = f"artifacts/{kind}/{digest}/{entry.path}"
        archive.add_file(name, artifact.path / entry.path)
        if archive.sums[name] != (entry.sha256, entry.size_bytes):
            raise IntegrityError(f"{entry.path} of {kind} {digest[:12]} is not what was made: `llmops audit` says more")


def _head(archive: Archive, file: Path) -> tuple[dict[str, str], Entries]:
    found = {name: stream.read() for name, stream in archive.members() if name in (ORIGIN, LEDGER)}
    try:
        told = json.loads(found[LEDGER])
        entries = [(Fact(**{k: v for k, v in each.items() if k != "once"}), each["once"]) for each in told]
        return json.loads(found[ORIGIN]), entries
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{file} holds no state of a platform: {error!r}") from error


def _refuse_other_history(platform: Platform, entries: Entries) -> None:
    """Before anything is written. The ledger asks again while it restores."""
    if (broken := first_broken(fact for fact, _ in entries)) is not None:
        raise IntegrityError(f"line {broken.sequence} of the ledger in the archive is not what was written there")
    here = [fact.digest for fact in platform.ledger.facts()]
    if here != [fact.digest for fact, _ in entries[: len(here)]]:
        message = "this platform has facts of its own; take the archive into an empty one (another LLMOPS_HOME)"
        raise InputError(Problem("ledger", "", f"{len(here)} facts", "none, or the archive's first ones", message))


def _place(name: str) -> tuple[str, ...]:
    """All files of one artefact have the same."""
    parts = name.split("/")
    return tuple(parts[:3]) if parts[0] == "artifacts" else (parts[0],)


def _take_in(platform: Platform, name: str, stream: Hashed, registry: Path) -> int:
    """One file that is no artefact's; whether it was a submission of ratings."""
    kind, _, rest = name.partition("/")
    if kind == "registry":
        place = registry / checked_path(rest)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(stream.read())
    elif kind == "feedback":
        model, _, file = rest.partition("/")
        platform.feedback.restore(model, file, stream.read())
        return 1
    elif kind == "keys":
        name = PLATFORM_KEY if rest.endswith(f"-{PLATFORM_KEY}.pub") else APPROVER_KEY
        take_in(platform, name, stream.read().decode())
    return 0


def _take_artifact_in(platform: Platform, members: Iterator[tuple[str, Hashed]], scratch: Path) -> None:
    kind = digest = ""
    known = False
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for name, stream in members:
            if not kind:
                _, kind, digest, _ = name.split("/", 3)
                known = platform.artifacts.get(kind, digest) is not None
            if not known:
                _write(stream, Path(folder) / name.split("/", 3)[3])
        made = digest if known else platform.artifacts.publish(kind, Path(folder)).digest
    if made != digest:
        raise IntegrityError(f"{kind} {digest[:12]} came in as {made[:12]}: the archive names it wrongly")


def _write(stream: Hashed, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        while chunk := stream.read(CHUNK_BYTES):
            file.write(chunk)


def _moved(uri: str, there: str, here: str) -> str:
    return here + uri.removeprefix(there) if uri.startswith(f"{there}/") else uri
