"""Inference engines as programs: how each is started on a packaged model, and one that runs while a block runs.

llama.cpp serves the GGUF file through recipes.serve, vLLM the safetensors folder through its own server. Both offer
the OpenAI routes and /health, so whoever asks the model need not know which one answers.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import recipes.serve
from llmops_core.engine_commands import VLLM_ENVIRONMENT, vllm_command
from llmops_core.errors import EnvironmentLacks, InputError, Problem

ENGINES = ("llama.cpp", "vllm")
STOP_SECONDS = 10
# Until an engine answers, beside reading its weights: vLLM compiles and records its kernels first.
START_SECONDS = {"llama.cpp": 60.0, "vllm": 900.0}
READ_BYTES_PER_SECOND = 50_000_000  # of a slow disk


@dataclass(frozen=True)
class Served:
    """One server to start: `weights` is the artefact's folder, `context_tokens` holds for each of `parallel` slots, and
    `gpus` is how many vLLM splits the model over."""

    weights: Path
    alias: str
    port: int
    engine: str = "llama.cpp"
    context_tokens: int = 2048
    parallel: int = 8
    host: str = "127.0.0.1"
    gpus: int = 1

    @property
    def start_seconds(self) -> float:
        """How long it may take until it answers: large weights take minutes to be read."""
        size_bytes = sum(path.stat().st_size for path in self.weights.rglob("*") if path.is_file())
        return START_SECONDS[self.engine] + size_bytes / READ_BYTES_PER_SECOND


def command_line(served: Served) -> list[str]:
    """The program and its arguments. Raises InputError for an unknown engine."""
    if served.engine == "llama.cpp":
        return _llama_cpp(served)
    if served.engine == "vllm":
        return _vllm(served)
    expected = " or ".join(ENGINES)
    raise InputError(Problem("config.json", "serving.engine", served.engine, expected, "is no engine known here"))


def _llama_cpp(served: Served) -> list[str]:
    program = [sys.executable, "-m", recipes.serve.__name__, "--model", str(served.weights / "model.gguf")]
    place = ["--host", served.host, "--port", str(served.port), "--alias", served.alias]
    size = ["--context-tokens", str(served.context_tokens), "--parallel", str(served.parallel), "--threads", "1"]
    return program + place + size


def _vllm(served: Served) -> list[str]:
    return vllm_command(
        str(served.weights),
        {
            "--host": served.host,
            "--port": served.port,
            "--served-model-name": served.alias,
            "--max-model-len": served.context_tokens,
            "--max-num-seqs": served.parallel,
            "--tensor-parallel-size": served.gpus,
        },
    )


def _environment(served: Served) -> dict[str, str]:
    if served.engine != "vllm":
        return dict(os.environ)
    # vLLM has a Python of its own, to which our packages say nothing
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | VLLM_ENVIRONMENT


def require_installed(engine: str) -> None:
    """Raises EnvironmentLacks where the engine is missing."""
    found = {"llama.cpp": find_spec("xllamacpp"), "vllm": shutil.which("vllm")}
    if engine in found and found[engine] is None:
        raise EnvironmentLacks(
            f"serving.engine is {engine}, but {engine} is not installed here: install it on a machine it supports, or "
            f"set serving.engine to llama.cpp in model.yaml"
        )


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def running(served: Served, log: Path, options: tuple[str, ...] = ()) -> Iterator[str]:
    """A server that lives as long as the block; yields its URL once /health answers 200.

    llama.cpp's program also ends by itself when this process dies, because its standard input closes then.
    Raises EnvironmentLacks, with the end of the server's log, if it does not come up.
    """
    require_installed(served.engine)
    command = [*command_line(served), *options]
    if served.engine == "llama.cpp":
        command.append("--until-stdin-closes")
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=_environment(served)
        )
    try:
        url = f"http://{served.host}:{served.port}"
        _wait_until_healthy(server, url, log, served.start_seconds)
        yield url
    finally:
        _end(server)


def _wait_until_healthy(server: "subprocess.Popen[bytes]", url: str, log: Path, start_seconds: float) -> None:
    deadline = time.monotonic() + start_seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url + "/health", timeout=2):  # noqa: S310 - the URL is ours
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    state = f"still not ready after {start_seconds:.0f} s" if server.poll() is None else f"exit code {server.poll()}"
    end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise EnvironmentLacks(f"the model server did not start ({state}); its last lines:\n{end}")


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    if server.stdin:
        server.stdin.close()
