"""Examining MLflow: whether it answers, and whether the platform can write the files of runs where it keeps them."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator

from llmops_core.doctor import Diagnosis, Health
from llmops_core.errors import EnvironmentLacks, LlmopsError, TransientError
from resources.registry.registry_probe import place_of_files, try_files
from resources.secret_values import secret_value
from resources.wiring import Platform

PAGE = "api/2.0/mlflow/registered-models/search?max_results=1"
FILES = "files of mlflow"
MEND = "see AWS_ENDPOINT_URL_S3, MLFLOW_S3_ENDPOINT_URL and, for a bucket in the host's name, the page's step 4"


def examine_registry(platform: Platform) -> Iterator[Diagnosis]:
    """Raises EnvironmentLacks or TransientError where it does not answer as MLflow does."""
    server = platform.settings.platform.mlflow
    if server is None:
        yield Diagnosis("mlflow", Health.OK, "embedded: it starts with the platform")
        return
    headers = {"Authorization": f"Bearer {secret_value(server.token, os.environ)}"} if server.token else {}
    _ask(server.url, headers)
    yield Diagnosis("mlflow", Health.OK, f"{server.url} answers")
    yield _files(server.url, headers)


def _ask(url: str, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"{url.rstrip('/')}/{PAGE}", headers=headers)  # noqa: S310 -- of the settings
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            is_a_registry = isinstance(json.load(answer), dict)
    except urllib.error.HTTPError as error:
        raise EnvironmentLacks(f"{url} answers {error.code}: see its token, and its allowed hosts") from None
    except OSError as error:
        raise TransientError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from None
    except ValueError:
        is_a_registry = False
    if not is_a_registry:
        raise EnvironmentLacks(f"{url} answers, but not as MLflow does: is that a page to log in at?")


def _files(url: str, headers: dict[str, str]) -> Diagnosis:
    try:
        place = place_of_files(url, headers)
    except (OSError, ValueError) as error:
        return Diagnosis(FILES, Health.UNKNOWN, f"{url} does not tell where they are: {error}", "ask again")
    if not place:
        return Diagnosis(FILES, Health.UNKNOWN, f"{url} has no experiment, and so tells no place", "ask again later")
    if place.startswith("mlflow-artifacts:"):
        return Diagnosis(FILES, Health.NOT_NEEDED, f"the server takes them itself, for {place}")
    if not place.startswith("s3://"):
        return Diagnosis(
            FILES, Health.UNKNOWN, f"{place} is not tried: this platform knows S3", "see that pods reach it"
        )
    try:
        try_files(place)
    except LlmopsError as error:
        return Diagnosis(FILES, Health.FAILED, str(error), MEND)
    return Diagnosis(FILES, Health.OK, f"written and removed below {place}")
