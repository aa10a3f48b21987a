"""A release to production with the doors of a cluster: Deployments and HTTPRoutes on the stand-in of the API, requests
through a played gateway and each pod's real front, a canary on what these counted. Training and engines are fakes.

Every look at the platform is from a pod of its own, with an empty disk: what pods share are the origin of the
repository, a bucket, the databases and the platform's key."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import yaml

from llmops_assets.canary_run import _served
from llmops_assets.operations.audit import audit
from llmops_assets.operations.retiring import retire
from llmops_assets.operations.rollback import roll_back
from llmops_core.serving_settings import LocalServingPlace
from llmops_core.verdict import Finding, Verdict
from resources.ledger.ledger import SqlLedger
from resources.traffic.httproute_gateway import HttpRouteGateway
from resources.traffic.prometheus_metrics import PrometheusMetrics
from resources.wiring import Platform, build_platform
from tests.contracts.test_serving_contract import plan
from tests.fakes.git_with_data import ANSWERS, made_repository
from tests.fakes.people import GRACE, demand_people, signed
from tests.fakes.platform_doors import UNTIL_APPROVAL, opened
from tests.fakes.pods import SIGNERS, PodWorld, remote_in, settings_for_pods, signers_of
from tests.fakes.s3_servers import CREDENTIALS, moto_server
from tests.fakes.serving import FakeServing
from tests.fakes.serving_clusters import NAMESPACE, ServingCluster, place_of, serving_cluster

STAGED = UNTIL_APPROVAL[:-1]


class Engine(ThreadingHTTPServer):
    """Answers as the tiny model would, for every pod."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = ANSWERS.get(asked["messages"][-1]["content"], "I do not know")
        self._reply({"choices": [{"message": {"role": "assistant", "content": text}}]})

    def _reply(self, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ClusterWorld(PodWorld):
    def __init__(self, root: Path, cluster: ServingCluster) -> None:
        super().__init__(root, SimpleNamespace(port=8600, gateway=None))
        self.cluster = cluster

    def doors(self) -> Platform:
        platform = build_platform(self.pod())
        place = self.cluster.place
        platform.__dict__.update(
            ledger=SqlLedger(f"sqlite:///{self.root / 'ledger.db'}"),
            serving=self.cluster.serving(),
            gateway=HttpRouteGateway(place, self.cluster.client()),
            metrics=PrometheusMetrics(place.prometheus, NAMESPACE),
            **{"registry": self.registry, "jobs": self.jobs, "processes": self.processes},
        )
        return platform

    @property
    def shares(self) -> dict[str, dict[str, int]]:
        table = self.doors().gateway.current()
        told = {r.environment: {s.deployment.version: s.weight_percent for s in r.shares} for r in table.routes}
        return dict(sorted(told.items()))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterWorld]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with serving_cluster() as cluster, moto_server() as store:
        boto3.client("s3", endpoint_url=store).create_bucket(Bucket="llmops")
        engine = Engine()
        cluster.engine = ("127.0.0.1", engine.server_address[1])
        repository = made_repository(tmp_path / "repository")
        made = ClusterWorld(tmp_path, cluster)
        demand_people(made)
        files = {"config/local.yaml": yaml.safe_dump(settings_of(made, store)), SIGNERS: signers_of(made)}
        repository.commit({**files, ".dvc/config": remote_in(repository)}, "serve on the cluster")
        yield opened(made, monkeypatch)
        engine.shutdown()
        engine.server_close()


def settings_of(world: ClusterWorld, store: str) -> dict[str, Any]:
    settings = settings_for_pods(world, store)
    settings["serving"] = world.cluster.place.model_dump(mode="json", exclude_none=True)
    settings["canary"]["latency_limit_seconds"] = 10  # how busy this machine is must decide nothing
    addresses = (world.cluster.played.url, world.cluster.prometheus.url, store)
    return {**settings, "allowed_endpoints": [urlsplit(address).netloc for address in addresses]}


@pytest.mark.slow  # two releases, with real proxies in front of every server
def test_a_release_did_not_reach_production_on_a_cluster(world: ClusterWorld) -> None:
    assert world.materialize(*STAGED).success, world.reasons("staging_tests") + world.reasons("staging_deployment")
    assert world.shares == {"staging": {"1": 100}}
    signed(world, GRACE)
    assert world.materialize("approval", "canary", "production").success, world.reasons("canary")
    assert world.shares == {"production": {"1": 100}, "staging": {"1": 100}}
    links = {link.name: link for link in audit(world.doors(), "tiny")}
    assert {link.verdict for link in links.values()} == {"verified"}, links
    assert "hash every byte" in links["served file"].detail
    report = world.doors().metrics.counts()
    assert sum(counts.requests for name, counts in report.items() if "-production-" in name) > 10

    _refuse_what_finds_no_node(world)
    world.repository.commit_model("training", seed=2)
    assert world.materialize(*STAGED).success
    signed(world, GRACE)
    assert world.materialize("approval", "canary", "production").success, world.reasons("canary")
    assert world.shares == {"production": {"2": 100}, "staging": {"2": 100}}
    running = [one.name.rpartition("-")[0] for one in world.doors().serving.running()]
    assert running == ["tiny-production-v1", "tiny-production-v2", "tiny-staging-v2"], "the version before stays warm"

    roll_back(world.doors(), "tiny", "to see the way back")
    assert world.shares == {"production": {"1": 100}, "staging": {"2": 100}}

    retire(world.doors(), "tiny", "Ada", "nobody asks it", even_though_committed=True)
    world.cluster.api.settle()
    assert world.shares == {} and world.cluster.api.objects("deployments", NAMESPACE) == []


def test_a_candidate_whose_pods_are_gone_was_judged_by_its_counts_alone() -> None:
    """The gateway turns its share away, and no front is there to count it. On one machine nobody needs to ask."""
    serving = FakeServing()
    candidate = serving.deploy(plan("tiny-production-v2"))
    serving.broken.add(candidate.name)

    def asked(place: Any) -> tuple[Finding, ...]:
        doors = SimpleNamespace(settings=SimpleNamespace(serving=place), serving=serving)
        return _served(SimpleNamespace(platform=doors), candidate)  # type: ignore[arg-type]

    (found,) = asked(place_of("https://models.example.com", "https://prometheus.example.com"))
    assert found.verdict is Verdict.FAILED
    assert asked(LocalServingPlace(kind="local")) == ()


def _refuse_what_finds_no_node(world: ClusterWorld) -> None:
    """Such a release ends with what the cluster says, and leaves nothing that a GPU could be given to later."""
    before = world.repository.head
    world.repository.commit_settings("serving", ready_seconds=1)
    world.repository.commit_settings("capacity", memory_gb=60000)
    world.repository.commit_model("resources", memory_gb=60000)
    servers = world.doors().serving.running()
    assert not world.materialize("staging_deployment").success
    (reason,) = world.reasons("staging_deployment")
    assert "unschedulable" in reason and "Insufficient memory" in reason
    assert world.doors().serving.running() == servers
    world.repository.git("reset", "--quiet", "--hard", before)
