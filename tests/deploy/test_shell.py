"""The Deployment in which a person asks the platform from inside is the code location in all but its program: what
`llmops doctor` finds there holds for the runs, and `llmops import` writes where they look."""

import re

import pytest

from tests.deploy.manifests import ENVIRONMENTS, ROOT, containers, one, settings
from tests.deploy.test_helm import merged

environments = pytest.mark.parametrize("environment", ENVIRONMENTS)


@environments
def test_the_shell_is_told_or_mounts_something_else_than_the_code_location(environment: str) -> None:
    values = merged(environment)
    (code,) = values["dagster-user-deployments"]["deployments"]
    pod = one(environment, "Deployment", "llmops-shell")["spec"]["template"]["spec"]
    (shell,) = pod["containers"]
    maps = [each["configMapRef"]["name"] for each in shell["envFrom"] if "configMapRef" in each]
    secrets = {each["secretRef"]["name"]: each["secretRef"] for each in shell["envFrom"] if "secretRef" in each}
    needed = {name for name, ref in secrets.items() if not ref.get("optional")}
    assert maps == [each["name"] for each in code["envConfigMaps"]]
    assert needed <= {each["name"] for each in code["envSecrets"]} <= secrets.keys()
    assert (pod["volumes"], shell["volumeMounts"]) == (code["volumes"], code["volumeMounts"])
    assert (pod["securityContext"], shell["securityContext"]) == (code["podSecurityContext"], code["securityContext"])
    assert shell["image"] == f"{code['image']['repository']}:{code['image']['tag']}"
    assert pod["serviceAccountName"] == values["dagster-user-deployments"]["serviceAccount"]["name"]
    assert pod["automountServiceAccountToken"] is True  # the doctor asks the cluster as this account
    assert pod["imagePullSecrets"] == values["imagePullSecrets"]


@environments
def test_a_policy_takes_the_shell_for_something_else(environment: str) -> None:
    labels = one(environment, "Deployment", "llmops-shell")["spec"]["template"]["metadata"]["labels"]
    (code,) = merged(environment)["dagster-user-deployments"]["deployments"]
    assert code["labels"].items() <= labels.items()
    of_the_chart = {"app.kubernetes.io/name": "dagster-user-deployments", "component": "user-deployments"}
    assert not of_the_chart.items() & labels.items()  # or the chart's Services would lead to it


@environments
def test_the_shell_lacks_the_password_that_the_chart_gives(environment: str) -> None:
    template = one(environment, "Deployment", "llmops-shell")["spec"]["template"]
    (shell,) = containers(template)
    given = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in shell["env"]}
    name = merged(environment)["global"]["postgresqlSecretName"]
    wanted = settings(environment)["platform"]["dagster"]["password"]["env"]
    assert given == {wanted: {"name": name, "key": "postgresql-password"}}


@environments
def test_somebody_may_enter_the_platform_while_nobody_asked_for_it(environment: str) -> None:
    assert one(environment, "Deployment", "llmops-shell")["spec"]["replicas"] == 0


def test_a_state_is_put_where_the_shell_cannot_write() -> None:
    """The state folder of the image is in the volume, and the page puts the archive there."""
    (home,) = re.findall(r"LLMOPS_HOME=(\S+)", (ROOT / "deploy/images/code.Containerfile").read_text())
    template = one("staging", "Deployment", "llmops-shell")["spec"]["template"]
    (state,) = [each["mountPath"] for each in containers(template)[0]["volumeMounts"] if each["name"] == "state"]
    page = (ROOT / "docs" / "moving.md").read_text(encoding="utf-8")
    put, taken = re.findall(r"cat > (\S+)'", page), re.findall(r"llmops import (/\S+)", page)
    assert home.startswith(f"{state}/") and put == taken and put[0].startswith(f"{state}/")
