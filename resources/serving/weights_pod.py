"""`python -m resources.serving.weights_pod`: brings a model server's weights into its pod, before the server starts.

LLMOPS_WEIGHTS names the artefact store and the digest. The files lie in a folder of the pod afterwards, as in the cache
of an artefact store: each byte is hashed on arrival, and what an earlier start of this container left is hashed again.
Whoever starts the server knows the path from the digest alone, so it cannot read anything else.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from llmops_core.engine_commands import KIND_OF_WEIGHTS
from llmops_core.errors import IntegrityError, LlmopsError
from llmops_core.serving_manifest import WeightStore
from resources.outside import retried
from resources.storage.object_store import NamedPlace
from resources.storage.s3_artifacts import S3Artifacts

VARIABLE, FOLDER = "LLMOPS_WEIGHTS", "LLMOPS_WEIGHTS_FOLDER"


def main(environ: Mapping[str, str], folder: Path) -> int:
    order = json.loads(environ[VARIABLE])
    digest = order.pop("digest")
    store = WeightStore(**order)
    place = NamedPlace("environment of the pod", VARIABLE, store.uri, store.endpoint, store.region)
    left = (folder / KIND_OF_WEIGHTS / digest).exists()
    try:
        bucket = S3Artifacts(place, folder)
        look = bucket.verified if left else bucket.get
        artifact = retried(lambda: look(KIND_OF_WEIGHTS, digest))
        if artifact is None:
            raise IntegrityError(f"there are no {KIND_OF_WEIGHTS} {digest} in {store.uri}")
    except LlmopsError as error:
        sys.stderr.write(f"the weights cannot be fetched: {error}\n")
        return error.exit_code
    size = sum(entry.size_bytes for entry in artifact.manifest.files)
    sys.stderr.write(f"{len(artifact.manifest.files)} files with {size} bytes hash to {digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ, Path(os.environ[FOLDER])))
