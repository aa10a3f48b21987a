"""The door to jobs on the cluster under test: recipes are sent, run in a pod of the image, followed and fetched."""

from pathlib import Path
from typing import Any

from llmops_core.job_settings import ClusterJobsPlace
from resources.cluster.kubernetes_api import KubernetesApi
from resources.storage.object_store import NamedPlace
from tests.cluster.cluster_under_test import Namespace, wait_for
from tests.fakes.job_worlds import BUCKET, PREAMBLE, ClusterWorld, Ran, RunBook, World

SECRET = "store-credentials"
ENDS_SECONDS = 180.0
# Too much for the 0.5 GB that a job of these worlds has at first, beside the program that runs it.
EATS = """
held = b"x" * 450_000_000
time.sleep(1)  # long enough for a node that keeps limits by looking
given.out.mkdir()
(given.out / "report.json").write_text(str(len(held)))
"""


STAYS = """
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    pipes.report_custom_message({"progress": {"done": 1, "total": 2, "loss": 0.5}})
    time.sleep(600)
"""


class RealClusterWorld(ClusterWorld):
    """The door on a cluster that is not ours to play with: only what its API says is seen."""

    def __init__(self, root: Path, namespace: Namespace, s3: str, **fields: Any) -> None:
        self.namespace, self.s3 = namespace, s3
        given = namespace.cluster.settings
        self.client = KubernetesApi(namespace.cluster.client(), namespace.name)
        self.place = ClusterJobsPlace.model_validate(
            {
                **{"kind": "kubernetes", "namespace": namespace.name, "image": given.image},
                **{"pull_policy": given.pull_policy, "secrets": [SECRET], "pending_seconds": 60},
                **{"store": {"uri": f"s3://{BUCKET}/{namespace.name}"}, "shared_memory_gb": 0.1},
                **{"ephemeral_storage_gb": 0.5, **fields},
            }
        )
        self.store_place = NamedPlace("config", "jobs.store", self.place.store.uri, s3, "us-east-1")
        self.book = RunBook()
        World.__init__(self, root)
        for name, text in (("eats", EATS), ("stays", STAYS)):
            (self.code / "recipes" / f"{name}.py").write_text(PREAMBLE + text)

    @property
    def job_objects(self) -> list[dict[str, Any]]:
        return self.namespace.items("jobs")

    def running(self) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            pods = self.namespace.items("pods")
            return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

        return wait_for(found, "no pod of the job runs")


def outcome(ran: Ran) -> str:
    return "; ".join(f"{type(error).__name__}: {error}" for error in ran.errors)
