"""The door to feedback: ratings as they were submitted, kept for ever.

    <root>/<model>/<time>-<digest>.jsonl      one submission, read-only; the digest is the SHA-256 of its bytes

Nothing is ever changed, and every submission is a file of its own, so writers need no lock and cannot harm each other.
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
from resources.publishing import publish_text


@dataclass(frozen=True)
class Submission:
    """Ratings that came together. `repeated` says that they were there already."""

    path: Path
    digest: str
    repeated: bool


class FeedbackStore(ABC):
    """Append-only. Both methods raise InputError for a model's name that is none."""

    @abstractmethod
    def submit(self, model: str, ratings: Sequence[Rating]) -> Submission:
        """Keep ratings of a model, all or none. Raises EnvironmentLacks for a full disk."""

    @abstractmethod
    def submissions(self) -> list[Path]:
        """The file of every submission, below a folder of its model's name."""

    @abstractmethod
    def restore(self, model: str, name: str, content: bytes) -> None:
        """Keep a submission of another store under its own file name. Raises IntegrityError if it is none."""

    @abstractmethod
    def ratings(self, model: str) -> list[Rating]:
        """All ratings of a model. Raises IntegrityError where one is not what was submitted."""


class FolderFeedback(FeedbackStore):
    """Submissions in a folder of this machine, or of a volume that several machines mount."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def submit(self, model: str, ratings: Sequence[Rating]) -> Submission:
        folder = self._folder(model)
        text = "".join(json.dumps(rating.as_dict(), sort_keys=True) + "\n" for rating in ratings)
        digest = digest_of_bytes(text.encode())
        for earlier in folder.glob(f"*-{digest}.jsonl"):
            return Submission(earlier, digest, repeated=True)
        path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{digest}.jsonl"
        publish_text(path, text, 0o444)
        return Submission(path, digest, repeated=False)

    def ratings(self, model: str) -> list[Rating]:
        by_digest = {_digest_in(path): path for path in sorted(self._folder(model).glob("*.jsonl"))}
        return [rating for digest, path in by_digest.items() for rating in _read(path, digest)]

    def submissions(self) -> list[Path]:
        return sorted(self.root.glob("*/*.jsonl"))

    def restore(self, model: str, name: str, content: bytes) -> None:
        path = self._folder(model) / Path(name).name
        if digest_of_bytes(content) != _digest_in(path):
            raise IntegrityError(f"{model}/{name} is not what was submitted")
        if not path.exists():
            publish_text(path, content.decode(), 0o444)

    def _folder(self, model: str) -> Path:
        if not is_model_name(model):
            expected = "a model's name: lower-case letters, digits, hyphens and dots"
            raise InputError(Problem("feedback", "model", ascii(model)[:80], expected, "there is no such model"))
        return self.root / model


def _digest_in(path: Path) -> str:
    digest = path.stem.rpartition("-")[2]
    if not is_digest(digest):
        raise IntegrityError(f"{path} is no submission: nothing here writes such names; look why, then remove it")
    return digest


def _read(path: Path, digest: str) -> list[Rating]:
    content = path.read_bytes()
    if digest_of_bytes(content) != digest:
        raise IntegrityError(f"{path} is not what was submitted; restore it from a backup, or remove it")
    try:
        return [Rating(**json.loads(line)) for line in content.splitlines()]
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"{path} holds no ratings: {error}") from error
