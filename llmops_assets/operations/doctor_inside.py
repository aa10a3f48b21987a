"""What of a platform in pods nobody outside of their cluster can ask: names of Services, and files that pods mount.

Whoever looks from their own machine, in a checkout, is outside. That such a name does not resolve there, or such a file
is not there, says nothing about the platform, and there is nothing to mend: to be asked from inside, as
docs/kubernetes.md says. Inside, and on a machine that is the platform itself, everything is asked.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from llmops_core.doctor import only_inside
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.pods import unfit_for_pods
from llmops_core.serving_settings import ClusterServingPlace
from llmops_core.settings import Settings
from resources.wiring import Platform

Hidden = Mapping[str, str]  # {part: what of it only a pod reaches}
RIGHTS = "rights"  # a part of jobs and of serving


def hidden_from(platform: Platform) -> Hidden:
    """Of each part the last thing that only a pod reaches; nothing where all can be asked from here."""
    settings = platform.settings
    if platform.home.origin is not None or unfit_for_pods(settings, settings.branch, settings.name):
        return {}
    found = {part: address for part, address in _addresses(settings) if address and only_inside(address)}
    found |= {part: file for part, file in _files(settings) if file and not Path(file).exists()}
    return found | {RIGHTS: "the platform's account: its rights are not those of whoever asks here"}


def _addresses(settings: Settings) -> Iterator[tuple[str, str | None]]:
    places = settings.platform
    buckets = {"dvc remote": places.dvc_remote, "artifacts": places.artifacts, "feedback": places.feedback}
    if isinstance(settings.jobs, ClusterJobsPlace):
        buckets["job store"] = settings.jobs.store
    yield from ((part, bucket.endpoint) for part, bucket in buckets.items() if bucket)
    databases = {"ledger": places.ledger, "dagster storage": places.dagster}
    yield from ((part, database.host) for part, database in databases.items() if database)
    if places.mlflow is not None:
        yield "mlflow", places.mlflow.url
    if isinstance(settings.serving, ClusterServingPlace):
        yield "prometheus", settings.serving.prometheus.url


def _files(settings: Settings) -> Iterator[tuple[str, str | None]]:
    places = settings.platform
    if places.signing is not None:
        yield "signing", places.signing.key
    databases = {"ledger": places.ledger, "dagster storage": places.dagster}
    yield from ((part, database.password.file) for part, database in databases.items() if database)
    tokens = {"mlflow": places.mlflow.token if places.mlflow else None}
    if isinstance(settings.serving, ClusterServingPlace):
        tokens["prometheus"] = settings.serving.prometheus.token
    yield from ((part, token.file) for part, token in tokens.items() if token)
