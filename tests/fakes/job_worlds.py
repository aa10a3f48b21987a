"""Where a door to jobs is tried: recipes of a few lines, a real Dagster run around each job, and a place they run in.

`LocalWorld` is this machine; `StandInWorld` is the Kubernetes door on the API stand-in, whose pods run their command as
processes of this machine, with a real exchange on an S3 server on loopback.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from dagster import AssetExecutionContext, DagsterInstance, MaterializeResult, asset, materialize
from dagster._core.errors import DagsterExecutionInterruptedError

from llmops_core.cost import Spent
from llmops_core.errors import GateRefused, LlmopsError
from llmops_core.job_manifest import Needs
from llmops_core.job_settings import ClusterJobsPlace
from resources.cluster.kubernetes_api import KubernetesApi as Client
from resources.jobs.job_run import WaitingRun
from resources.jobs.job_transport import JobStore
from resources.jobs.jobs import Asked, Job, Jobs, LocalJobs, Progress
from resources.jobs.kubernetes_jobs import KubernetesJobs
from resources.storage.object_store import NamedPlace
from tests.fakes.job_pods import PlayedPod
from tests.fakes.kubernetes_api import COMMAND, KubernetesApi
from tests.fakes.memory_s3 import MemoryPlace

ROOT = Path(__file__).parents[2]
NAMESPACE, BUCKET = "jobs", "llmops-jobs"
REPORT_SECONDS = 0.2
PREAMBLE = """
import argparse, json, os, sys, time
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("config", "data", "out"):
    parser.add_argument(f"--{name}", type=Path)
given = parser.parse_args()
config = json.loads(given.config.read_text())
"""
RECIPES = {
    "speaks": """
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    for done in (1, 2):
        pipes.report_custom_message({"progress": {"done": done, "total": 2, "loss": 0.5}})
    pipes.log.info("said over pipes")
print("printed", flush=True)
given.out.mkdir()
(given.out / "deep").mkdir()
(given.out / "deep" / "rows.txt").write_text((given.data / "rows.txt").read_text() * config["times"])
seen = {"own": os.environ["OWN"], "path": os.environ["PYTHONPATH"] == os.getcwd()}
(given.out / "report.json").write_text(json.dumps(seen))
""",
    "blames": "print('reading\\nrows.jsonl: line 3 is no object', file=sys.stderr); sys.exit(65)",
    "silent": "sys.exit(65)",
    "lacks": "print('vllm is not installed here', file=sys.stderr); sys.exit(69)",
    "doubts": "print('a digest is not what it was', file=sys.stderr); sys.exit(76)",
    "raises": "raise KeyError('nobody expected this')",
    "interrupted": "print('the store did not answer', file=sys.stderr); sys.exit(75)",
    "crashes": "print('out of luck', file=sys.stderr); sys.exit(9)",
    "killed": "print('working', flush=True); os.kill(os.getpid(), 9)",
    "waits": "print('waiting', flush=True); time.sleep(60)",
}


@dataclass
class Ran:
    """What one Dagster run around a job left behind."""

    out: Path
    run_id: str
    progress: list[Progress] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def events_with(self, text: str) -> list[str]:
        return [event for event in self.events if text in event]


class World:
    """`jobs` is the door. `run` runs a recipe through it, in a Dagster run of its own, and returns what happened."""

    def __init__(self, root: Path) -> None:
        self.root, self.jobs = root, self.door()
        self.instance = DagsterInstance.ephemeral()
        self.code, self.data = root / "code", root / "data"
        (self.code / "recipes").mkdir(parents=True)
        (self.code / "recipes" / "__init__.py").write_text("")
        for name, text in RECIPES.items():
            (self.code / "recipes" / f"{name}.py").write_text(PREAMBLE + text)
        self.data.mkdir()
        (self.data / "rows.txt").write_text("a row\n")
        self._runs = 0
        self.spent: list[Spent] = []
        self.admissions: list[str] = []
        self.budget_is_spent = False

    def door(self) -> Jobs:
        return LocalJobs()

    def job(self, recipe: str, work: Path, config: Mapping[str, Any] | None = None, **needs: Any) -> Job:
        asked = Asked("tiny", "weights", "f" * 64)
        return Job(
            recipe, config or {"times": 2}, {"data": self.data}, self.code, work, asked, Needs(0.5, 0.1, **needs),
            {"OWN": "variable"}, on_spent=self.spent.append,
            may_begin=self._may_begin, admitted=self._admitted,
        )  # fmt: skip

    @contextmanager
    def _admitted(self, goes: bool) -> Iterator[None]:
        self.admissions.append("goes" if goes else "begins")
        yield
        self.admissions.append("ends")

    def _may_begin(self) -> None:
        self.admissions.append("asks")
        if self.budget_is_spent:
            raise GateRefused("budget", "all of it is spent")

    def run(self, recipe: str, door: Jobs | None = None, tags: Mapping[str, str] | None = None, **config: Any) -> Ran:
        self._runs += 1
        work = self.root / f"work-{self._runs}"
        ran = Ran(work / "out", "")

        @asset
        def made(context: AssetExecutionContext) -> MaterializeResult:
            ran.run_id = context.run.run_id
            try:
                (door or self.jobs).run(self.job(recipe, work, config or None), context, ran.progress.append)
            except LlmopsError as error:
                ran.errors.append(error)
            return MaterializeResult()

        done = materialize([made], instance=self.instance, tags=dict(tags or {}), raise_on_error=False)
        ran.events = [entry.message or "" for entry in self.instance.all_logs(done.run_id)]
        ran.events += [entry.user_message for entry in self.instance.all_logs(done.run_id) if entry.user_message]
        return ran


class Killed(BaseException):
    """What a worker meets that is killed: no handler of the program sees it."""


class RunBook:
    """The events of runs, in memory; `cancelled` holds the runs whose end somebody asked for, `over` those that ended
    without their worker."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any], tuple[Any, ...]]] = []
        self.cancelled: set[str] = set()
        self.over: set[str] = set()

    def messages(self, run: str) -> list[str]:
        return [message for name, message, _, _ in self.events if name == run]


class RecordingRun(WaitingRun):
    def __init__(self, book: RunBook, run: str) -> None:
        self._book, self._id = book, run

    @property
    def id(self) -> str:
        return self._id

    def show(self, message: str, figures: Mapping[str, Any] | None = None, heard: tuple[Any, ...] = ()) -> None:
        self._book.events.append((self._id, message, dict(figures or {}), heard))

    def heard(self) -> Iterator[tuple[Any, ...]]:
        yield from (heard for name, _, _, heard in self._book.events if name == self._id and heard)

    def is_cancelled(self) -> bool:
        return self._id in self._book.cancelled

    def is_over(self) -> bool:
        return self._id in self._book.over | self._book.cancelled

    def pipes_context(self) -> Any:
        return {"run_id": self._id}


class Going:
    """A worker in another thread."""

    def __init__(self, work: Callable[[], Ran]) -> None:
        self._found: list[Ran] = []
        self._thread = threading.Thread(target=lambda: self._found.append(work()), daemon=True)
        self._thread.start()

    @property
    def goes(self) -> bool:
        return self._thread.is_alive()

    def ended(self, timeout_seconds: float = 30) -> Ran:
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), "the run does not end"
        return self._found[0]


class ClusterWorld(World):
    """The Kubernetes door, on the stand-in `api`; `fields` change the settings."""

    def __init__(self, root: Path, api: KubernetesApi, s3: str, **fields: Any) -> None:
        self.api, self.s3 = api, s3
        self.client = Client(api.client(), NAMESPACE)
        self.place = ClusterJobsPlace.model_validate(
            {
                **{"kind": "kubernetes", "namespace": NAMESPACE, "image": "training:1", "pending_seconds": 1},
                **{"store": {"uri": f"s3://{BUCKET}/{root.name}"}, "shared_memory_gb": 0.1},
                **{"ephemeral_storage_gb": 1.0, **fields},
            }
        )
        kind = NamedPlace if s3.startswith("http") else MemoryPlace
        self.store_place = kind("config", "jobs.store", self.place.store.uri, s3, "us-east-1")
        self.book = RunBook()
        super().__init__(root)

    def door(self) -> KubernetesJobs:
        """Another worker's door: nothing is shared with any other but cluster and store."""
        return KubernetesJobs(self.place, self.client, self.store_place, REPORT_SECONDS, 20.0)

    def store(self) -> JobStore:
        return JobStore(self.store_place, self.root / "looked")

    def follow(
        self,
        recipe: str = "speaks",
        run: str = "run",
        door: KubernetesJobs | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        gpus: tuple[int, str | None] = (0, None),
        **config: Any,
    ) -> Ran:
        """A worker's whole life, without Dagster: follows the job for a run, to its end or the worker's."""
        self._runs += 1
        work = self.root / f"work-{self._runs}"
        ran = Ran(work / "out", run)
        job = self.job(recipe, work, config or None, gpu_count=gpus[0], gpu_type=gpus[1])
        try:
            (door or self.door()).run_for(job, RecordingRun(self.book, run), on_progress)
        except (LlmopsError, Killed, KeyboardInterrupt, DagsterExecutionInterruptedError) as error:
            ran.errors.append(error)
        ran.events = self.book.messages(run)
        return ran

    def following(self, **asked: Any) -> "Going":
        return Going(lambda: self.follow(**asked))

    def pod(self, attempt: int = 1, timeout_seconds: float = 60) -> PlayedPod:
        """The pod of this attempt, when it runs."""
        until = time.monotonic() + timeout_seconds
        while time.monotonic() < until:
            for pod in self.api.objects("pods", NAMESPACE):
                number = pod["metadata"]["labels"].get("llmops.dev/attempt")
                if number == str(attempt) and pod["status"].get("phase") == "Running":
                    return PlayedPod(self.api, pod, self.store_place, self.root / "pods")
            time.sleep(0.005)
        raise TimeoutError(f"no pod of attempt {attempt} runs")

    @property
    def job_objects(self) -> list[dict[str, Any]]:
        return self.api.objects("jobs", NAMESPACE)


@contextmanager
def stand_in(s3: str) -> Iterator[KubernetesApi]:
    """The stand-in with our namespace, whose pods run their command here."""
    with KubernetesApi() as api:
        api.create_namespace(NAMESPACE)
        api.kubelet.plan = lambda pod: COMMAND
        credentials = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        api.kubelet.image_environment = {**credentials, "PATH": path, "PYTHONPATH": str(ROOT)}
        client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield api
