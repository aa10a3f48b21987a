"""What the tests of deploy/ look at: each overlay as it is applied, and the pods and containers in it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.kustomize import Manifest, render

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
HELM = ROOT / "deploy" / "helm"
ENVIRONMENTS = ("development", "staging", "production")


@cache
def overlay(environment: str) -> tuple[Manifest, ...]:
    """What an environment's cluster has of ours: the overlay, and what all overlays share."""
    return (*render(KUBERNETES / "cluster"), *render(KUBERNETES / "overlays" / environment))


def settings_file(environment: str) -> Path:
    """`config/development.yaml` is one machine's; the cluster of that name has a file of its own."""
    name = "development-cluster" if environment == "development" else environment
    return ROOT / "config" / f"{name}.yaml"


def settings(environment: str) -> dict[str, Any]:
    return yaml.safe_load(settings_file(environment).read_text(encoding="utf-8"))


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata'].get('namespace', '')}/{manifest['metadata']['name']}"


def of_kind(environment: str, *kinds: str) -> list[Manifest]:
    return [each for each in overlay(environment) if each["kind"] in kinds]


def one(environment: str, kind: str, name: str) -> Manifest:
    (found,) = [each for each in of_kind(environment, kind) if each["metadata"]["name"] == name]
    return found


def pods(manifests: tuple[Manifest, ...] | list[Manifest]) -> Iterator[tuple[Manifest, dict[str, Any]]]:
    """(owner, pod template) of everything that makes pods."""
    for manifest in manifests:
        spec = manifest.get("spec") or {}
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template") if isinstance(spec, dict) else None
        if isinstance(template, dict) and "spec" in template:
            yield manifest, template


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def strings(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every scalar text below."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from strings(value, f"{path}.{key}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from strings(value, f"{path}[{index}]")
    elif isinstance(tree, str):
        yield path, tree
