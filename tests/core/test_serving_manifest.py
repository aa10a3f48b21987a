"""Manifests of model servers: what the published schemas refuse, and what they miss."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmops_core import serving_manifest as manifests
from llmops_core.job_names import SELECTOR as JOBS_SELECTOR
from llmops_core.job_settings import GpuPool
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.serving_settings import ClusterServingPlace
from tests.core.kubernetes_schemas import check

DIGEST = "0123456789abcdef" * 4
GATEWAY = {"gateway": {"name": "models", "url": "https://models.example.com"}}
PLAIN = {
    **{"kind": "kubernetes", "namespace": "llm", "image": "code:1", "vllm_image": "vllm:1", **GATEWAY},
    "prometheus": {"url": "https://prometheus.example.com"},
}
FULL = {
    **PLAIN,
    **{"pull_secrets": ["registry"], "secrets": ["s3"], "service_account": "model-server", "priority_class": "serving"},
    **{"node_selector": {"pool": "servers"}, "tolerations": [{"key": "dedicated", "value": "serving"}]},
}
POOLS = {"a100": {"node_selector": {"gpu": "A100"}, "tolerations": [{"key": "nvidia.com/gpu"}]}, "v100": {}}
GPUS = {kind: GpuPool.model_validate(fields) for kind, fields in POOLS.items()}
STORE = manifests.WeightStore("s3://bucket/artifacts", "https://minio.example.com", "eu-central-1")
SMALL = DeploymentPlan(
    name="llama-3.1-8b-production-v3-1a2b3c4d",
    model="llama-3.1-8b",
    version="3",
    weights_digest=DIGEST,
    model_file=Path("model.gguf"),
    alias="llama-3.1-8b@3",
    context_tokens=128,
    parallel=4,
    timeout_seconds=30,
    directory=Path(),
    python=Path("python"),
)
LARGE = SMALL.model_copy(
    update={"engine": "vllm", "gpu_count": 2, "gpu_type": "a100", "replicas": 3, "memory_gb": 64.0, "cpu": 8.0}
)
PLANS = {"llama.cpp": SMALL, "vllm": LARGE}
plans = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


def made(plan: DeploymentPlan, fields: dict[str, Any] = FULL) -> dict[str, Any]:
    return manifests.deployment(plan, ClusterServingPlace.model_validate(fields), STORE, GPUS)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["template"]["spec"]


def containers(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    pod = pod_of(manifest)
    return {one["name"]: one for one in (*pod["initContainers"], *pod["containers"])}


@plans
@pytest.mark.parametrize("fields", [PLAIN, FULL], ids=["plain", "full"])
def test_the_api_server_refused_a_manifest(plan: DeploymentPlan, fields: dict[str, Any]) -> None:
    check(made(plan, fields))
    check(manifests.service(plan, "llm", "uid"))
    budget = manifests.disruption_budget(plan, "llm", "uid")
    assert (budget is not None) == (plan.replicas > 1), (
        "a budget for one replica would keep its node from being drained"
    )
    if budget is not None:
        check(budget)


@plans
def test_a_name_was_no_label_or_too_long_for_what_is_appended(plan: DeploymentPlan) -> None:
    longest = plan.model_copy(update={"name": f"{'a.b-' * 15}x-production-v1234-1a2b3c4d"})
    for each in (plan, longest):
        name = manifests.object_name(each.name)
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= 52
        metadata = made(each)["metadata"]
        assert metadata["name"] == name
        for key, value in metadata["labels"].items():
            assert re.fullmatch(r"([a-z0-9.-]+/)?[A-Za-z0-9._-]{1,63}", key)
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value), (key, value)


def test_two_deployments_shared_a_name() -> None:
    names = ["a.b-production-v1-1a2b3c4d", "a-b-production-v1-1a2b3c4d", "A-b-production-v1-1a2b3c4d"]
    assert len({manifests.object_name(name) for name in names}) == 3


@plans
def test_a_selector_missed_the_pods(plan: DeploymentPlan) -> None:
    manifest = made(plan)
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert manifests.service(plan, "llm", "uid")["spec"]["selector"].items() <= labels.items()
    told = dict(part.split("=") for part in manifests.SELECTOR.split(","))
    assert told.items() <= labels.items() and told.items() <= manifest["metadata"]["labels"].items()
    assert labels["app.kubernetes.io/managed-by"] != JOBS_SELECTOR.partition("=")[2], "the jobs' watch hears of servers"


@plans
def test_a_port_of_a_service_or_probe_was_nobodys(plan: DeploymentPlan) -> None:
    offered = {port["name"] for one in containers(made(plan)).values() for port in one.get("ports", [])}
    asked = [port["targetPort"] for port in manifests.service(plan, "llm", "uid")["spec"]["ports"]]
    for one in containers(made(plan)).values():
        own = {port["name"] for port in one.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert kind not in one or one[kind]["httpGet"]["port"] in own, (one["name"], kind)
    assert set(asked) <= offered


@plans
def test_a_pod_had_more_rights_than_it_needs(plan: DeploymentPlan) -> None:
    pod = pod_of(made(plan))
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(set(volume["emptyDir"]) >= {"sizeLimit"} for volume in pod["volumes"])
    for one in containers(made(plan)).values():
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert one["resources"]["limits"] == one["resources"]["requests"] and "memory" in one["resources"]["limits"]


@plans
def test_the_engine_saw_the_keys_of_the_store_or_could_change_the_weights(plan: DeploymentPlan) -> None:
    found = containers(made(plan))
    assert [name for name, one in found.items() if "envFrom" in one] == [manifests.FETCH]
    (mount,) = [mount for mount in found[manifests.ENGINE]["volumeMounts"] if mount["name"] == "weights"]
    assert mount["readOnly"] is True
    assert all(
        "value" not in variable or "SECRET" not in variable["name"] for one in found.values() for variable in one["env"]
    )


@plans
def test_the_engine_read_other_weights_than_were_fetched(plan: DeploymentPlan) -> None:
    found = containers(made(plan))
    (order,) = [v["value"] for v in found[manifests.FETCH]["env"] if v["name"] == "LLMOPS_WEIGHTS"]
    assert json.loads(order)["digest"] == DIGEST
    command = found[manifests.ENGINE]["command"]
    assert any(word.startswith(f"/weights/weights/{DIGEST}") for word in command)
    assert found[manifests.ENGINE]["image"] == {"llama.cpp": "code:1", "vllm": "vllm:1"}[plan.engine]


@plans
def test_a_rollout_took_a_server_away_before_another_was_ready(plan: DeploymentPlan) -> None:
    assert made(plan)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = pod_of(made(plan))
    for one in pod["containers"]:
        (_, seconds) = one["lifecycle"]["preStop"]["exec"]["command"]
        assert plan.timeout_seconds < int(seconds) < pod["terminationGracePeriodSeconds"], "a request is cut off"


def test_gpus_were_asked_for_without_their_nodes() -> None:
    pod = pod_of(made(LARGE))
    found = containers(made(LARGE))
    assert found[manifests.ENGINE]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in found[manifests.FRONT]["resources"]["limits"]
    assert pod["nodeSelector"] == {"pool": "servers", "gpu": "A100"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in pod["tolerations"]
    assert "/dev/shm" in [mount["mountPath"] for mount in found[manifests.ENGINE]["volumeMounts"]]
    assert "--tensor-parallel-size 2" in " ".join(found[manifests.ENGINE]["command"])
    any_kind = made(LARGE.model_copy(update={"gpu_type": None}))
    assert pod_of(any_kind)["nodeSelector"]["gpu"] == "A100"


@plans
def test_a_plan_was_not_what_was_kept(plan: DeploymentPlan) -> None:
    manifest = made(plan)
    assert DeploymentPlan.model_validate_json(manifest["metadata"]["annotations"][manifests.PLAN]) == plan
    assert manifests.changed_by_hand(manifest, plan) == ""
    other = plan.model_copy(update={"weights_digest": "f" * 64})
    assert manifests.changed_by_hand(manifest, other)
    pod_of(manifest)["initContainers"][0]["env"][-1]["value"] = json.dumps({"digest": "f" * 64})
    assert "fetches the weights ffff" in manifests.changed_by_hand(manifest, plan)


def test_a_change_of_the_manifest_alone_went_unnoticed() -> None:
    kept = made(SMALL)["metadata"]["annotations"]
    assert made(SMALL)["metadata"]["annotations"] == kept
    assert made(SMALL, PLAIN)["metadata"]["annotations"] != kept
