"""Starting the code location again, when a commit changes what Dagster is told only at its start.

Dagster asks the code location's process once which sensors there are and where steps work. On a machine people start
the platform again when they change such settings; a pod lives for weeks, and follows a branch. So the process ends as
it does when its pod is moved: what it was asked is answered first, Kubernetes starts it again, and Dagster sees that.
"""

import os
import signal
import sys

from llmops_core.fingerprint import digest_of
from llmops_core.settings import Settings


def shape_of(settings: Settings | None) -> str:
    """Of the settings what counts at the start; None for settings that cannot be read."""
    if settings is None:
        return ""
    places, repositories = settings.arrivals, settings.repositories
    shape = {"executor": settings.executor, "jobs": settings.jobs.kind, "arrivals": [place.name for place in places]}
    return digest_of({**shape, "repositories": [each.model_dump(mode="json") for each in repositories]})


def end_this_process() -> bool:
    """Whether this is the code location's own process (`dagster api grpc`), which then ends once it has answered."""
    if sys.argv[1:3] != ["api", "grpc"]:
        return False
    os.kill(os.getpid(), signal.SIGTERM)
    return True
