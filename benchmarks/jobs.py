"""What the door to Kubernetes adds to a job, and how many watches many jobs need: on the API's stand-in.

    python benchmarks/jobs.py [--repeats 5] [--jobs 500]

- overhead: seconds from asking until the result is here, beside the same recipe in a bare Job that somebody polls. Both
  run as processes of this machine; the exchange is an S3 server on loopback. Limit: 3 s more.
- many: this number of jobs watched by one process. Printed: watches opened, requests, and the time from the end of the
  last pod until all are known to have ended. Limit: one watch.

The stand-in is not a cluster: pulling, scheduling and its controllers' own pauses are missing on both sides. Exit
code 1 when a limit is missed.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # jobs run `python` as an image has it

from llmops_core.job_manifest import Attempt, Needs, job  # noqa: E402
from llmops_core.job_names import JobIdentity  # noqa: E402
from llmops_core.job_outcomes import is_over  # noqa: E402
from resources.cluster.kubernetes_api import JOBS  # noqa: E402
from resources.cluster.kubernetes_api import KubernetesApi as Client  # noqa: E402
from resources.jobs.job_watch import JobWatch  # noqa: E402
from resources.jobs.kubernetes_jobs import REPORT_SECONDS, KubernetesJobs  # noqa: E402
from tests.fakes.job_worlds import NAMESPACE, ClusterWorld, stand_in  # noqa: E402
from tests.fakes.kubernetes_api import KubernetesApi, Plan  # noqa: E402
from tests.fakes.s3_servers import CREDENTIALS, moto_server  # noqa: E402

OVERHEAD_SECONDS, WATCHES = 3.0, 1
POLL_SECONDS = 0.05


def bare(world: ClusterWorld, number: int) -> float:
    """A Job that runs the recipe itself, with everything already in its place."""
    out = world.root / f"bare-{number}"
    attempt = Attempt(
        JobIdentity("bare", "weights", "speaks", f"{number:012}" + "0" * 52), 1, "run", Needs(0.5, 0.1), {}
    )
    manifest = job(attempt, world.place)
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    (world.root / "config.json").write_text('{"times": 2}')
    container["env"] = [{"name": "OWN", "value": "x"}, {"name": "PYTHONPATH", "value": str(world.code)}]
    given = ["--config", str(world.root / "config.json"), "--data", str(world.data), "--out", str(out)]
    container["command"] = ["python", "-m", "recipes.speaks", *given]
    container["volumeMounts"] = []
    began = time.monotonic()
    world.client.create(JOBS, manifest)
    while not (world.client.get(JOBS, attempt.name) or {}).get("status", {}).get("completionTime"):
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def through_the_door(world: ClusterWorld, number: int) -> float:
    door = KubernetesJobs(world.place, world.client, world.store_place, REPORT_SECONDS)
    began = time.monotonic()
    ran = world.follow(door=door, times=2, number=number)
    if ran.errors:
        raise SystemExit(f"the job failed: {ran.errors[0]}")
    return time.monotonic() - began


def many(api: KubernetesApi, world: ClusterWorld, count: int) -> dict[str, Any]:
    """Jobs whose pods end by themselves, all watched at once."""
    api.kubelet.plan = lambda pod: Plan(seconds=1.0)
    client, opened, before = Client(api.client(), NAMESPACE), api.watches.opened, len(api.requests)
    watch = JobWatch(client)
    names: list[str] = []
    for number in range(count):
        attempt = Attempt(
            JobIdentity("many", "weights", "speaks", f"{number:012}" + "0" * 52), 1, "run", Needs(0.001, 0.001), {}
        )
        client.create(JOBS, job(attempt, world.place))
        names.append(attempt.name)
    waiting = [watch.watching(name) for name in names]
    for each in waiting:
        each.__enter__()
    api.settle(120)
    ended = time.monotonic()
    while not all(any(is_over(pod) for pod in watch.pods(name)) for name in names):
        time.sleep(0.01)
    known = time.monotonic() - ended
    figures = {"watches": api.watches.opened - opened, "requests": len(api.requests) - before - count}
    for each in waiting:
        each.__exit__(None, None, None)
    return {**figures, "seconds": known}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=500)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ.update(CREDENTIALS)
    with moto_server() as s3, stand_in(s3) as api, tempfile.TemporaryDirectory() as folder:
        world = ClusterWorld(Path(folder) / "world", api, s3)
        bare(world, given.repeats)
        alone = statistics.median(bare(world, number) for number in range(given.repeats))
        ours = statistics.median(through_the_door(world, number) for number in range(given.repeats))
        print(f"bare Job {alone:.2f} s, through the door {ours:.2f} s: {ours - alone:.2f} s more (limit 3)")
        found = many(api, world, given.jobs)
        told = f"{found['watches']} watch, {found['requests']} requests to follow them"
        print(f"{given.jobs} jobs: {told}; all ends known {found['seconds']:.2f} s after the cluster came to rest")
    return int(ours - alone > OVERHEAD_SECONDS or found["watches"] > WATCHES)


if __name__ == "__main__":
    sys.exit(main())
