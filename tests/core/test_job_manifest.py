"""Manifests of jobs: what the published schemas refuse, and what they miss."""

import re
from dataclasses import replace
from typing import Any

import pytest
from kubernetes_validate import SchemaNotFoundError

from llmops_core.gpu_needs import Spread, gpus_of_server, spread
from llmops_core.job_manifest import Attempt, Needs, job, service, spent
from llmops_core.job_names import NAME_LABEL, JobIdentity
from llmops_core.job_settings import ClusterJobsPlace
from tests.core.kubernetes_schemas import check

IDENTITY = JobIdentity("llama-3.1-8b", "weights", "finetune", "0123456789abcdef" * 4)
ATTEMPT = Attempt(IDENTITY, 1, "0b1c2d3e-run", Needs(32, 8), {"LLMOPS_JOB": "{}"})
ON_GPUS = replace(ATTEMPT, needs=Needs(32, 8, 1, "a100"))
ON_NODES = replace(ATTEMPT, needs=Needs(32, 8, 16, "a100"))
PLAIN = {"kind": "kubernetes", "namespace": "llm", "image": "training:1", "store": {"uri": "s3://bucket/jobs"}}
FULL = {
    **PLAIN,
    **{"pull_secrets": ["registry"], "secrets": ["s3"], "service_account": "trainer", "queue": "gpus"},
    **{"priority_class": "training", "node_selector": {"pool": "jobs"}},
    "tolerations": [{"key": "spot", "value": "yes", "effect": "NoSchedule"}],
    "gpus": {
        "a100": {"node_selector": {"gpu": "A100"}, "tolerations": [{"key": "nvidia.com/gpu"}], "price_per_hour": 2.0},
        "v100": {"node_selector": {"gpu": "V100"}},
    },
}
PLACES = {"plain": PLAIN, "full": FULL}
ATTEMPTS = {"no gpu": ATTEMPT, "one gpu": ON_GPUS, "two nodes": ON_NODES}


def place(fields: dict[str, Any]) -> ClusterJobsPlace:
    return ClusterJobsPlace.model_validate(fields)


def made(fields: dict[str, Any], attempt: Attempt) -> dict[str, Any]:
    return job(attempt, place(fields))


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("fields", PLACES)
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_api_server_refused_a_manifest(fields: str, attempt: str) -> None:
    asked, where = ATTEMPTS[attempt], place(PLACES[fields])
    check(job(asked, where))
    if (found := service(asked, where, "uid")) is not None:
        check(found)


def test_a_field_with_a_slip_passed_the_check() -> None:
    wrong = made(FULL, ON_GPUS)
    wrong["spec"]["backofLimit"] = 0
    with pytest.raises(Exception, match="backofLimit"):
        check(wrong)


def test_a_kind_without_a_schema_passed_the_check() -> None:
    with pytest.raises(SchemaNotFoundError):
        check({"apiVersion": "example.com/v1", "kind": "Odd", "metadata": {"name": "x"}})


@pytest.mark.parametrize("attempt", ATTEMPTS.values())
def test_the_selector_missed_the_pods(attempt: Attempt) -> None:
    manifest = made(FULL, attempt)
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert labels.items() <= manifest["metadata"]["labels"].items() and labels[NAME_LABEL] == attempt.name
    found = service(attempt, place(FULL), "uid")
    if found is not None:
        assert found["spec"]["selector"].items() <= labels.items() and found["metadata"]["name"] == attempt.name
        assert pod_of(manifest)["subdomain"] == found["metadata"]["name"]


@pytest.mark.parametrize("attempt", ATTEMPTS.values())
def test_the_cluster_retried_what_the_door_decides(attempt: Attempt) -> None:
    manifest = made(FULL, attempt)
    assert manifest["spec"]["backoffLimit"] == 0 and pod_of(manifest)["restartPolicy"] == "Never"
    assert manifest["spec"]["activeDeadlineSeconds"] and manifest["spec"]["ttlSecondsAfterFinished"]


@pytest.mark.parametrize("attempt", ATTEMPTS.values())
def test_a_pod_had_more_rights_than_it_needs(attempt: Attempt) -> None:
    pod = pod_of(made(FULL, attempt))
    assert pod["automountServiceAccountToken"] is False
    rights = pod["securityContext"]
    assert rights["runAsNonRoot"] and rights["runAsUser"] > 0 and rights["seccompProfile"]["type"] == "RuntimeDefault"
    (container,) = pod["containers"]
    held = container["securityContext"]
    assert held["readOnlyRootFilesystem"] and held["capabilities"] == {"drop": ["ALL"]}
    assert held["allowPrivilegeEscalation"] is False
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/scratch", "/tmp", "/dev/shm"}


def test_a_secret_stood_in_the_manifest() -> None:
    container = pod_of(made(FULL, ON_GPUS))["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]


def test_a_pod_could_fill_its_node() -> None:
    pod = pod_of(made(FULL, ON_GPUS))
    size = pod["containers"][0]["resources"]
    assert size["requests"] == size["limits"]
    assert size["limits"] == {
        **{"cpu": "8000m", "memory": "32000M", "ephemeral-storage": "100000M", "nvidia.com/gpu": "1"},
    }
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"])
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8000M"}} in pod["volumes"]


def test_a_job_landed_on_the_wrong_nodes() -> None:
    pod = pod_of(made(FULL, ON_GPUS))
    assert pod["nodeSelector"] == {"pool": "jobs", "gpu": "A100"} and pod["priorityClassName"] == "training"
    assert pod["tolerations"] == [
        {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "operator": "Exists"},
    ]
    assert pod_of(made(FULL, ATTEMPT))["nodeSelector"] == {"pool": "jobs"}


def test_kueue_was_passed_by() -> None:
    manifest = made(FULL, ON_GPUS)
    assert manifest["spec"]["suspend"] is True
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "suspend" not in made(PLAIN, ATTEMPT)["spec"]


def test_several_nodes_could_not_meet() -> None:
    manifest = made(FULL, ON_NODES)
    spec = manifest["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (2, 2, "Indexed")
    variables = {each["name"]: each for each in pod_of(manifest)["containers"][0]["env"]}
    assert variables["PET_MASTER_ADDR"]["value"] == f"{ON_NODES.name}-0.{ON_NODES.name}"
    assert variables["PET_NNODES"]["value"] == "2" and variables["PET_NPROC_PER_NODE"]["value"] == "8"
    assert pod_of(manifest)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in variables)


def test_a_job_was_not_given_the_image_that_it_needs() -> None:
    (container,) = pod_of(made(FULL, replace(ON_GPUS, image="vllm:1")))["containers"]
    assert container["image"] == "vllm:1" and pod_of(made(FULL, ON_GPUS))["containers"][0]["image"] == "training:1"


def test_gpus_were_counted_or_priced_wrongly() -> None:
    dear, free = (spent("job", 1, "succeeded", 1800, each.needs, place(FULL)) for each in (ON_NODES, ATTEMPT))
    assert (dear.gpu_seconds, dear.cost, dear.gpu_type) == (28800, 16.0, "a100")
    assert (free.gpu_seconds, free.cost, free.gpu_type) == (0, 0, "")
    any_kind = spent("job", 1, "succeeded", 3600, Needs(gpu_count=1), place(FULL))
    assert (any_kind.cost, any_kind.gpu_type) == (2.0, "a100")
    uneven = replace(ON_NODES, needs=Needs(32, 8, 9, "a100"))
    (container,) = pod_of(made(FULL, uneven))["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "5"
    assert spent("job", 1, "succeeded", 1, uneven.needs, place(FULL)).gpu_count == 10


def test_gpus_were_held_that_nobody_uses() -> None:
    gpus = place(FULL).gpus
    counts = {count: spread(count, "a100", gpus) for count in (0, 1, 8, 9, 16)}
    assert counts == {0: Spread(), 1: Spread(1, 1), 8: Spread(1, 8), 9: Spread(2, 5), 16: Spread(2, 8)}
    assert [gpus_of_server("vllm", count, "a100", gpus) for count in (0, 2, 16)] == [0, 2, 8]
    assert gpus_of_server("llama.cpp", 2, "a100", gpus) == 0
