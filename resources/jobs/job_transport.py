"""What a job's door and its pod tell each other, in one folder of an object store. Either may die at any moment.

    folders/<kind>/<digest>/                       inputs, code and results by content: nothing is sent twice
    jobs/<fingerprint>/result.json                 the digest of the result; the job is done when this is there
    jobs/<fingerprint>/checkpoints/                what a training has reached, for whichever pod goes on
    jobs/<fingerprint>/attempts/<n>/attempt.json   the intent: what the pod is to do, written before the Job is made
    jobs/<fingerprint>/attempts/<n>/end.json       the outcome, written before it is acted on
    jobs/<fingerprint>/pods/<n>/<uid>/             messages/<i>.json (Dagster Pipes), log/<i>, and said.json, last

A record is written once and never changed: of two writers the first wins, and both read what it wrote. So a door that
is started again, or a second one, finds the same attempts and goes on with them.
"""

import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from llmops_core.errors import IntegrityError
from llmops_core.fingerprint import canonical_json
from llmops_core.job_attempts import Past
from llmops_core.job_outcomes import End, Outcome
from llmops_core.manifest import MANIFEST
from llmops_core.uris import parse_s3
from resources.outside import retried
from resources.storage.artifact_store import FolderArtifacts
from resources.storage.object_store import NamedPlace, NotThere
from resources.storage.s3_artifacts import S3Artifacts
from resources.storage.s3_folder import S3Folder

INPUT, CODE, OUTPUT = "job_input", "job_code", "job_output"
CODE_FILE = "code.tar"
LEFT_OUT = ("__pycache__", ".git")

Record = dict[str, Any]


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt as the store has it; `end` is None while nobody has recorded how it ended."""

    number: int
    intent: Record
    end: Record | None

    @property
    def past(self) -> Past:
        ended = self.end or {}
        outcome = Outcome(ended.get("outcome", Outcome.LOST.value))
        return Past(self.number, outcome, float(self.intent["memory_gb"]), str(ended.get("run_id", "")))


@dataclass(frozen=True)
class _OneClient(NamedPlace):
    """A place whose client is made once: making one takes a quarter of a second, and a job asks a dozen times."""

    origin: NamedPlace | None = None
    kept: list[Any] = field(default_factory=list)

    def client(self, credentials: bool = True) -> Any:
        if not self.kept and self.origin is not None:
            self.kept.append(self.origin.client(credentials))
        return self.kept[0]


class JobStore:
    """The folder that `place` names. `cache` is a folder of this machine for what is sent and fetched."""

    def __init__(self, place: NamedPlace, cache: Path) -> None:
        self._cache = cache
        self.place = _OneClient(place.file, place.field, place.uri, place.endpoint, place.region, place)
        location = parse_s3(place.uri)
        self.bucket, self.prefix = location.bucket, f"{location.prefix}/" if location.prefix else ""
        self._records = S3Folder(self.place)

    @property
    def client(self) -> Any:
        """For the classes of Dagster Pipes, which take a client."""
        return self.place.client()

    @cached_property
    def _folders(self) -> S3Artifacts:
        return S3Artifacts(replace(self.place, uri=f"{self.place.uri.rstrip('/')}/folders"), self._cache)

    def send(self, kind: str, folder: Path) -> str:
        """The digest under which the folder's files now are in the store."""
        try:
            return self._folders.publish(kind, folder).digest
        except IntegrityError:
            # the store's lifecycle may have taken files whose manifest stays a day longer (llmops_core/lifecycle.py)
            self._folders.withdraw(kind, FolderArtifacts(self._cache).publish(kind, folder).digest)
            return self._folders.publish(kind, folder).digest

    def fetch(self, kind: str, digest: str) -> Path:
        """The files on this machine, read-only. Raises IntegrityError when the store does not have them whole."""
        found = self._folders.get(kind, digest)
        if found is None:
            raise IntegrityError(f"{kind} {digest[:12]} is gone from {self.place.uri}")
        return found.path

    def send_code(self, code: Path, scratch: Path) -> str:
        """The digest of the code in one file, which has the same bytes wherever it is made."""
        scratch.mkdir(parents=True, exist_ok=True)
        with tarfile.open(scratch / CODE_FILE, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in _sorted(code):
                entry = archive.gettarinfo(path, str(path.relative_to(code)))
                entry.uid = entry.gid = entry.mtime = 0
                entry.uname = entry.gname = ""
                if entry.isreg():
                    with path.open("rb") as stream:
                        archive.addfile(entry, stream)
                else:
                    archive.addfile(entry)
        return self.send(CODE, scratch)

    def fetch_code(self, digest: str, target: Path) -> None:
        """Unpacks the code; links that lead out of it and special files are refused by tarfile's filter."""
        with tarfile.open(self.fetch(CODE, digest) / CODE_FILE) as archive:
            archive.extractall(target, filter="data")

    def read(self, name: str) -> bytes | None:
        """The bytes of one object of the folder, None if it is not there."""
        wanted = {"Bucket": self.bucket, "Key": f"{self.prefix}{name}"}
        try:
            return retried(lambda: self.place.asked(lambda: self.client.get_object(**wanted)["Body"].read()))
        except NotThere:
            return None

    def job(self, fingerprint: str) -> "JobRecords":
        return JobRecords(self._records, self, f"jobs/{fingerprint}")


class JobRecords:
    """What is written of one job, over all its attempts."""

    def __init__(self, records: S3Folder, store: JobStore, below: str) -> None:
        self._records, self._store, self._below = records, store, below

    @property
    def checkpoints(self) -> str:
        return f"s3://{self._store.bucket}/{self._store.prefix}{self._below}/checkpoints"

    def forget_checkpoints(self) -> None:
        """Manifests first: what is left of a checkpoint then is none."""
        below = f"{self._below}/checkpoints"
        for name in sorted(self._records.listed(below), key=lambda each: not each.endswith(f"/{MANIFEST}")):
            self._records.remove(f"{below}/{name}")

    def result(self) -> Record | None:
        return self._read(f"{self._below}/result.json")

    def publish_result(self, record: Mapping[str, Any]) -> None:
        self._records.put_new(f"{self._below}/result.json", canonical_json(dict(record)))

    def attempts(self) -> list[AttemptRecord]:
        """All attempts in order, those without an end too."""
        names = self._records.listed(f"{self._below}/attempts")
        found: list[AttemptRecord] = []
        for name in names:
            number, _, file = name.partition("/")
            if file == "attempt.json" and number.isdecimal():
                intent = json.loads(self._records.content(names[name]))
                ended = names.get(f"{number}/end.json")
                end = json.loads(self._records.content(ended)) if ended is not None else None
                found.append(AttemptRecord(int(number), intent, end))
        return sorted(found, key=lambda each: each.number)

    def intend(self, number: int, intent: Mapping[str, Any]) -> Record:
        """Writes what attempt `number` will be; the record that is there, if another was first."""
        return self._first(f"{self._below}/attempts/{number}/attempt.json", dict(intent))

    def intent(self, number: int) -> Record:
        found = self._read(f"{self._below}/attempts/{number}/attempt.json")
        if found is None:
            raise IntegrityError(f"{self._store.place.uri}/{self._below}/attempts/{number} has no attempt.json")
        return found

    def ended(self, number: int, end: End, **more: Any) -> Record:
        """Writes how attempt `number` ended; the first word stands."""
        return self._first(f"{self._below}/attempts/{number}/end.json", {**end.as_dict(), **more})

    def pods(self, number: int) -> list[str]:
        """The uids of all pods that have written anything."""
        names = self._records.listed(f"{self._below}/pods/{number}")
        return sorted({name.partition("/")[0] for name in names})

    def seen(self, number: int) -> dict[str, tuple[float, float]]:
        """{uid: when it wrote first and last} of all pods that have written anything, in seconds since 1970."""
        times: dict[str, list[float]] = {}
        for name, stored in self._records.listed(f"{self._below}/pods/{number}").items():
            times.setdefault(name.partition("/")[0], []).append(stored.modified)
        return {pod: (min(moments), max(moments)) for pod, moments in times.items()}

    def pod_prefix(self, number: int, pod: str) -> str:
        """The key under which a pod writes, in the bucket."""
        return f"{self._store.prefix}{self._below}/pods/{number}/{pod}"

    def said(self, number: int) -> dict[str, Record]:
        """The last words of the attempt's pods, by uid."""
        names = self._records.listed(f"{self._below}/pods/{number}")
        ends = {name.partition("/")[0]: found for name, found in names.items() if name.endswith("/said.json")}
        return {pod: json.loads(self._records.content(found)) for pod, found in ends.items()}

    def say(self, number: int, pod: str, words: Mapping[str, Any]) -> None:
        self._records.put_new(f"{self._below}/pods/{number}/{pod}/said.json", canonical_json(dict(words)))

    def log(self, number: int, pod: str, index: int) -> bytes | None:
        """A piece of a pod's output, counted from 1."""
        return self._store.read(f"{self._below}/pods/{number}/{pod}/log/{index}")

    def messages(self, number: int, pod: str, index: int) -> bytes | None:
        """Some of a pod's Pipes messages, as Dagster's channel writes them; counted from 1."""
        return self._store.read(f"{self._below}/pods/{number}/{pod}/messages/{index}.json")

    def put_log(self, number: int, pod: str, index: int, content: bytes) -> None:
        self._records.put_new(f"{self._below}/pods/{number}/{pod}/log/{index}", content)

    def _first(self, name: str, record: Record) -> Record:
        if self._records.put_new(name, canonical_json(record)):
            return record
        return self._read(name) or record

    def _read(self, name: str) -> Record | None:
        content = self._store.read(name)
        return None if content is None else json.loads(content)


def _sorted(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir(), key=lambda each: each.name):
        if path.name in LEFT_OUT:
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _sorted(path)


def take_out(fetched: Path, out: Path) -> None:
    """Copies a result to where the caller looks for it; it may be changed there, as after a local job."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(fetched, out, ignore=lambda folder, names: [MANIFEST] if Path(folder) == fetched else [])
    for path in (out, *out.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
