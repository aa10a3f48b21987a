"""Which training this is: the digest of all that decides its result. A checkpoint of another one must not go on here.

The data and base are read whole, because a path or a name proves nothing. The code is every module of the recipes: more
than the training needs, but what is lost by that is some hours at most, and nothing is forgotten.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from llmops_core.fingerprint import digest_of, digest_of_file

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy")
READERS = 4  # files hashed at the same time: one alone is slower than a disk


def identity_of(recipe: str, configuration: BaseModel, data: Iterable[Path], base: Path | None) -> str:
    """SHA-256 over code, versions, configuration, the data files in their order and the base's files."""
    files = [(path.name, path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    files += [("", path) for path in data]
    if base is not None:
        files += [(path.relative_to(base).as_posix(), path) for path in sorted(base.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor(READERS) as readers:
        digests = list(readers.map(digest_of_file, [path for _, path in files]))
    named = [[name, digest] for (name, _), digest in zip(files, digests, strict=True)]
    versions = {name: version(name) for name in PACKAGES}
    return digest_of([recipe, configuration.model_dump(mode="json"), versions, named])
