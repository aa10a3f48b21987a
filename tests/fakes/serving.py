"""A serving engine in memory. Tests decide which deployments are broken."""

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.routing import Deployment
from llmops_core.verdict import Finding, Verdict
from resources.serving.serving import DeploymentPlan, ServingEngine


class FakeServing(ServingEngine):
    def __init__(self, ports: range = range(8610, 8660)) -> None:
        self.plans: dict[str, DeploymentPlan] = {}
        self.starts: list[str] = []
        self.broken: set[str] = set()
        self.loading: set[str] = set()
        self._ports = ports
        self._deployments: dict[str, Deployment] = {}

    def start(self) -> list[Deployment]:
        return [self.deploy(self.plans[name]) for name in sorted(self.plans)]

    def deploy(self, plan: DeploymentPlan) -> Deployment:
        known = self._deployments.get(plan.name)
        port = known.port if known else self._free_port(plan.name)
        if self.plans.get(plan.name) != plan:
            self.starts.append(plan.name)
        self.plans[plan.name] = plan
        self._deployments[plan.name] = Deployment(
            name=plan.name,
            model=plan.model,
            version=plan.version,
            weights_digest=plan.weights_digest,
            host="127.0.0.1",
            port=port,
            timeout_seconds=plan.timeout_seconds,
        )
        return self._deployments[plan.name]

    def retire(self, name: str) -> None:
        self.plans.pop(name, None)
        self._deployments.pop(name, None)

    def running(self) -> list[Deployment]:
        return [self._deployments[name] for name in sorted(self._deployments)]

    def plan(self, name: str) -> DeploymentPlan | None:
        return self.plans.get(name)

    def health(self, name: str) -> Finding:
        if name not in self._deployments:
            return Finding("health", Verdict.ERROR, f"there is no deployment {name}")
        if name in self.broken | self.loading:
            return Finding("health", Verdict.FAILED, "the server does not answer")
        return Finding("health", Verdict.PASSED, "the server answers 200")

    def witness(self, name: str) -> str:
        if name not in self._deployments or name in self.broken:
            raise IntegrityError(f"no server of {name} runs here")
        return "the server of this name runs"

    def wait_ready(self, deployment: Deployment, timeout_seconds: float) -> None:
        if deployment.name in self.broken or deployment.name not in self._deployments:
            raise IntegrityError(f"the server of {deployment.name} ended")
        if deployment.name in self.loading:
            raise TransientError(f"{deployment.name} is not ready after {timeout_seconds:.0f} s")

    def _free_port(self, name: str) -> int:
        taken = {one.port for one in self._deployments.values()}
        free = next((port for port in self._ports if port not in taken), None)
        if free is None:
            raise EnvironmentLacks(f"no port is free for {name}")
        return free
