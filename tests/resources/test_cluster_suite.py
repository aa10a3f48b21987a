"""The tests for a real cluster, run on the stand-in: they work before somebody has a cluster to run them on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.kubernetes_api import COMMAND, KubernetesApi

ROOT = Path(__file__).parents[2]
PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def suite(kubeconfig: str) -> str:
    environment = {**os.environ, "LLMOPS_TEST_KUBECONFIG": kubeconfig, "LLMOPS_TEST_HOST": "127.0.0.1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cluster", "tests/cluster", "-rs", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200).stdout


@pytest.mark.slow  # its processes start Python some thirty times
def test_the_tests_for_a_cluster_do_not_work() -> None:
    with KubernetesApi() as api:
        api.kubelet.plan = lambda pod: COMMAND
        api.kubelet.image_environment = {"PATH": PROGRAMS, "PYTHONPATH": str(ROOT)}
        api.kubelet.missing_images.add("registry.invalid/nothing:1")
        told = suite(api.kubeconfig)
        assert re.search(r"^\d+ passed", told.splitlines()[-1] or "") or "[100%]" in told, told
        assert "failed" not in told.lower() and "SKIPPED" not in told, told
        assert [each["metadata"]["name"] for each in api.objects("namespaces")] == ["default", "kube-system"]


def test_a_suite_without_a_cluster_passed_in_silence() -> None:
    told = suite("")
    assert "no cluster: LLMOPS_TEST_KUBECONFIG names no kubeconfig" in told and "passed" not in told
