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


def suite(kubeconfig: str, *chosen: str) -> str:
    environment = {**os.environ, "LLMOPS_TEST_KUBECONFIG": kubeconfig, "LLMOPS_TEST_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "pytest", "-v", "-rs", "-m", "cluster", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250)
    return done.stdout + done.stderr


@pytest.mark.slow  # its pods start Python some twenty times
def test_the_tests_for_a_cluster_do_not_work() -> None:
    """Of the door to jobs only the first: the contract suite has the door on the stand-in. No runs and no training,
    whose pods import Dagster and torch. Of servers only the routes: test_kubernetes_serving.py starts a pod of theirs.
    """
    with KubernetesApi() as api:
        api.kubelet.plan = lambda pod: COMMAND
        api.kubelet.image_environment = {"PATH": PROGRAMS, "PYTHONPATH": str(ROOT)}
        api.kubelet.missing_images.add("registry.invalid/nothing:1")
        left_out = "test_door or test_runs or test_resume or served_replaced_or_retired or weights_that_nobody_has"
        chosen = f"not ({left_out}) or left_no_result"
        told = suite(api.kubeconfig, "tests/cluster", "-k", chosen)
        (passed,) = re.findall(r"(\d+) passed", told)
        assert int(passed) >= 21 and not re.search(r"SKIPPED|\d+ (failed|error)", told), told
        assert [each["metadata"]["name"] for each in api.objects("namespaces")] == ["default", "kube-system"]


def test_a_suite_without_a_cluster_passed_in_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has imported already what takes seconds."""
    monkeypatch.setenv("LLMOPS_TEST_KUBECONFIG", "")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # those of the suite around this one, which measures
    monkeypatch.chdir(ROOT)
    plain = ["-v", "-rs", "-m", "cluster", "-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest.main([*plain, "tests/cluster/test_api_facts.py"])
    told = capsys.readouterr().out
    assert "no cluster: LLMOPS_TEST_KUBECONFIG names no kubeconfig" in told and "passed" not in told, told
