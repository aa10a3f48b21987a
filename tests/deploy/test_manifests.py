"""Every manifest of every overlay is what an API server accepts, and what schemas do not see: names, labels, selectors,
ports, limits, rights."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from tests.deploy import custom_kinds
from tests.deploy.kustomize import Manifest, render
from tests.deploy.manifests import ENVIRONMENTS, KUBERNETES, containers, named, of_kind, overlay, pods, strings

VERSION = "1.36"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LABELLED = {"Namespace", "Service"}  # names that become DNS labels; the others may have dots

environments = pytest.mark.parametrize("environment", ENVIRONMENTS)


@environments
def test_a_field_that_no_api_server_knows(environment: str) -> None:
    for manifest in overlay(environment):
        judge(manifest)


def test_a_kind_without_a_schema_was_let_through() -> None:
    with pytest.raises(KeyError):
        judge({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": {}})


def test_a_misspelt_field_was_let_through() -> None:
    for kind, path in (("Deployment", ("spec", "template", "spec")), ("ExternalSecret", ("spec",))):
        broken = json.loads(json.dumps(of_kind("staging", kind)[0]))
        place = broken
        for part in path:
            place = place[part]
        place["inventedField"] = True
        with pytest.raises((kubernetes_validate.ValidationError, ValidationError)):
            judge(broken)


@pytest.mark.skipif(not os.environ.get("LLMOPS_CRD_SCHEMAS"), reason="LLMOPS_CRD_SCHEMAS names no folder of schemas")
@environments
def test_a_field_that_is_not_in_the_published_schema_of_its_kind(environment: str) -> None:
    """The folder holds <group>/<kind>_<version>.json, as the CRDs-catalog of datree has them."""
    folder = Path(os.environ["LLMOPS_CRD_SCHEMAS"])
    for manifest in overlay(environment):
        group, _, version = manifest["apiVersion"].rpartition("/")
        if (manifest["apiVersion"], manifest["kind"]) in custom_kinds.KINDS:
            schema = json.loads((folder / group / f"{manifest['kind'].lower()}_{version}.json").read_text())
            jsonschema.Draft7Validator(closed(schema["properties"]["spec"])).validate(manifest["spec"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here to compare with")
@pytest.mark.parametrize("folder", ["cluster", *(f"overlays/{name}" for name in ENVIRONMENTS)])
def test_our_renderer_says_something_else_than_kustomize(folder: str) -> None:
    output = subprocess.run(["kubectl", "kustomize", KUBERNETES / folder], check=True, capture_output=True, text=True)
    theirs = {named(each): each for each in yaml.safe_load_all(output.stdout)}
    assert {named(each): each for each in render(KUBERNETES / folder)} == theirs


def test_removing_one_environment_took_another_ones_objects() -> None:
    names = [named(each) for name in ENVIRONMENTS for each in render(KUBERNETES / "overlays" / name)]
    assert len(names) == len(set(names))


@environments
def test_two_manifests_overwrite_each_other(environment: str) -> None:
    names = [named(each) for each in overlay(environment)]
    assert len(names) == len(set(names))


@environments
def test_a_name_or_label_that_dns_or_the_api_refuses(environment: str) -> None:
    for manifest in overlay(environment):
        metadata = manifest["metadata"]
        pattern = LABEL if manifest["kind"] in LABELLED else SUBDOMAIN
        assert pattern.fullmatch(metadata["name"]) and len(metadata["name"]) <= 253, named(manifest)
        for labels in label_sets(manifest):
            for key, value in labels.items():
                assert KEY.fullmatch(key) and VALUE.fullmatch(value), f"{named(manifest)}: {key}={value}"


@environments
def test_an_object_lands_in_the_default_namespace(environment: str) -> None:
    spaceless = {"Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "ResourceFlavor", "ClusterQueue"}
    made = {each["metadata"]["name"] for each in of_kind(environment, "Namespace")}
    for manifest in overlay(environment):
        assert (manifest["kind"] in spaceless) == ("namespace" not in manifest["metadata"]), named(manifest)
        assert manifest["metadata"].get("namespace") in {None, *made}, named(manifest)


@environments
def test_a_selector_does_not_match_its_own_pods(environment: str) -> None:
    for manifest, template in pods(overlay(environment)):
        wanted = manifest["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= template["metadata"]["labels"].items(), named(manifest)


@environments
def test_a_service_without_pods_or_with_a_port_that_nobody_serves(environment: str) -> None:
    for service in of_kind(environment, "Service"):
        space, wanted = service["metadata"]["namespace"], service["spec"]["selector"]
        behind = [
            template
            for owner, template in pods(overlay(environment))
            if owner["metadata"]["namespace"] == space and wanted.items() <= template["metadata"]["labels"].items()
        ]
        assert behind, named(service)
        offered = {port.get("name") for each in behind for c in containers(each) for port in c.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= offered, named(service)


@environments
def test_a_probe_asks_at_a_port_that_the_container_does_not_have(environment: str) -> None:
    for manifest, template in pods(overlay(environment)):
        for container in template["spec"]["containers"]:
            offered = {port["name"] for port in container.get("ports", [])}
            if not offered:
                assert container["command"][0] == "sleep", named(manifest)  # it serves nobody
                continue
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] in offered, f"{named(manifest)}: {probe}"


@environments
def test_a_container_may_do_more_than_it_needs(environment: str) -> None:
    for manifest, template in pods(overlay(environment)):
        assert hardened(template) == [], named(manifest)


@environments
def test_an_image_is_whatever_was_pushed_last(environment: str) -> None:
    for manifest, template in pods(overlay(environment)):
        for container in containers(template):
            _, _, tag = container["image"].rpartition(":")
            assert re.fullmatch(r"\d+\.\d+\.\d+|[0-9a-f]{64}", tag), f"{named(manifest)}: {container['image']}"


@environments
def test_a_secret_value_lies_in_git(environment: str) -> None:
    assert of_kind(environment, "Secret") == []
    for manifest in overlay(environment):
        for path, text in strings(manifest):
            assert not re.search(r"://[^/@\s]*:[^/@\s]+@", text), f"{named(manifest)}{path}: a password in an address"
            assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|ghp_\w{30}|whsec_", text), f"{named(manifest)}{path}"
        for _, template in pods([manifest]):
            for variable in [v for c in containers(template) for v in c.get("env", [])]:
                secret = re.search(r"PASSWORD|SECRET|TOKEN|_KEY", variable["name"])
                assert not secret or "valueFrom" in variable, f"{named(manifest)}: {variable['name']}"


@environments
def test_a_role_that_grants_everything(environment: str) -> None:
    for role in of_kind(environment, "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], named(role)
            assert not {"secrets", "roles", "rolebindings", "pods/exec"} & {*rule["resources"]}, named(role)
            assert "nonResourceURLs" not in rule, named(role)


@environments
def test_a_binding_whose_role_or_subject_does_not_exist(environment: str) -> None:
    accounts = {(a["metadata"]["namespace"], a["metadata"]["name"]) for a in of_kind(environment, "ServiceAccount")}
    for binding in of_kind(environment, "RoleBinding", "ClusterRoleBinding"):
        ref, space = binding["roleRef"], binding["metadata"].get("namespace")
        roles = [(r["metadata"].get("namespace"), r["metadata"]["name"]) for r in of_kind(environment, ref["kind"])]
        assert (space if ref["kind"] == "Role" else None, ref["name"]) in roles, named(binding)
        for subject in binding["subjects"]:
            assert (subject["namespace"], subject["name"]) in accounts, named(binding)


@environments
def test_an_account_whose_token_is_mounted_without_being_asked_for(environment: str) -> None:
    for account in of_kind(environment, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, named(account)


def judge(manifest: Manifest) -> None:
    if (manifest["apiVersion"], manifest["kind"]) in custom_kinds.KINDS:
        return custom_kinds.check(manifest)
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        raise KeyError(named(manifest)) from error
    return None


def closed(schema: Any) -> Any:
    """The schema, refusing fields that it does not name: a cluster drops them without a word."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            closed(value)
    elif isinstance(schema, list):
        for value in schema:
            closed(value)
    return schema


def label_sets(manifest: Manifest) -> list[dict[str, str]]:
    found = [manifest["metadata"].get("labels", {})]
    return found + [template["metadata"]["labels"] for _, template in pods([manifest])]


def hardened(template: dict[str, Any]) -> list[str]:
    """What the pod lacks of the `restricted` standard, limits, and a read-only root."""
    spec = template["spec"]
    pod = spec.get("securityContext", {})
    lacks = [] if pod.get("runAsNonRoot") and pod.get("runAsUser", 0) > 0 else ["runAsNonRoot with a number"]
    lacks += [] if pod.get("seccompProfile") == {"type": "RuntimeDefault"} else ["seccompProfile"]
    lacks += [f"volume {v['name']} of the host" for v in spec.get("volumes", []) if "hostPath" in v]
    lacks += [f"{v['name']} without sizeLimit" for v in spec.get("volumes", []) if v.get("emptyDir") == {}]
    for container in containers(template):
        own = container.get("securityContext", {})
        resources = container.get("resources", {})
        checks = {
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "limits": {"cpu", "memory"} <= resources.get("limits", {}).keys(),
            "requests": {"cpu", "memory"} <= resources.get("requests", {}).keys(),
        }
        lacks += [f"{container['name']}: {name}" for name, good in checks.items() if not good]
    return lacks
