"""Where this environment's GPUs are, and how many of them a release's server holds."""

from collections.abc import Mapping

from llmops_assets.release import Release
from llmops_core.gpu_needs import gpus_of_server
from llmops_core.job_settings import ClusterJobsPlace, GpuPool


def pools_of(release: Release) -> Mapping[str, GpuPool]:
    """{kind of GPU: where they are}, empty where no jobs run on a cluster."""
    place = release.platform.settings.jobs
    return place.gpus if isinstance(place, ClusterJobsPlace) else {}


def server_gpus(release: Release) -> int:
    """How many one server of the model holds."""
    wanted = release.spec.resources
    return gpus_of_server(release.spec.serving.engine, wanted.gpu_count, wanted.gpu_type, pools_of(release))
