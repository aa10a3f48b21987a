"""`python -m resources.jobs.job_pod`: what runs in a job's pod. It fetches, runs the recipe, and sends what it made.

LLMOPS_JOB names the store and the attempt; what is to be done stands there (resources/jobs/job_transport.py). Inputs
and code are verified by digest on arrival. The recipe runs as a child, because one that is killed cannot tell its last
words: this program can. It ends with the recipe's exit code, or one of the same table (llmops_core/exit_codes.py).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, DAGSTER_PIPES_MESSAGES_ENV_VAR, encode_param

from llmops_core.errors import InputError, LlmopsError
from llmops_core.exit_codes import ENVIRONMENT_LACKS, KILLED, SIGNALS_FROM, exit_code_of
from resources.jobs.job_relay import Relay
from resources.jobs.job_transport import INPUT, OUTPUT, JobRecords, JobStore
from resources.outside import retried
from resources.storage.object_store import NamedPlace

VARIABLE = "LLMOPS_JOB"
LAST_OUTPUT_SECONDS = 5.0  # for what is still in the pipe when the recipe has ended
OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


@dataclass(frozen=True)
class Order:
    """Where the store is and which attempt of which job this pod is; `seconds` is the pause between two reports."""

    uri: str
    endpoint: str | None
    region: str | None
    fingerprint: str
    attempt: int
    seconds: float

    def written(self) -> str:
        return json.dumps(self.__dict__, sort_keys=True)


def main(environ: Mapping[str, str]) -> int:
    order = Order(**json.loads(environ[VARIABLE]))
    work, pod = Path(environ["LLMOPS_WORK"]), environ["LLMOPS_POD"]
    place = NamedPlace(f"environment of pod {pod}", VARIABLE, order.uri, order.endpoint, order.region)
    store = JobStore(place, work / "cache")
    records = store.job(order.fingerprint)
    began, said = time.time(), ""
    try:
        intent = records.intent(order.attempt)
        command = _fetched(store, intent, work, environ)
        with Relay(store, records, order.attempt, pod, work / "messages", order.seconds) as relay:
            code = _ran(command, _environment(environ, order, records, intent, work), work, relay)
        said = relay.last_words
        if code == 0 and environ.get("PET_NODE_RANK", "0") == "0":
            digest = store.send(OUTPUT, work / "out")
            records.publish_result({"folder": digest, "attempt": order.attempt, "pod": pod})
    except LlmopsError as error:
        _tell(str(error))
        # what a store refuses this program is no fault of the model's input
        code = ENVIRONMENT_LACKS if isinstance(error, InputError) else exit_code_of(error)
        said = f"{said}{error}"
    ended = time.time()
    words = {"exit_code": code, "out_of_memory": _starved(code), "last_words": said}
    times = {"began": began, "ended": ended, "seconds": round(ended - began, 3)}
    try:
        retried(lambda: records.say(order.attempt, pod, {**words, **times}))
    except LlmopsError as error:
        _tell(f"the last words could not be sent: {error}")
    return code


def _fetched(store: JobStore, intent: Mapping[str, Any], work: Path, environ: Mapping[str, str]) -> list[str]:
    """Fetches what the recipe needs and returns its command."""
    for name in ("home", "code", "inputs"):
        shutil.rmtree(work / name, ignore_errors=True)  # of a container that was started again
        (work / name).mkdir(parents=True)
    store.fetch_code(intent["code"], work / "code")
    (work / "config.json").write_text(json.dumps(intent["config"]), encoding="utf-8")
    (work / "context.json").write_text(json.dumps(intent["context"]), encoding="utf-8")
    command = [sys.executable, *_launcher(intent, environ), "-m", f"recipes.{intent['recipe']}"]
    command += ["--config", str(work / "config.json")]
    for name, digest in sorted(intent["inputs"].items()):
        command += [f"--{name}", str(store.fetch(INPUT, digest))]
    return [*command, "--out", str(work / "out")]


def _launcher(intent: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """torchrun where there are several processes; it reads their number and the first node from PET_ variables.
    Through recipes.parallel, because torchrun itself ends with 1 whatever a process ended with."""
    several = "PET_NPROC_PER_NODE" in environ or "PET_NNODES" in environ
    return ["-m", "recipes.parallel"] if intent["distributed"] and several else []


def _environment(
    environ: Mapping[str, str], order: Order, records: JobRecords, intent: Mapping[str, Any], work: Path
) -> dict[str, str]:
    """The pod's own, and what tells the recipe of Pipes and checkpoints."""
    told = {
        **{"PYTHONPATH": str(work / "code"), "TMPDIR": environ.get("TMPDIR", str(work / "home"))},
        **{"LLMOPS_CHECKPOINTS": records.checkpoints},
        **{"LLMOPS_CHECKPOINT_SECONDS": str(intent["checkpoint_seconds"])},
        DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"path": str(work / "context.json")}),
        DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"path": str(work / "messages")}),
    }
    store = {"AWS_ENDPOINT_URL_S3": order.endpoint, "AWS_DEFAULT_REGION": order.region}
    given = {name: value for name, value in store.items() if value}
    return {**environ, **given, **intent["environment"], **told}


def _ran(command: list[str], environment: Mapping[str, str], work: Path, relay: Relay) -> int:
    """Runs the recipe; its exit code as a shell gives it (137 for SIGKILL). A signal to this program is handed on.

    What a recipe started and left behind, such as a server, may hold its output open for ever: it ends with this
    program, and is not waited for.
    """
    process = subprocess.Popen(
        command, cwd=work / "code", env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    listener = threading.Thread(target=relay.listen_to, args=(process,), name="listener", daemon=True)
    with _handing_on(process):
        listener.start()
        code = process.wait()
    listener.join(LAST_OUTPUT_SECONDS)
    return SIGNALS_FROM - code if code < 0 else code


@contextmanager
def _handing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _starved(code: int) -> bool:
    """Whether the kernel killed something of this container for its memory."""
    if code != KILLED:
        return False
    for path in map(Path, OOM_FILES):
        if path.is_file():
            counts = dict(line.split()[:2] for line in path.read_text().splitlines() if " " in line)
            return int(counts.get("oom_kill", 0)) > 0
    return False


def _tell(sentence: str) -> None:
    """For `kubectl logs`, and for the pod's status when nothing else can be sent."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(os.environ))
