"""Servers on the stand-in of the Kubernetes API: what goes wrong in a cluster, and what is said of it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.serving_manifest import WeightStore, object_name
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.verdict import Verdict
from resources.serving.kubernetes_serving import KubernetesServing
from resources.storage.object_store import NamedPlace
from resources.storage.s3_artifacts import S3Artifacts
from tests.contracts.test_serving_contract import plan
from tests.fakes.kubernetes_api import COMMAND, Plan
from tests.fakes.s3_servers import CREDENTIALS, moto_server
from tests.fakes.serving_clusters import NAMESPACE, STORE, ServingCluster, serving_cluster

ROOT = Path(__file__).parents[2]
NAME = "llama-3.1-production-v1-1a2b3c4d"


@pytest.fixture
def cluster() -> Iterator[ServingCluster]:
    with serving_cluster() as made:
        yield made


def asked(**changes: Any) -> DeploymentPlan:
    return plan(NAME, **{"model": "llama-3.1", "model_file": Path("model.gguf"), "timeout_seconds": 2.0, **changes})


def objects(cluster: ServingCluster, plural: str) -> list[dict[str, Any]]:
    return cluster.api.objects(plural, NAMESPACE)


def test_a_server_without_room_was_waited_for_in_silence(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    deployed = serving.deploy(asked(memory_gb=60000.0))
    with pytest.raises(EnvironmentLacks, match=r"not ready after 0 s: unschedulable: .*Insufficient memory"):
        serving.wait_ready(deployed, 0.3)
    assert serving.health(NAME).verdict is Verdict.FAILED


def test_an_image_that_is_not_there_was_waited_for_in_silence(cluster: ServingCluster) -> None:
    cluster.api.kubelet.missing_images.add("code:1")
    serving = cluster.serving()
    with pytest.raises(EnvironmentLacks, match=r"image_not_pulled: .*code:1"):
        serving.wait_ready(serving.deploy(asked()), 0.3)


def test_a_quota_that_lets_no_pod_in_said_nothing(cluster: ServingCluster) -> None:
    """The controller says so in a condition of the Deployment; there is no pod that could."""
    serving = cluster.serving()
    cluster.api.engine.pause()
    deployed = serving.deploy(asked())
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: gpus"}
    found = cluster.api.get("deployments", object_name(NAME), NAMESPACE) or {}
    cluster.api.store.put(cluster.api._kind("deployments"), {**found, "status": {"conditions": [refused]}})
    with pytest.raises(EnvironmentLacks, match=r"FailedCreate: exceeded quota: gpus"):
        serving.wait_ready(deployed, 0.1)
    cluster.api.engine.resume()


def test_a_server_that_ends_again_and_again_was_waited_for(cluster: ServingCluster) -> None:
    cluster.api.kubelet.plan = lambda pod: Plan(0.0, 1, lines=("cannot serve: no such model",))
    serving = cluster.serving()
    deployed = serving.deploy(asked())
    for _ in range(3):
        cluster.api.settle()
        cluster.api.clock.advance(30)
    with pytest.raises(IntegrityError, match=r"ended again and again \(exit code 1\): cannot serve: no such model"):
        serving.wait_ready(deployed, 20)


def test_a_server_that_loads_for_long_was_called_broken(cluster: ServingCluster) -> None:
    cluster.api.kubelet.plan = lambda pod: Plan(starts_after_seconds=60)
    serving = cluster.serving()
    with pytest.raises(TransientError, match=r"not ready after 0 s: 0 of 1 replicas are ready"):
        serving.wait_ready(serving.deploy(asked()), 0.2)


def test_a_cluster_that_does_not_answer_was_called_healthy_or_ended_the_wait(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    deployed = serving.deploy(asked())
    serving.wait_ready(deployed, 10)
    cluster.api.faults.refuse(503, verb="get", resource="deployments", times=3)
    assert serving.health(NAME).verdict is Verdict.ERROR
    serving.wait_ready(deployed, 10)


@pytest.mark.parametrize("plural", ["deployments", "services"])
def test_what_somebody_else_made_under_our_name_was_replaced(cluster: ServingCluster, plural: str) -> None:
    serving = cluster.serving()
    serving.deploy(asked())
    (found,) = objects(cluster, plural)
    theirs = {**found, "metadata": {**found["metadata"], "labels": {"app": "theirs"}, "ownerReferences": []}}
    cluster.api.store.put(cluster.api._kind(plural), theirs)
    with pytest.raises(IntegrityError, match=rf"{plural} .* is there, but .*look who made it"):
        serving.deploy(asked(context_tokens=64))
    if plural == "deployments":
        with pytest.raises(IntegrityError, match="look who made it"):
            serving.retire(NAME)
    assert objects(cluster, plural)[0]["metadata"]["labels"] == {"app": "theirs"}


def test_a_changed_plan_took_the_old_server_away_first(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    serving.wait_ready(serving.deploy(asked(replicas=2)), 10)
    cluster.api.kubelet.plan = lambda pod: Plan(starts_after_seconds=3600)
    changed = serving.deploy(asked(replicas=2, context_tokens=64))
    cluster.api.settle()
    assert serving.health(NAME).reason == "2 of 2 replicas are ready" and len(objects(cluster, "pods")) == 3
    with pytest.raises(TransientError):
        serving.wait_ready(changed, 0.1)


def test_replicas_had_no_budget_or_one_replica_had_one(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    serving.deploy(asked(replicas=2))
    assert [one["metadata"]["name"] for one in objects(cluster, "poddisruptionbudgets")] == [object_name(NAME)]
    serving.deploy(asked())
    assert objects(cluster, "poddisruptionbudgets") == []


def test_a_deployment_that_died_half_way_was_never_finished(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    cluster.api.faults.refuse(500, verb="create", resource="services")
    with pytest.raises(TransientError):
        serving.deploy(asked())
    assert objects(cluster, "services") == []
    serving.deploy(asked())
    assert len(objects(cluster, "services")) == len(objects(cluster, "deployments")) == 1


def test_a_service_of_an_earlier_deployment_was_taken_for_ours(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    serving.deploy(asked())
    cluster.api.engine.pause()  # nobody collects what belonged to the one that goes
    serving.retire(NAME)
    serving.deploy(asked())
    cluster.api.engine.resume()
    cluster.api.settle()
    (found,), (service,) = objects(cluster, "deployments"), objects(cluster, "services")
    assert service["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]


def test_a_retirement_left_something(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    serving.wait_ready(serving.deploy(asked(replicas=2)), 10)
    serving.retire(NAME)
    cluster.api.settle()
    for plural in ("deployments", "replicasets", "pods", "services", "poddisruptionbudgets"):
        assert objects(cluster, plural) == [], plural


def test_two_workers_made_two_servers_or_fell_over_each_other(cluster: ServingCluster) -> None:
    first, second = cluster.serving(), cluster.serving()
    first.deploy(asked())
    cluster.api.faults.refuse(404, verb="get", resource="deployments")  # the second looked before the first made it
    assert second.deploy(asked()) == first.running()[0] and len(objects(cluster, "deployments")) == 1


def test_what_a_hand_changed_was_believed_or_kept(cluster: ServingCluster) -> None:
    serving = cluster.serving()
    serving.deploy(asked())
    cluster.api.settle()
    found = cluster.api.get("deployments", object_name(NAME), NAMESPACE) or {}
    engine = found["spec"]["template"]["spec"]["containers"][0]
    engine["command"] = ["python", "-m", "http.server"]
    cluster.api.verbs.replace(cluster.api._kind("deployments"), (NAMESPACE, object_name(NAME)), found)
    with pytest.raises(IntegrityError, match=r"changed by hand: its server runs python -m http\.server"):
        serving.plan(NAME)
    serving.deploy(asked())
    assert serving.plan(NAME) == asked()


def test_a_misspelt_manifest_was_taken_without_a_word(cluster: ServingCluster) -> None:
    cluster.serving().deploy(asked(replicas=2))
    writes = [path for method, path in cluster.api.requests if method in ("POST", "PUT") and "/namespaces/" in path]
    assert writes and all("fieldValidation=Strict" in path for path in writes)


def test_pods_were_to_fetch_weights_from_nowhere(cluster: ServingCluster) -> None:
    without = KubernetesServing(cluster.place, cluster.client(), None, {})
    with pytest.raises(EnvironmentLacks, match=r"platform\.artifacts"):
        without.deploy(asked())
    with pytest.raises(EnvironmentLacks, match=r"serving\.vllm_image"):
        cluster.serving(vllm_image=None).deploy(asked(engine="vllm", gpu_count=1))
    assert objects(cluster, "deployments") == []


@pytest.mark.slow  # a pod's three programs are started one after the other: weights, engine, front
def test_a_pod_did_not_answer_as_its_plan_says(
    cluster: ServingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs are the real ones, except for the engine, which is of a few lines."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "__init__.py").write_text("")
    (tmp_path / "recipes" / "serve.py").write_text(ENGINE)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.gguf").write_text("GGUF of the test")
    with moto_server() as s3:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", endpoint_url=s3, region_name="us-east-1").create_bucket(Bucket="bucket")
        bucket = NamedPlace("test", "store", "s3://bucket/artifacts", s3, "us-east-1")
        digest = S3Artifacts(bucket, tmp_path / "cache").publish("weights", tmp_path / "weights").digest
        cluster.api.kubelet.plan = lambda pod: COMMAND
        path, ours = f"{Path(sys.executable).parent}:{os.environ['PATH']}", f":{tmp_path}:{ROOT}"  # no path of a mount
        cluster.api.kubelet.image_environment = {**CREDENTIALS, "PATH": path, "PYTHONPATH": ours}
        serving = KubernetesServing(cluster.place, cluster.client(), WeightStore(STORE.uri, s3, "us-east-1"), {})
        deployed = serving.deploy(asked(weights_digest=digest))
        serving.wait_ready(deployed, 60)
        _asked_through_the_gateway(cluster, deployed, digest)
        missing = serving.deploy(asked(weights_digest="0" * 64))
        with pytest.raises(IntegrityError, match=r"there are no weights 0000"):
            _advancing(cluster, lambda: serving.wait_ready(missing, 60))


ENGINE = """
import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
parser = argparse.ArgumentParser()
for name in ("--model", "--host", "--port", "--alias", "--context-tokens", "--parallel", "--threads"):
    parser.add_argument(name)
given = parser.parse_args()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = open(given.model, "rb").read()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_POST = do_GET
    def log_message(self, *_):
        pass

ThreadingHTTPServer((given.host, int(given.port)), Handler).serve_forever()
"""


def _asked_through_the_gateway(cluster: ServingCluster, deployed: Any, digest: str) -> None:
    from resources.traffic.httproute_gateway import HttpRouteGateway
    from tests.fakes.platform import route, table

    HttpRouteGateway(cluster.place, cluster.client(), 20).apply(table(route((deployed, 100))))
    answer = cluster.ask("/models/llama-3.1", {})
    assert (answer.status, answer.body) == (200, b"GGUF of the test")
    assert (answer.headers["x-llmops-version"], answer.headers["x-llmops-weights-digest"]) == ("1", digest)


def _advancing(cluster: ServingCluster, act: Any) -> None:
    """The kubelet's pauses between restarts pass at once."""
    import threading

    ended = threading.Event()

    def hurry() -> None:
        while not ended.wait(0.5):
            cluster.api.clock.advance(30)

    thread = threading.Thread(target=hurry, daemon=True)
    thread.start()
    try:
        act()
    finally:
        ended.set()
        thread.join()
