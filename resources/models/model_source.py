"""Where a model's weights start: the Hugging Face Hub, an object store, or a folder that DVC tracks here.

All three end the same way: files land in a folder beside the target, the folder is checked as data that a stranger
wrote, `origin.json` says where each file came from, and one rename publishes it.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from llmops_core.errors import EnvironmentLacks, InputError, Problem
from llmops_core.fingerprint import digest_of_file
from llmops_core.training_spec import HuggingFaceSource, LocalSource, S3Source
from resources.data.dataset_store import DatasetStore
from resources.models import bucket_models, hub_models
from resources.models.model_folder import check_model_folder, is_model_file
from resources.outside import check_destination
from resources.storage.disk import disk_full, sync_file
from resources.storage.staging import publish, staged

ORIGIN = "origin.json"


def fetch_base(
    source: HuggingFaceSource | S3Source | LocalSource,
    target: Path,
    data: DatasetStore,
    revision: str,
    allowed_endpoints: Collection[str] = (),
) -> None:
    """Write the base model to the new folder `target`, whole or not at all; does nothing when it is there already.

    `data` and `revision` are where a local source is read, `allowed_endpoints` the settings' inner addresses.
    Raises InputError for what model.yaml or the model's publisher must mend, TransientError for an outage that
    outlasted the retries, IntegrityError for bytes that are not what was announced, EnvironmentLacks for a full disk.
    """
    if target.exists():
        check_model_folder(target, str(target))
        return
    try:
        with staged(target.parent) as partial:
            given = _download(source, partial, data, revision, allowed_endpoints)
            check_model_folder(partial, _named(source))
            _write_origin(partial, source, given)
            publish(partial, target)
    except OSError as error:
        if disk_full(error):
            raise EnvironmentLacks(f"no space left for the base model at {target.parent}; free some") from error
        raise


def _download(
    source: HuggingFaceSource | S3Source | LocalSource,
    partial: Path,
    data: DatasetStore,
    revision: str,
    allowed_endpoints: Collection[str],
) -> dict[str, str]:
    """{file: what the origin calls it}. A source without an endpoint is the vendor's, which gets our credentials."""
    if isinstance(source, LocalSource):
        return _copy_tracked(source, partial, data, revision)
    ours = source.endpoint is None or check_destination(source.endpoint, allowed_endpoints)
    if isinstance(source, S3Source):
        return bucket_models.download(source, partial, ours)
    return hub_models.download(source, partial, ours)


def _copy_tracked(source: LocalSource, partial: Path, data: DatasetStore, revision: str) -> dict[str, str]:
    if source.path is None:
        message = "a base model that is pretrained here is made by a recipe, not fetched"
        raise InputError(Problem("model.yaml", "source.path", "nothing", "a folder that DVC tracks", message))
    fetched = data.fetch(revision, source.path, partial / "all")
    kept = {entry.path: entry.sha256 for entry in fetched.files if is_model_file(entry.path)}
    for name in kept:
        (fetched.folder / name).rename(partial / name)
    shutil.rmtree(fetched.folder)
    return kept


def _write_origin(folder: Path, source: HuggingFaceSource | S3Source | LocalSource, given: dict[str, str]) -> None:
    """`announced` is what the origin called a file: its Git blob id, SHA-256 or ETag."""
    files = []
    for name, announced in sorted(given.items()):
        path = folder / name
        sync_file(path)
        size = path.stat().st_size
        files.append({"path": name, "announced": announced, "sha256": digest_of_file(path), "size_bytes": size})
    origin = {"source": source.model_dump(mode="json", exclude_none=True), "files": files}
    (folder / ORIGIN).write_text(json.dumps(origin, indent=1, sort_keys=True), encoding="utf-8")
    sync_file(folder / ORIGIN)


def _named(source: HuggingFaceSource | S3Source | LocalSource) -> str:
    if isinstance(source, HuggingFaceSource):
        return f"{source.repository}@{source.revision[:12]}"
    return source.uri if isinstance(source, S3Source) else str(source.path)
