"""Renders our kustomizations as `kubectl kustomize` does, for machines that have no such program.

It knows what ours use and refuses the rest: resources, components, namespace, labels, images, and JSON patches. Where
kubectl is installed, a test compares the two.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
KNOWN = {"apiVersion", "kind", "resources", "components", "namespace", "labels", "images", "patches"}
# cluster-scoped kinds of Kubernetes itself; kustomize knows no others, so custom ones must stay out of `namespace`
UNSPACED = {"ClusterRole", "ClusterRoleBinding", "PriorityClass", "CustomResourceDefinition", "StorageClass"}


class NotOurs(Exception):
    """A kustomization uses something that this program does not know."""


def render(folder: Path) -> list[Manifest]:
    """Every manifest of the kustomization in `folder`, in the order in which it names them."""
    return _apply(folder, [])


def _apply(folder: Path, given: list[Manifest]) -> list[Manifest]:
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if strange := plan.keys() - KNOWN:
        raise NotOurs(f"{folder}: {sorted(strange)}")
    found = [*given]
    for name in plan.get("resources", []):
        path = (folder / name).resolve()
        found += render(path) if path.is_dir() else _documents(path)
    for name in plan.get("components", []):
        found = _apply((folder / name).resolve(), found)
    if namespace := plan.get("namespace"):
        _put_into(found, namespace)
    for patch in plan.get("patches", []):
        _patch(found, patch)
    for group in plan.get("labels", []):
        for manifest in found:
            manifest["metadata"].setdefault("labels", {}).update(group["pairs"])
    for image in plan.get("images", []):
        for manifest in found:
            _rename(manifest, image)
    return found


def _documents(path: Path) -> list[Manifest]:
    # a copy of each: YAML's anchors would let a patch of one place change another
    return [copy.deepcopy(each) for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def _put_into(manifests: list[Manifest], namespace: str) -> None:
    accounts = {each["metadata"]["name"] for each in manifests if each["kind"] == "ServiceAccount"}
    for manifest in manifests:
        if manifest["kind"] == "Namespace":
            manifest["metadata"]["name"] = namespace
        elif manifest["kind"] not in UNSPACED:
            manifest["metadata"]["namespace"] = namespace
        for subject in manifest.get("subjects", []):
            if "namespace" not in subject and subject["name"] in accounts:
                subject["namespace"] = namespace


def _patch(manifests: list[Manifest], patch: dict[str, Any]) -> None:
    target = patch["target"]
    chosen = [
        each
        for each in manifests
        if each["kind"] == target["kind"] and target.get("name", each["metadata"]["name"]) == each["metadata"]["name"]
    ]
    if not chosen:
        raise NotOurs(f"a patch finds nothing: {target}")
    for operation in yaml.safe_load(patch["patch"]):
        for manifest in chosen:
            _change(manifest, operation)


def _change(manifest: Manifest, operation: dict[str, Any]) -> None:
    if operation["op"] != "replace":
        raise NotOurs(f"a patch does more than replace: {operation}")
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    place: Any = manifest
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key = int(last) if isinstance(place, list) else last
    place[key]  # replacing what is not there is an error, as in RFC 6902
    place[key] = operation["value"]


def _rename(tree: Any, image: dict[str, str]) -> None:
    if isinstance(tree, dict):
        if tree.get("image") == image["name"]:
            tree["image"] = f"{image['newName']}:{image['newTag']}"
        for value in tree.values():
            _rename(value, image)
    elif isinstance(tree, list):
        for value in tree:
            _rename(value, image)
