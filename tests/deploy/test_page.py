"""docs/kubernetes.md names what is there: files, objects, versions. (tests/test_docs.py checks commands and links.)"""

import re

import pytest

from llmops_core.uris import parse_s3
from tests.deploy.manifests import HELM, KUBERNETES, ROOT, named, of_kind, one, settings
from tests.deploy.test_helm import merged

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
MADE = {"deploy/images/torch-cu126.lock"}  # by the line that names it


def test_a_command_names_a_file_that_is_not_there() -> None:
    named = set(re.findall(r"(?:deploy|config|requirements)/[\w./-]*\w", BLOCKS))
    assert named and {path for path in named - MADE if not (ROOT / path).exists()} == set()


def test_a_secret_that_the_manifests_want_is_not_made_by_hand() -> None:
    wanted = {(s["metadata"]["namespace"], s["spec"]["target"]["name"]) for s in of_kind("staging", "ExternalSecret")}
    for _, name in wanted:
        assert re.search(rf"create secret [\w-]+ {name}\b|/{name}\b", BLOCKS), name
    for secret in of_kind("staging", "ExternalSecret"):
        for key in [datum["secretKey"] for datum in secret["spec"]["data"] if not datum["secretKey"].startswith(".")]:
            assert re.search(rf"--from-(literal|file)={key}=", BLOCKS), key


def test_the_page_installs_another_chart_than_the_values_are_for() -> None:
    assert set(re.findall(r"dagster/dagster --version (\S+)", PAGE)) == set(
        re.findall(r"dagster/dagster --version (\S+)", (HELM / "values.yaml").read_text())
    )


def test_an_operator_is_whatever_was_published_last() -> None:
    installed = re.findall(r"^helm upgrade --install (\S+)((?:.*\\\n)*.*)", BLOCKS, re.MULTILINE)
    assert {name for name, _ in installed} >= {"gateway", "external-secrets", "monitoring", "kueue", "dagster"}
    for name, rest in installed:
        assert name == "gpu-operator" or re.search(r"--version v?\d+\.\d+\.\d+\b", rest), name


@pytest.mark.parametrize(("kind", "value"), [("PodMonitor", "podMonitor"), ("ServiceMonitor", "serviceMonitor")])
def test_a_monitor_that_the_pages_prometheus_does_not_read(kind: str, value: str) -> None:
    """Unless told otherwise the chart's Prometheus reads those alone that bear the label of its own release."""
    (installed,) = re.findall(r"install monitoring kube-prometheus-stack((?:.*\\\n)*.*)", BLOCKS)
    assert of_kind("staging", kind)
    assert f"--set prometheus.prometheusSpec.{value}SelectorNilUsesHelmValues=false" in installed


def test_the_shell_of_the_page_is_another_than_that_of_the_manifests() -> None:
    moving = (ROOT / "docs" / "moving.md").read_text(encoding="utf-8")
    for space, name in re.findall(r"-n (\S+) (?:scale|exec|exec -i) deployment/(llmops-\S+)", PAGE + moving):
        assert one("staging", "Deployment", name)["metadata"]["namespace"] == space
    assert "exec -i deployment/llmops-shell" in moving


def test_a_label_of_the_page_is_one_that_no_policy_knows() -> None:
    told = set(re.findall(r"(llmops\.dev/(?:gateway|monitoring|storage))=true", PAGE))
    policies = str(of_kind("staging", "NetworkPolicy"))
    assert told == {"llmops.dev/gateway", "llmops.dev/monitoring", "llmops.dev/storage"}
    assert all(label in policies for label in told)
    one("staging", "Gateway", "models")


def test_a_line_to_add_names_no_component() -> None:
    added = re.findall(r"^  - ../../../(components/\S+)$", PAGE, re.MULTILINE)
    assert set(added) == {"components/gateway-beside-servers", "components/store-over-http"}
    assert all((KUBERNETES / name / "kustomization.yaml").exists() for name in added)


def test_a_step_comes_before_what_it_needs() -> None:
    """An empty cluster has no namespaces: neither a Secret nor a comparison is to be had before them. Dagster comes
    last: it begins to release, and a state can be imported only before."""
    order = [
        "create namespace llmops-staging",
        ">> config/platform_signers/staging",
        "git push origin HEAD:staging",
        "apply --server-side -k deploy/kubernetes/cluster",
        "diff --server-side -k deploy/kubernetes/overlays/staging",
        "apply --server-side -k deploy/kubernetes/overlays/staging",
        "rollout status deployment/mlflow",
        "scale deployment/llmops-shell --replicas 1",
        "llmops doctor",
        "scale deployment/llmops-shell --replicas 0",
        "helm upgrade --install dagster",
    ]
    assert BLOCKS.index("create namespace llmops-staging") < BLOCKS.index("create secret generic")
    assert [BLOCKS.index(step) for step in order] == sorted(BLOCKS.index(step) for step in order)
    made = re.findall(r"create namespace (\S+)", BLOCKS)
    assert set(made) == {each["metadata"]["name"] for each in of_kind("staging", "Namespace")}


def test_dagsters_pages_are_looked_for_at_another_port() -> None:
    (told,) = re.findall(r"service/dagster-dagster-webserver \d+:(\d+)", BLOCKS)
    assert int(told) == merged("staging")["dagsterWebserver"]["service"]["port"]


def test_a_place_of_the_bucket_needs_rights_that_the_page_does_not_name() -> None:
    (sentence,) = re.findall(r"^The platform lists, reads, writes and deletes below (.*?), and", PAGE, re.M | re.DOTALL)
    mine = settings("staging")
    buckets = [*(place["uri"] for place in mine["platform"].values() if "uri" in place), mine["jobs"]["store"]["uri"]]
    used = {parse_s3(uri).prefix for uri in buckets}
    used.add(merged("staging")["computeLogManager"]["config"]["s3ComputeLogManager"]["prefix"])
    used.add(parse_s3(one("staging", "ConfigMap", "mlflow")["data"]["_MLFLOW_SERVER_ARTIFACT_ROOT"]).prefix)
    assert {name.rstrip("/") for name in re.findall(r"`([\w-]+/)`", sentence)} == used


def test_an_approver_is_told_another_variable_or_role() -> None:
    mine = settings("staging")
    assert f"export LLMOPS_ENVIRONMENT=staging {mine['platform']['ledger']['password']['env']}=" in BLOCKS
    (role,) = re.findall(r"llmops approve \S+ --role (\w+)", BLOCKS)
    assert role in mine["approvals"]["required"]


def test_an_account_that_reads_the_store_gets_no_role_from_the_cloud() -> None:
    (sentence,) = re.findall(r"^On EKS give (.*?) a role", PAGE, re.MULTILINE | re.DOTALL)
    accounts = {named(each).rpartition("/")[2] for each in of_kind("staging", "ServiceAccount")}
    assert set(re.findall(r"`([\w-]+)`", sentence)) == accounts
