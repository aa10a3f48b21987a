"""Model servers on this machine: one supervised program for each deployment, found again from a file of its own.

A deployment's file is written before its program is put, and removed after the program is: whatever moment a process
dies in, deploying or retiring again ends in the same state. A port is chosen once and kept as long as the deployment
lives and the platform's ports are the same; a port that another program holds is passed over.
"""

import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.routing import Deployment
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.verdict import Finding, Verdict
from resources.home import HOST
from resources.host.machine import is_free
from resources.host.processes import ENDED, Processes, Program
from resources.serving.server_process import family, holds_port, opened
from resources.storage.publishing import exclusive, publish_json, read_json

FIRST_PORT, LAST_PORT = 10, 59  # offsets from the platform's port base
HEALTH_LIMIT_SECONDS = 2.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


Described = TypeVar("Described", bound=BaseModel)
Command = Callable[[DeploymentPlan, int], tuple[str, ...]]


class ServingEngine(ABC):
    """Starts and ends model servers."""

    @abstractmethod
    def start(self) -> list[Deployment]:
        """Start the server of every deployment that was not retired, unless it runs. Returns them by name, each at the
        address that it has now: after a change of the platform's ports it is another one."""

    @abstractmethod
    def deploy(self, plan: DeploymentPlan) -> Deployment:
        """Start a server and return its address at once; it may still be loading. The same plan again keeps the server
        as it runs; another plan under the same name replaces it. Raises EnvironmentLacks where there is no room for
        it (a port, an image, a store for the weights)."""

    @abstractmethod
    def retire(self, name: str) -> None:
        """End the server. Does nothing when there is none. Take it out of the gateway's routes first."""

    @abstractmethod
    def running(self) -> list[Deployment]:
        """All deployments that were not retired, by name, healthy or not."""

    @abstractmethod
    def plan(self, name: str) -> DeploymentPlan | None:
        """What a deployment that was not retired was started with."""

    @abstractmethod
    def health(self, name: str) -> Finding:
        """PASSED if the server says that it can answer, FAILED if it does not, ERROR if there is no such deployment."""

    def counted_in(self, name: str) -> frozenset[str] | None:
        """The pods that serve now and count their own requests; None where a gateway counts those of all servers."""
        return None

    @abstractmethod
    def witness(self, name: str) -> str:
        """What shows that a deployment's own server answers at its address, and with the weights of its plan. Raises
        IntegrityError saying what speaks against it, TransientError where nobody is there to answer."""

    @abstractmethod
    def wait_ready(self, deployment: Deployment, timeout_seconds: float) -> None:
        """Return when the server can answer. Raises TransientError when time is over, EnvironmentLacks when it then
        still has no image or no node, IntegrityError when its program has ended and does not come back."""


def llama_command(plan: DeploymentPlan, port: int) -> tuple[str, ...]:
    """One thread: a small model spends more time waiting for a second one than computing in it."""
    options = {
        "--model": plan.model_file,
        "--host": HOST,
        "--port": port,
        "--alias": plan.alias,
        "--context-tokens": plan.context_tokens,
        "--parallel": plan.parallel,
        "--threads": 1,
    }
    flat = (str(part) for option in options.items() for part in option)
    return (str(plan.python), "-m", "recipes.serve", *flat)


class LocalServing(ServingEngine):
    """Servers as supervised programs on 127.0.0.1, on ports from base + 10 to base + 59."""

    def __init__(self, home: Path, port_base: int, processes: Processes, command: Command = llama_command) -> None:
        self._folder = home.absolute() / "serving"
        self._ports = range(port_base + FIRST_PORT, port_base + LAST_PORT + 1)
        self._processes = processes
        self._command = command

    def start(self) -> list[Deployment]:
        documents = [read_json(file) for file in sorted(self._folder.glob("*.json"))]
        plans = [_described(DeploymentPlan, document, "plan") for document in documents if document is not None]
        return [self.deploy(plan) for plan in plans]

    def deploy(self, plan: DeploymentPlan) -> Deployment:
        file = self._folder / f"{plan.name}.json"
        with self._lock():
            known = read_json(file)
            port = known["deployment"]["port"] if known else 0  # no port of ours
            if port not in self._ports or (not self._alive(plan.name) and not is_free(port)):
                port = self._free_port(plan.name)
            deployment = Deployment(
                name=plan.name,
                model=plan.model,
                version=plan.version,
                weights_digest=plan.weights_digest,
                host=HOST,
                port=port,
                timeout_seconds=plan.timeout_seconds,
            )
            document = {"plan": plan.model_dump(mode="json"), "deployment": deployment.model_dump(mode="json")}
            if document != known:
                publish_json(file, document)
            command = self._command(plan, port)
            self._processes.put(Program(_program(plan.name), command, plan.directory, stop_wait_seconds=30))
            return deployment

    def retire(self, name: str) -> None:
        with self._lock():
            self._processes.remove(_program(name))
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def running(self) -> list[Deployment]:
        documents = (read_json(file) for file in sorted(self._folder.glob("*.json")))
        return [_deployment(document) for document in documents if document is not None]

    def plan(self, name: str) -> DeploymentPlan | None:
        document = read_json(self._folder / f"{name}.json")
        return None if document is None else _described(DeploymentPlan, document, "plan")

    def health(self, name: str) -> Finding:
        deployment = next((one for one in self.running() if one.name == name), None)
        if deployment is None:
            return Finding("health", Verdict.ERROR, f"there is no deployment {name}")
        return _ask(deployment)

    def witness(self, name: str) -> str:
        plan, deployment = self.plan(name), next((one for one in self.running() if one.name == name), None)
        if plan is None or deployment is None:
            raise IntegrityError(f"there is no deployment {name}")
        state = self._processes.state_of(_program(name))
        own = family(state.pid) if state is not None and state.pid is not None else []
        holder = next((each for each in own if holds_port(each, deployment.port)), None)
        if holder is None and is_free(deployment.port):
            raise TransientError(f"no server of {name} listens on port {deployment.port}")
        if holder is None:
            who = f"port {deployment.port} is not held by the server of {name}"
            raise IntegrityError(f"{who}: what answers there is another program")
        if opened(holder, plan.model_file) is False:
            raise IntegrityError(f"the server of {name} has another file open than the one at {plan.model_file} now")
        return f"process {holder.pid} of this platform holds port {deployment.port}"

    def wait_ready(self, deployment: Deployment, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        program = _program(deployment.name)
        while True:
            state = self._processes.state_of(program)
            finding = _ask(deployment)
            if state is not None and state.alive and finding.verdict is Verdict.PASSED:
                return  # without a living program it is someone else who answers
            if state is None or state.state in ENDED:
                why = f"{state.state.lower()}, {state.trouble}" if state else "not kept"
                raise IntegrityError(f"the server of {deployment.name} ended ({why}): {self._last_words(program)}")
            if time.monotonic() > deadline:
                late = f"{deployment.name} is not ready after {timeout_seconds:.0f} s: {finding.reason}"
                raise TransientError(f"{late}: {self._last_words(program)}")
            time.sleep(0.02)

    def _lock(self) -> AbstractContextManager[int]:
        return exclusive(self._folder / "lock")

    def _last_words(self, program: str) -> str:
        return self._processes.log_tail(program, 5).strip() or "it wrote nothing"

    def _alive(self, name: str) -> bool:
        state = self._processes.state_of(_program(name))
        return state is not None and state.alive

    def _free_port(self, name: str) -> int:
        taken = {one.port for one in self.running() if one.name != name}
        for port in self._ports:
            if port not in taken and is_free(port):
                return port
        span = f"{self._ports[0]} to {self._ports[-1]}"
        raise EnvironmentLacks(f"no port from {span} is free for {name}: retire a deployment, or set LLMOPS_PORT_BASE")


def _program(name: str) -> str:
    return f"serve.{name}"


def _deployment(document: Any) -> Deployment:
    return _described(Deployment, document, "deployment")


def _described(kind: type[Described], document: Any, part: str) -> Described:
    try:
        return kind.model_validate(document[part])
    except (pydantic.ValidationError, KeyError, TypeError) as error:
        raise IntegrityError(f"a deployment's description is damaged: {error}") from error


def _ask(deployment: Deployment) -> Finding:
    url = f"http://{deployment.host}:{deployment.port}/health"
    try:
        with _direct.open(url, timeout=HEALTH_LIMIT_SECONDS) as response:
            return Finding("health", Verdict.PASSED, f"{url} answers {response.status}")
    except urllib.error.HTTPError as error:
        return Finding("health", Verdict.FAILED, f"{url} answers {error.code}")
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        return Finding("health", Verdict.FAILED, f"{url} does not answer: {why}")
