"""The door to feedback: ratings as they were submitted, kept for ever.

    <place>/<model>/<time>-<digest>.jsonl      one submission; the digest is the SHA-256 of its bytes

Nothing is ever changed, and every submission has a name of its own, so writers need no lock and cannot harm each other.
The same bytes are the same submission: sending them again, because the answer got lost, adds nothing. Where two
senders do that in the same instant two files come to be, and the reader counts one.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.fingerprint import digest_of_bytes, is_digest
from llmops_core.names import is_model_name
from llmops_core.ratings import Rating
from resources.storage.object_store import NamedPlace
from resources.storage.publishing import publish_text
from resources.storage.s3_folder import S3Folder


@dataclass(frozen=True)
class Submission:
    """Ratings that came together. `repeated` says that they were there already."""

    place: str
    digest: str
    repeated: bool


class FeedbackStore(ABC):
    """Append-only. All methods raise InputError for a model's name that is none."""

    def submit(self, model: str, ratings: Sequence[Rating]) -> Submission:
        """Keep ratings of a model, all or none. Raises EnvironmentLacks for a full disk."""
        content = "".join(json.dumps(rating.as_dict(), sort_keys=True) + "\n" for rating in ratings).encode()
        digest = digest_of_bytes(content)
        for earlier in self._names(_checked(model)):
            if earlier.endswith(f"-{digest}.jsonl"):
                return Submission(self._place(model, earlier), digest, repeated=True)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{digest}.jsonl"
        self._keep(model, name, content)
        return Submission(self._place(model, name), digest, repeated=False)

    def ratings(self, model: str) -> list[Rating]:
        """All ratings of a model. Raises IntegrityError where one is not what was submitted."""
        by_digest = {self._digest_in(model, name): name for name in sorted(self._names(_checked(model)))}
        return [rating for name in by_digest.values() for rating in self._ratings(model, name)]

    def submissions(self) -> list[tuple[str, str]]:
        """(model, name) of every submission."""
        return [(model, name) for model in self._models() for name in sorted(self._names(model))]

    def submitted(self, model: str, name: str) -> bytes:
        """The bytes of a submission. Raises IntegrityError where they are not what was submitted."""
        digest, content = self._digest_in(model, name), self._content(_checked(model), name)
        if digest_of_bytes(content) != digest:
            place = self._place(model, name)
            raise IntegrityError(f"{place} is not what was submitted; restore it from a backup, or remove it")
        return content

    def restore(self, model: str, name: str, content: bytes) -> None:
        """Keep a submission of another store under its own name. Raises IntegrityError if it is none."""
        if "/" in name or digest_of_bytes(content) != self._digest_in(_checked(model), name):
            raise IntegrityError(f"{model}/{name} is not what was submitted")
        if name not in self._names(model):
            self._keep(model, name, content)

    @abstractmethod
    def _models(self) -> list[str]: ...

    @abstractmethod
    def _names(self, model: str) -> list[str]: ...

    @abstractmethod
    def _content(self, model: str, name: str) -> bytes: ...

    @abstractmethod
    def _keep(self, model: str, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _place(self, model: str, name: str) -> str:
        """Where a submission is, for people."""

    def _digest_in(self, model: str, name: str) -> str:
        digest = name.removesuffix(".jsonl").rpartition("-")[2]
        if not name.endswith(".jsonl") or not is_digest(digest):
            place = self._place(model, name)
            raise IntegrityError(f"{place} is no submission: nothing here writes such names; look why, then remove it")
        return digest

    def _ratings(self, model: str, name: str) -> list[Rating]:
        try:
            return [Rating(**json.loads(line)) for line in self.submitted(model, name).splitlines()]
        except (TypeError, ValueError) as error:
            raise IntegrityError(f"{self._place(model, name)} holds no ratings: {error}") from error


class FolderFeedback(FeedbackStore):
    """Submissions in a folder of this machine, or of a volume that several machines mount: read-only files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _models(self) -> list[str]:
        return sorted(folder.name for folder in self.root.glob("*") if folder.is_dir())

    def _names(self, model: str) -> list[str]:
        return [path.name for path in (self.root / model).glob("*.jsonl")]

    def _content(self, model: str, name: str) -> bytes:
        return (self.root / model / name).read_bytes()

    def _keep(self, model: str, name: str, content: bytes) -> None:
        publish_text(self.root / model / name, content.decode(), 0o444)

    def _place(self, model: str, name: str) -> str:
        return str(self.root / model / name)


class S3Feedback(FeedbackStore):
    """Submissions as objects of a bucket. InputError for a missing bucket and refused access, TransientError for a
    store that does not answer, from every method."""

    def __init__(self, place: NamedPlace) -> None:
        self._uri, self._bucket = place.uri.rstrip("/"), S3Folder(place)

    def _models(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self._bucket.listed("") if "/" in name})

    def _names(self, model: str) -> list[str]:
        return list(self._bucket.listed(model))

    def _content(self, model: str, name: str) -> bytes:
        return self._bucket.read(f"{model}/{name}")

    def _keep(self, model: str, name: str, content: bytes) -> None:
        self._bucket.put_new(f"{model}/{name}", content)

    def _place(self, model: str, name: str) -> str:
        return f"{self._uri}/{model}/{name}"


def _checked(model: str) -> str:
    if not is_model_name(model):
        expected = "a model's name: lower-case letters, digits, hyphens and dots"
        raise InputError(Problem("feedback", "model", ascii(model)[:80], expected, "there is no such model"))
    return model
