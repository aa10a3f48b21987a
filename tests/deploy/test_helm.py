"""The values for Dagster's chart: the version that is installed, the accounts and Secrets that deploy/kubernetes makes,
and the same hardening as our own pods."""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.manifests import ENVIRONMENTS, HELM, ROOT, of_kind, one

environments = pytest.mark.parametrize("environment", ENVIRONMENTS)
PARTS = ("dagsterWebserver", "dagsterDaemon")


def test_the_chart_is_of_another_version_than_dagster() -> None:
    (locked,) = re.findall(r"^dagster==([\d.]+)", (ROOT / "requirements/run.lock").read_text(), re.MULTILINE)
    told = re.findall(r"--version (\S+)", (HELM / "values.yaml").read_text())
    assert told == [locked]


@environments
def test_an_account_or_secret_of_the_chart_that_nobody_makes(environment: str) -> None:
    values = merged(environment)
    code = values["dagster-user-deployments"]
    for section in (values, code):
        assert section["rbacEnabled"] is False and section["serviceAccount"]["create"] is False
        one(environment, "ServiceAccount", section["serviceAccount"]["name"])
    if environment == "development":
        return  # its Secrets are made by hand
    space = f"llmops-{environment}"
    made = {
        s["spec"]["target"]["name"]: s
        for s in of_kind(environment, "ExternalSecret")
        if s["metadata"]["namespace"] == space
    }
    (deployment,) = code["deployments"]
    wanted = {values["global"]["postgresqlSecretName"], *(s["name"] for s in values["imagePullSecrets"])}
    wanted |= {s["name"] for s in code["imagePullSecrets"]} | {s["name"] for s in deployment["envSecrets"]}
    wanted |= {v["secret"]["secretName"] for v in deployment["volumes"] if "secret" in v}
    assert wanted <= made.keys()
    database = made[values["global"]["postgresqlSecretName"]]
    assert [datum["secretKey"] for datum in database["spec"]["data"]] == [
        "postgresql-password"
    ]  # as the chart reads it


@environments
def test_a_setting_of_the_code_location_that_no_config_map_holds(environment: str) -> None:
    (deployment,) = merged(environment)["dagster-user-deployments"]["deployments"]
    for name in [each["name"] for each in deployment["envConfigMaps"]]:
        one(environment, "ConfigMap", name)
    told = one(environment, "ConfigMap", "llmops")["data"]
    mounted = {mount["mountPath"] for mount in deployment["volumeMounts"]}
    folder, _, key = told["LLMOPS_ORIGIN_KEY"].rpartition("/")
    hosts = [each["subPath"] for each in deployment["volumeMounts"] if each["mountPath"] == "/etc/ssh/ssh_known_hosts"]
    assert folder in mounted and len(hosts) == 1
    if environment != "development":
        keys = {datum["secretKey"] for datum in one(environment, "ExternalSecret", "git")["spec"]["data"]}
        assert {key, *hosts} == keys


@environments
def test_a_pod_of_dagster_may_do_more_than_it_needs(environment: str) -> None:
    values = merged(environment)
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    for section in [*(values[part] for part in PARTS), deployment]:
        assert section["podSecurityContext"]["runAsNonRoot"] and section["podSecurityContext"]["runAsUser"] == 10001
        assert section["podSecurityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {"cpu", "memory"} <= section["resources"]["limits"].keys()
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    for section in [*(values[part] for part in PARTS), deployment, launcher]:
        assert section["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert section["labels"] == {"llmops.dev/part": "dagster"}  # what the network policies go by


@environments
def test_a_folder_that_dagster_writes_is_read_only(environment: str) -> None:
    values = merged(environment)
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    for section in [*(values[part] for part in PARTS), deployment]:
        mounted = {mount["mountPath"] for mount in section["volumeMounts"]}
        assert {"/tmp", "/opt/dagster/dagster_home"} <= mounted
        assert {m["name"] for m in section["volumeMounts"]} == {v["name"] for v in section["volumes"]}
    assert "/var/lib/llmops" in {mount["mountPath"] for mount in deployment["volumeMounts"]}


@environments
def test_an_image_or_password_of_the_chart_is_a_default(environment: str) -> None:
    values = merged(environment)
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    own = {json.dumps(section["image"]) for section in [*(values[part] for part in PARTS), deployment]}
    assert len(own) == 1 and re.fullmatch(r"\d+\.\d+\.\d+", values["dagsterDaemon"]["image"]["tag"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", values["busybox"]["image"]["tag"])
    assert values["postgresql"]["enabled"] is False and values["postgresql"]["postgresqlPassword"] == ""
    assert values["generatePostgresqlPasswordSecret"] is False and values["generateCeleryConfigSecret"] is False
    one(environment, "PriorityClass", launcher_pod(values)["priority_class_name"])


@environments
def test_two_releases_of_a_model_run_at_once_or_a_dead_worker_stays_dead(environment: str) -> None:
    values = merged(environment)
    limits = values["concurrency"]["runs"]["tagConcurrencyLimits"]
    assert {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1} in limits
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    daemon = values["dagsterDaemon"]
    assert daemon["runMonitoring"]["enabled"] and daemon["runRetries"]["maxRetries"] > 0
    assert daemon["runRetries"]["retryOnAssetOrOpFailure"] is False


@pytest.mark.skipif(
    not os.environ.get("LLMOPS_DAGSTER_CHART"), reason="LLMOPS_DAGSTER_CHART names no copy of the chart"
)
@environments
def test_a_value_that_the_chart_does_not_take(environment: str) -> None:
    chart = Path(os.environ["LLMOPS_DAGSTER_CHART"])
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    whole = over(defaults, merged(environment))
    jsonschema.Draft202012Validator(json.loads((chart / "values.schema.json").read_text())).validate(whole)
    strange = [key for key in merged(environment) if key not in defaults]
    assert strange == []


def merged(environment: str) -> dict[str, Any]:
    """values.yaml and the environment's file, merged as Helm merges: mappings by key, lists as a whole."""
    base, own = (yaml.safe_load((HELM / name).read_text()) for name in ("values.yaml", f"values-{environment}.yaml"))
    return over(base, own)


def over(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: over(below[key], value) if key in below else value for key, value in above.items()}
    return above


def launcher_pod(values: dict[str, Any]) -> dict[str, Any]:
    return values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]


def parts_of_the_chart() -> list[dict[str, str]]:
    """Labels of the pods that the chart makes: its own, which do not change, and those of our values."""
    values = merged("staging")
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    return [
        {"app.kubernetes.io/name": "dagster", "component": "dagster-webserver", **values["dagsterWebserver"]["labels"]},
        {"app.kubernetes.io/name": "dagster", "component": "dagster-daemon", **values["dagsterDaemon"]["labels"]},
        {"app.kubernetes.io/name": "dagster-user-deployments", "component": "user-deployments", **deployment["labels"]},
        {"app.kubernetes.io/name": "dagster", **values["runLauncher"]["config"]["k8sRunLauncher"]["labels"]},
    ]
