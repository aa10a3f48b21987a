"""Model servers as Deployments of a Kubernetes cluster, found again by whoever asks: the cluster keeps the plans.

Service and disruption budget belong to their Deployment and go when it goes, so a retirement is one deletion, and a
deployment that died half way is finished by the next. A changed plan replaces the Deployment as it was read: of two
processes one is refused, reads again, and finds its plan or makes it.
"""

import time
from collections.abc import Mapping

from pydantic import ValidationError

from llmops_core import serving_manifest as manifests
from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.job_outcomes import condition_of
from llmops_core.job_settings import GpuPool
from llmops_core.routing import Deployment
from llmops_core.server_state import Crash, crash_of, is_leaving, is_ready, lacks, replicas_told
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.serving_settings import ClusterServingPlace
from llmops_core.verdict import Finding, Verdict
from resources.cluster.kubernetes_api import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    PODS,
    SERVICES,
    AlreadyExists,
    Kind,
    KubernetesApi,
    Manifest,
    refuse_foreign,
)
from resources.serving.serving import ServingEngine

ATTEMPTS = 20
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
LINES = 15


class KubernetesServing(ServingEngine):
    """`store` is where pods fetch weights, None where there is no such place; `gpus` says where GPUs of a kind are."""

    def __init__(
        self,
        place: ClusterServingPlace,
        api: KubernetesApi,
        store: manifests.WeightStore | None,
        gpus: Mapping[str, GpuPool],
    ) -> None:
        self._place, self._api, self._store, self._gpus = place, api, store, gpus

    def start(self) -> list[Deployment]:
        return [self.deploy(_plan_in(found)) for found in self._all()]

    def deploy(self, plan: DeploymentPlan) -> Deployment:
        wanted = manifests.deployment(plan, self._place, self._store_for(plan), self._gpus)
        for attempt in range(ATTEMPTS):
            found = self._made(wanted, plan)
            if found is not None:
                break
            time.sleep(PAUSE_SECONDS * (attempt + 1))
        else:
            raise TransientError(f"the deployment {plan.name} is changed faster than it can be read: try again")
        uid = found["metadata"]["uid"]
        self._belongs(SERVICES, manifests.service(plan, self._place.namespace, uid), uid)
        budget = manifests.disruption_budget(plan, self._place.namespace, uid)
        if budget is not None:
            self._belongs(DISRUPTION_BUDGETS, budget, uid)
        elif (stale := self._api.get(DISRUPTION_BUDGETS, manifests.object_name(plan.name))) is not None:
            self._api.delete(
                DISRUPTION_BUDGETS, stale["metadata"]["name"], stale["metadata"]["uid"], propagation="Background"
            )
        return manifests.address(plan, self._place.namespace)

    def retire(self, name: str) -> None:
        found = self._found(name)
        if found is not None:
            refuse_foreign(DEPLOYMENTS, found, manifests.MANAGER)
            metadata = found["metadata"]
            self._api.delete(DEPLOYMENTS, metadata["name"], metadata["uid"], propagation="Background")

    def running(self) -> list[Deployment]:
        found = [manifests.address(_plan_in(each), self._place.namespace) for each in self._all()]
        return sorted(found, key=lambda one: one.name)

    def plan(self, name: str) -> DeploymentPlan | None:
        found = self._found(name)
        if found is None:
            return None
        plan = _plan_in(found)
        if why := manifests.changed_by_hand(found, plan):
            raise IntegrityError(f"the Deployment {found['metadata']['name']} was changed by hand: {why}")
        return plan

    def health(self, name: str) -> Finding:
        """By what the cluster last heard of the pods' own readiness, which is asked of the engine every few seconds."""
        try:
            found = self._found(name)
        except TransientError as error:
            return Finding("health", Verdict.ERROR, str(error))
        if found is None:
            return Finding("health", Verdict.ERROR, f"there is no deployment {name}")
        ready = (found.get("status") or {}).get("readyReplicas", 0)
        return Finding("health", Verdict.PASSED if ready else Verdict.FAILED, replicas_told(found))

    def counted_in(self, name: str) -> frozenset[str]:
        return frozenset(pod["metadata"]["name"] for pod in self._pods(name) if condition_of(pod, "Ready") is not None)

    def witness(self, name: str) -> str:
        """The Service leads to pods of the Deployment alone, and these are as planned; each hashed its weights."""
        if self.plan(name) is None:
            raise IntegrityError(f"there is no deployment {name}")
        seen = self.health(name)
        if seen.verdict is not Verdict.PASSED:
            raise TransientError(f"no pod of {name} is ready: {seen.reason}")
        return seen.reason

    def wait_ready(self, deployment: Deployment, timeout_seconds: float) -> None:
        deadline, pause = time.monotonic() + timeout_seconds, PAUSE_SECONDS
        while True:
            try:
                found = self._found(deployment.name)
                if found is not None and is_ready(found):
                    return
                pods = self._pods(deployment.name)
            except TransientError:
                if time.monotonic() > deadline:
                    raise
            else:
                if found is None:
                    raise IntegrityError(f"the server of {deployment.name} ended (its Deployment is gone)")
                if (crash := crash_of(pods)) is not None:
                    raise IntegrityError(f"the server of {deployment.name} ended: {crash}: {self._words(crash)}")
                if time.monotonic() > deadline:
                    late = f"{deployment.name} is not ready after {timeout_seconds:.0f} s"
                    if why := lacks(found, pods):
                        raise EnvironmentLacks(f"{late}: {why}")
                    raise TransientError(f"{late}: {replicas_told(found)}; {self._last_of(pods)}")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    def _store_for(self, plan: DeploymentPlan) -> manifests.WeightStore:
        if self._store is None:
            lacking = "pods fetch weights from an object store, and the settings name none"
            raise EnvironmentLacks(f"{lacking}: add platform.artifacts to the environment's file")
        if plan.engine == "vllm" and self._place.vllm_image is None:
            raise EnvironmentLacks("the settings name no image of vLLM: add serving.vllm_image")
        return self._store

    def _made(self, wanted: Manifest, plan: DeploymentPlan) -> Manifest | None:
        """The Deployment as it shall be; None where somebody else was faster, or an older one is still leaving."""
        found = self._api.get(DEPLOYMENTS, wanted["metadata"]["name"])
        if found is None:
            try:
                return self._api.create(DEPLOYMENTS, wanted)
            except AlreadyExists:
                return None
        if is_leaving(found):
            return None
        refuse_foreign(DEPLOYMENTS, found, manifests.MANAGER)
        told, asked = found["metadata"].get("annotations") or {}, wanted["metadata"]["annotations"]
        same = all(told.get(name) == value for name, value in asked.items())
        if same and not manifests.changed_by_hand(found, plan):
            return found
        return self._api.replace(DEPLOYMENTS, found, wanted)

    def _belongs(self, kind: Kind, manifest: Manifest, uid: str) -> None:
        """Makes what a Deployment owns; one that belonged to an earlier Deployment of this name goes first."""
        name = manifest["metadata"]["name"]
        for attempt in range(ATTEMPTS):
            try:
                self._api.create(kind, manifest)
                return
            except AlreadyExists:
                found = self._api.get(kind, name)
            if found is None:
                continue
            if any(owner["uid"] == uid for owner in found["metadata"].get("ownerReferences") or ()):
                return
            refuse_foreign(kind, found, manifests.MANAGER)
            self._api.delete(kind, name, found["metadata"]["uid"], propagation="Background")
            time.sleep(PAUSE_SECONDS * attempt)
        raise TransientError(f"{kind.plural} {name} of an earlier deployment does not go: try again")

    def _all(self) -> list[Manifest]:
        found = self._api.every(DEPLOYMENTS, manifests.SELECTOR)
        return [each for each in found if not is_leaving(each)]

    def _found(self, name: str) -> Manifest | None:
        found = self._api.get(DEPLOYMENTS, manifests.object_name(name))
        return None if found is None or is_leaving(found) else found

    def _pods(self, name: str) -> list[Manifest]:
        found = self._api.every(PODS, f"{manifests.DEPLOYMENT_LABEL}={manifests.object_name(name)}")
        return [pod for pod in found if not is_leaving(pod)]

    def _words(self, crash: Crash) -> str:
        said = crash.words or self._api.log(crash.pod, LINES, crash.container, previous=True)
        return said.strip() or "it wrote nothing"

    def _last_of(self, pods: list[Manifest]) -> str:
        for pod in pods:
            if said := self._api.log(pod["metadata"]["name"], LINES, manifests.ENGINE).strip():
                return said
        return "it wrote nothing" if pods else "it has no pod"


def _plan_in(found: Manifest) -> DeploymentPlan:
    name = found["metadata"]["name"]
    try:
        return DeploymentPlan.model_validate_json(found["metadata"]["annotations"][manifests.PLAN])
    except (ValidationError, KeyError, TypeError) as error:
        raise IntegrityError(f"the Deployment {name} does not say what it serves: {error}") from error
