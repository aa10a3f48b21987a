"""What the registry costs: its server in three ways of starting it, and registering one version through ours.

For each way: seconds until it answers, number of processes, and memory (proportional set size of all of them, so that
shared pages count once). Then milliseconds of registering: the first version, which makes the experiment and the name,
and the median of ten more, each with a curve of 300 points for three metrics.

    python -m benchmarks.registry_timing
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from llmops_core.fingerprint import digest_of
from llmops_core.registration import VersionFacts
from resources.registry.mlflow_server import mlflow_command, mlflow_environment
from resources.registry.registry import MlflowRegistry, RegistrationRequest

PORT = 8690
ADDRESS = f"http://127.0.0.1:{PORT}"


def _commands(folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    plain = [sys.executable, "-m", "mlflow", "server", "--port", str(PORT)]
    plain += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    return {
        "mlflow server": (plain, quiet),
        "mlflow server --workers 1": ([*plain, "--workers", "1"], quiet),
        "this platform's": (mlflow_command(PORT), mlflow_environment(folder)),
    }


def _answering(command: list[str], environment: dict[str, str], folder: Path) -> tuple[psutil.Process, float]:
    started = time.perf_counter()
    with Path(folder, "server.log").open("wb") as log:
        server = subprocess.Popen(command, env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log)
    while time.perf_counter() - started < 120:
        try:
            urllib.request.urlopen(f"{ADDRESS}/health", timeout=5).close()
            return psutil.Process(server.pid), time.perf_counter() - started
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"no answer from {command}")


def _family(server: psutil.Process) -> list[psutil.Process]:
    return [server, *server.children(recursive=True)]


def _stop(server: psutil.Process) -> None:
    family = _family(server)
    server.terminate()
    _, left = psutil.wait_procs(family, timeout=20)
    for process in left:
        process.kill()


def _register(registry: MlflowRegistry, number: int) -> float:
    digest = digest_of(number)
    names = ("data_digest", "base_digest", "weights_digest", "evaluation_digest", "fingerprint")
    origin = {"model": "timed", "semver": "1.0.0", "revision": "a" * 40, "data_hash": "0" * 32}
    facts = VersionFacts.model_validate({**origin, **dict.fromkeys(names, digest)})
    curve = [(step, 1.0 / (step + 1)) for step in range(300)]
    started = time.perf_counter()
    run_id = registry.open_run("timed", "train", {"llmops.fingerprint": digest})
    registry.log(run_id, {"loss": curve, "rate": curve, "tokens_per_second": curve}, {"steps": 300}, {})
    registry.register(RegistrationRequest(facts, run_id, "signature", "file:///x", "card", {"exact_match": 0.97}))
    registry.close_run(run_id, "FINISHED")
    return (time.perf_counter() - started) * 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, (command, environment) in _commands(folder).items():
            server, seconds = _answering(command, environment, folder)
            time.sleep(5)  # the job runners of `mlflow server` start after it answers
            memory = sum(process.memory_full_info().pss for process in _family(server)) / 1e6
            print(f"{title:26} answers after {seconds:5.1f} s, {len(_family(server)):2} processes, {memory:5.0f} MB")
            if title != "this platform's":
                _stop(server)
        registry = MlflowRegistry(ADDRESS)
        registry.versions("timed")
        print(f"first registration {_register(registry, 0):5.0f} ms")
        print(f"median of ten more {statistics.median(_register(registry, n) for n in range(1, 11)):5.0f} ms")
        print(f"our server after that: {server.memory_full_info().pss / 1e6:5.0f} MB")
        _stop(server)


if __name__ == "__main__":
    main()
