"""An environment is called well only when everything that a release needs was seen to be there."""

import pytest

from llmops_core.doctor import (
    Diagnosis,
    Health,
    Right,
    judge_clock,
    judge_disk,
    judge_kinds,
    judge_refusals,
    judge_rights,
    judge_version,
    only_inside,
    verdict_of,
)
from llmops_core.gpu_nodes import Node, Taint, judge_gpus
from llmops_core.job_settings import ClusterJobsPlace

GPU = {"resource": "nvidia.com/gpu", "node_selector": {"gpu": "a100"}, "per_node": 2}
TAINT = Taint("nvidia.com/gpu", "present", "NoSchedule")


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([Health.OK, Health.NOT_NEEDED], "well"),
        ([Health.OK, Health.UNKNOWN], "unknown"),
        ([Health.UNKNOWN, Health.FAILED], "failed"),
        ([], "unknown"),
    ],
)
def test_what_nobody_could_see_was_called_well(verdicts: list[Health], whole: str) -> None:
    assert verdict_of([Diagnosis("part", verdict, "found") for verdict in verdicts]) == whole


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("http://mlflow.llmops-staging.svc.cluster.local:5000", True),
        ("http://prometheus.monitoring.svc:9090", True),
        ("postgres-0.postgres.db.svc.cluster.local", True),
        ("postgres.llmops.example.com", False),
        ("https://svc.example.com", False),
        ("http://[::1]:5000", False),
    ],
)
def test_a_name_that_only_pods_know_was_asked_outside(address: str, inside: bool) -> None:
    assert only_inside(address) is inside


@pytest.mark.parametrize(("seconds", "verdict"), [(2.0, Health.OK), (-45.0, Health.FAILED), (45.0, Health.FAILED)])
def test_a_clock_that_is_behind_was_taken_for_right(seconds: float, verdict: Health) -> None:
    found = judge_clock("clock against it", seconds)
    assert found.verdict is verdict
    assert ("behind" in found.found) == (seconds < 0)


@pytest.mark.parametrize(("minor", "verdict"), [("36", Health.OK), ("29+", Health.OK), ("28", Health.FAILED)])
def test_an_old_cluster_was_taken_for_one_that_will_do(minor: str, verdict: Health) -> None:
    assert judge_version(f"v1.{minor}", minor).verdict is verdict


def test_a_refused_write_was_hidden_by_a_list_that_worked() -> None:
    found = judge_refusals("artifacts", "s3://b/a", {"list": "", "write": "access denied"}, True)
    assert (found.verdict, found.found) == (Health.FAILED, "write: access denied")
    assert judge_refusals("artifacts", "s3://b/a", {"list": "", "write": ""}, True).verdict is Health.OK
    away = judge_refusals("artifacts", "s3://b/a", {"list": "no such host"}, False)
    assert (
        away.verdict is Health.FAILED and "address" in away.mend and "policy" not in away.mend.replace("policies", "")
    )


def test_one_missing_right_of_many_was_overlooked() -> None:
    granted = {Right("create", "batch", "jobs"): True, Right("get", "", "pods", "log"): False}
    found = judge_rights("rights of jobs", "llm-staging", granted)
    assert found.verdict is Health.FAILED and "get pods/log" in found.found and "create" not in found.found


def test_a_kind_was_found_in_another_group() -> None:
    needed = {"kueue.x-k8s.io": ("LocalQueue", "Kueue")}
    (found,) = judge_kinds(needed, {"kueue.x-k8s.io": ["Workload"]})
    assert (found.verdict, found.mend) == (Health.FAILED, "install Kueue")
    (found,) = judge_kinds(needed, {"kueue.x-k8s.io": ["Workload", "LocalQueue"]})
    assert found.verdict is Health.OK


def test_a_full_disk_was_taken_for_an_empty_one() -> None:
    assert judge_disk("/x", 10**9).verdict is Health.FAILED
    assert judge_disk("/x", 10**11).verdict is Health.OK


@pytest.mark.parametrize(
    ("node", "tolerations", "verdict", "found"),
    [
        (Node("n", True, {"gpu": "a100"}, (), {"nvidia.com/gpu": 8}), [], Health.OK, "8 on 1 nodes, 8 on one"),
        (Node("n", True, {"gpu": "v100"}, (), {"nvidia.com/gpu": 8}), [], Health.FAILED, "no node with gpu=a100"),
        (Node("n", False, {"gpu": "a100"}, (), {"nvidia.com/gpu": 8}), [], Health.FAILED, "none ready"),
        (Node("n", True, {"gpu": "a100"}, (), {"nvidia.com/gpu": 1}), [], Health.FAILED, "1 on one"),
        (Node("n", True, {"gpu": "a100"}, (), {}), [], Health.FAILED, "0 on one"),
        (
            Node("n", True, {"gpu": "a100"}, (TAINT,), {"nvidia.com/gpu": 8}),
            [],
            Health.FAILED,
            "shut by nvidia.com/gpu",
        ),
        (
            Node("n", True, {"gpu": "a100"}, (TAINT,), {"nvidia.com/gpu": 8}),
            [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
            Health.OK,
            "8 on 1 nodes",
        ),
        (
            Node("n", True, {"gpu": "a100"}, (TAINT,), {"nvidia.com/gpu": 8}),
            [{"key": "nvidia.com/gpu", "value": "other"}],
            Health.FAILED,
            "shut by",
        ),
        (
            Node("n", True, {"gpu": "a100"}, (Taint("a", "", "PreferNoSchedule"),), {"nvidia.com/gpu": 2}),
            [],
            Health.OK,
            "2 on 1 nodes",
        ),
    ],
)
def test_jobs_would_wait_for_gpus_that_are_not_theirs(
    node: Node, tolerations: list[dict[str, str]], verdict: Health, found: str
) -> None:
    place = ClusterJobsPlace.model_validate(
        {
            "kind": "kubernetes",
            "namespace": "llm",
            "image": "registry.example.com/training:1.0.0",
            "store": {"uri": "s3://bucket/jobs"},
            "gpus": {"a100": {**GPU, "tolerations": tolerations}},
        }
    )
    said = judge_gpus("a100", place.gpus["a100"], place, [node, Node("other", True)])
    assert said.verdict is verdict and found in said.found
