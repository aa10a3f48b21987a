"""Base models from the Hugging Face Hub or a mirror of it, pinned to one commit and checked file by file.

The hub says of each file either its SHA-256 (large files) or its Git blob id; what was downloaded is held to that.
"""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_core.errors import InputError, IntegrityError, LlmopsError, Problem, TransientError
from llmops_core.fingerprint import digest_of_file
from llmops_core.training_spec import HuggingFaceSource
from resources.models.model_folder import is_model_file
from resources.outside import retried

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile


def download(source: HuggingFaceSource, folder: Path, credentials: bool) -> dict[str, str]:
    """Write the model's files to the folder; {name: Git blob id or SHA-256 as the hub gave it}.

    The access token (HF_TOKEN) is only sent where `credentials` says so. Raises InputError, TransientError or
    IntegrityError.
    """
    files = _asked(source, lambda: _listed(source, credentials))  # the client itself tries listings again
    if files:
        retried(lambda: _asked(source, lambda: _fetched(source, folder, sorted(files), credentials)))
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    for name, file in files.items():
        _check(folder / name, file, source)
    return {name: file.lfs.sha256 if file.lfs else file.blob_id for name, file in sorted(files.items())}


def _listed(source: HuggingFaceSource, credentials: bool) -> dict[str, "RepoFile"]:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=source.endpoint, token=None if credentials else False)
    entries = api.list_repo_tree(source.repository, revision=source.revision)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile) and is_model_file(entry.path)}


def _fetched(source: HuggingFaceSource, folder: Path, names: list[str], credentials: bool) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        source.repository,
        revision=source.revision,
        local_dir=folder,
        allow_patterns=names,
        endpoint=source.endpoint,
        token=None if credentials else False,
    )


def _check(path: Path, file: "RepoFile", source: HuggingFaceSource) -> None:
    where = f"{file.path} of {source.repository} at {source.revision}"
    if not path.is_file() or path.is_symlink():
        raise IntegrityError(f"{where} was not downloaded as a file")
    if path.stat().st_size != file.size:
        raise IntegrityError(f"{where} has {path.stat().st_size} bytes, the hub says {file.size}")
    if file.lfs is not None:
        found, expected = digest_of_file(path), file.lfs.sha256
    else:
        blob = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest()
        expected = file.blob_id
    if found != expected:
        raise IntegrityError(f"{where} has digest {found}, the hub says {expected}")


def _asked(source: HuggingFaceSource, action: Any) -> Any:
    """Do it, with the hub's exceptions in our words: the client's own texts may be long and hold addresses."""
    from huggingface_hub import errors

    no_answer: Any = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    try:
        return action()
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__
        raise _meaning(source, cause if isinstance(cause, errors.HfHubHTTPError) else error) from None
    except (errors.HfHubHTTPError, no_answer, errors.FileMetadataError, errors.OfflineModeIsEnabled) as error:
        raise _meaning(source, error) from None


def _meaning(source: HuggingFaceSource, error: Exception) -> LlmopsError:
    from huggingface_hub import errors

    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    place = f"{source.endpoint or 'the Hugging Face Hub'}"
    if isinstance(error, errors.RevisionNotFoundError):
        message = "the repository has no such commit; correct it"
        return _problem("source.revision", source.revision, "the full hash of a commit there", message)
    if status in (401, 403):
        message = (
            f"{place} refuses access or has no such model (status {status}); correct the name, or accept the model's "
            "terms there and give the platform an access token as the secret HF_TOKEN"
        )
        return _problem("source.repository", source.repository, "a model that may be read", message)
    if status is None or status == 429 or status >= 500:
        return TransientError(f"{place} could not be reached ({type(error).__name__}, status {status})")
    message = f"{place} has no such model (status {status}); correct it"
    return _problem("source.repository", source.repository, "the name of a model there", message)


def _problem(field: str, found: str, expected: str, message: str) -> InputError:
    return InputError(Problem("model.yaml", field, found, expected, message))
