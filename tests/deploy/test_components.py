"""What docs/kubernetes.md says to add to an overlay: it fits, and lets through what it is for and nothing else."""

import configparser
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config

from tests.deploy.kustomize import Manifest, render
from tests.deploy.manifests import KUBERNETES, ROOT, named
from tests.deploy.test_manifests import judge
from tests.deploy.test_traffic import PROXY, SERVER, matches

STORE, GATEWAY = "../../../components/store-over-http", "../../../components/gateway-beside-servers"
METADATA = {"169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "168.63.129.16/32", "100.100.100.200/32"}


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Staging, with both added as the page says."""
    copy = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    for part, names in (("platform", [STORE]), ("workloads", [STORE, GATEWAY])):
        file = copy / "overlays" / "staging" / part / "kustomization.yaml"
        plan = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(plan | {"components": [*plan["components"], *names]}))
    return copy / "overlays" / "staging"


@cache
def policies(folder: Path) -> dict[str, Manifest]:
    return {named(each): each["spec"] for each in render(folder) if each["kind"] == "NetworkPolicy"}


def test_what_the_page_says_to_add_does_not_fit(added: Path) -> None:
    for manifest in render(added):
        judge(manifest)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here to compare with")
def test_our_renderer_says_something_else_of_it_than_kustomize(added: Path) -> None:
    output = subprocess.run(["kubectl", "kustomize", added], check=True, capture_output=True, text=True).stdout
    assert {named(each): each for each in render(added)} == {named(each): each for each in yaml.safe_load_all(output)}


def test_a_store_that_speaks_http_stays_shut(added: Path) -> None:
    for space in ("llmops-staging", "llm-staging"):
        assert 80 not in open_ports(policies(KUBERNETES / "overlays" / "staging"), space)
        assert 80 in open_ports(policies(added), space)


def test_with_the_store_the_nodes_credentials_opened_too(added: Path) -> None:
    for space in ("llmops-staging", "llm-staging"):
        (rule,) = policies(added)[f"NetworkPolicy {space}/store-over-http"]["egress"]
        (peer,) = rule["to"]
        assert set(peer["ipBlock"]["except"]) == METADATA


def test_a_proxy_beside_the_servers_is_shut_in(added: Path) -> None:
    policy = policies(added)["NetworkPolicy llm-staging/gateway"]
    assert matches(policy["podSelector"], PROXY) and not matches(policy["podSelector"], SERVER)
    assert {"ports": [{"protocol": "TCP", "port": 80}, {"protocol": "TCP", "port": 443}]} in policy["ingress"]
    servers, _ = policy["egress"]
    assert matches(servers["to"][0]["podSelector"], SERVER) and servers["ports"][0]["port"] == 8000
    (quota,) = [each for each in render(added) if each["kind"] == "ResourceQuota"]
    assert quota["spec"]["hard"]["services.loadbalancers"] == "1"


def test_other_programs_ask_coreweave_by_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Dagster's keeper of logs does: an address from the environment, and no word about how."""
    file = ROOT / "deploy" / "object-store" / "bucket-in-host.ini"
    assert configparser.ConfigParser().read(file)
    for name, value in {"AWS_CONFIG_FILE": str(file), "AWS_ENDPOINT_URL_S3": "http://cwlota.com"}.items():
        monkeypatch.setenv(name, value)
    client: Any = boto3.Session("a", "b", region_name="us-east-04a").client("s3", config=Config())
    address = client.generate_presigned_url("get_object", Params={"Bucket": "models", "Key": "a"})
    assert address.startswith("http://models.cwlota.com/a?")
    inside = re.findall(
        r"^COPY (deploy/\S+\.ini) (\S+)$", (ROOT / "deploy/images/code.Containerfile").read_text(), re.M
    )
    assert inside and f"AWS_CONFIG_FILE: {inside[0][1]}" in (ROOT / "docs" / "kubernetes.md").read_text()


def open_ports(found: dict[str, Manifest], space: str) -> set[int]:
    """To where addresses outside may be asked at all."""
    rules = [rule for name, spec in found.items() if f" {space}/" in name for rule in spec.get("egress", [])]
    blocks = [rule for rule in rules if any(p.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for p in rule["to"])]
    return {port["port"] for rule in blocks for port in rule["ports"]}
