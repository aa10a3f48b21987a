"""Create, read, list, replace and patch, with the checks of the real server in its order: the namespace exists, the
object decodes, defaults, admission, validation, no such name yet; for a change: same version, nothing fixed changed.

Controllers of the stand-in write through here too, so that a fault for pod creation meets them as it would a cluster.
"""

import base64
import copy
import json
import uuid
from collections.abc import Callable
from typing import Any

from tests.fakes import kubernetes_admission as admission
from tests.fakes import kubernetes_patches as patches
from tests.fakes import kubernetes_validation as validation
from tests.fakes.kubernetes_errors import (
    MODIFIED,
    ApiError,
    already_exists,
    bad_request,
    conflict,
    expired,
    forbidden,
    invalid,
    not_found,
)
from tests.fakes.kubernetes_kinds import NAMESPACES, PODS, Kind
from tests.fakes.kubernetes_names import suffix
from tests.fakes.kubernetes_schemas import Decoder, root
from tests.fakes.kubernetes_selectors import field_test, label_test
from tests.fakes.kubernetes_store import Json, Key, Store, key_of

STAMPED = (
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def check_version(asked: str) -> None:
    if asked and not asked.isdigit():
        why = f'resourceVersion: Invalid value: "{asked}": strconv.ParseUint: parsing "{asked}": invalid syntax'
        raise bad_request(f"invalid resource version: {why}")


class Verbs:
    """`schemas` holds the schemas of custom kinds by kind; `warnings` of a decoding are handed back by `decoded`."""

    def __init__(self, store: Store, schemas: dict[str, Json] | None = None) -> None:
        self.store = store
        self._schemas = schemas or {}
        self._pages: dict[str, tuple[int, list[Json]]] = {}
        self.meet: Callable[[str, Kind, str], None] = lambda verb, kind, name: None

    def decoded(self, kind: Kind, body: Any, strictness: str = "") -> tuple[Json, list[str]]:
        """The object without unknown fields, and what to warn of."""
        if not isinstance(body, dict):
            raise bad_request("the body is not an object")
        if body.get("kind", kind.kind) != kind.kind or body.get("apiVersion", kind.api_version) != kind.api_version:
            given = f"{body.get('apiVersion')}, {body.get('kind')}"
            raise bad_request(f"the object provided is unrecognized (must be of type {kind.kind}): {given}")
        decoder = Decoder(kind, self._schemas.get(kind.kind))
        clean = decoder.decode(body)
        told = [f'unknown field "{path}"' for path in decoder.unknown]
        if told and strictness == "Strict":
            words = f"strict decoding error: {', '.join(told)}"
            about = (
                "" if kind.custom else f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            )
            raise bad_request(about + words)
        clean = {"kind": kind.kind, "apiVersion": kind.api_version} | clean
        clean["metadata"] = dict(clean.get("metadata") or {})
        return clean, told if strictness != "Ignore" else []

    def create(self, kind: Kind, namespace: str, found: Json, dry_run: bool = False) -> Json:
        found = copy.deepcopy(found)
        metadata = found["metadata"]
        self._place(kind, namespace, metadata)
        for name in STAMPED:
            metadata.pop(name, None)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"][:58] + suffix()
        with self.store.lock:
            admission.prepare(kind, found, self.store)
            if causes := validation.of_new(kind, found):
                raise invalid(kind, metadata.get("name", ""), causes)
            if self.store.get(kind, key_of(found)):
                raise already_exists(kind, metadata["name"])
            if kind.has_generation:
                metadata["generation"] = 1
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata["creationTimestamp"] = self.store.clock.stamp()
            return found if dry_run else self.store.add(kind, found)

    def _place(self, kind: Kind, namespace: str, metadata: Json) -> None:
        if not kind.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        home = self.store.get(NAMESPACES, ("", namespace))
        if home is None:
            raise not_found(NAMESPACES, namespace)
        if "deletionTimestamp" in home["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(kind, metadata.get("name", ""), why)

    def read(self, kind: Kind, key: Key) -> Json:
        found = self.store.get(kind, key)
        if found is None:
            raise not_found(kind, key[1])
        return found

    def select(self, kind: Kind, namespace: str, query: dict[str, str]) -> Json:
        limit, token = int(query.get("limit") or 0), query.get("continue", "")
        check_version(query.get("resourceVersion", ""))
        with self.store.lock:
            if token:
                version, found = self._page(token)
            else:
                labels = label_test(query.get("labelSelector", ""))
                fields = field_test(query.get("fieldSelector", ""), kind)
                found = [
                    item
                    for item in self.store.all(kind, namespace)
                    if labels(item["metadata"].get("labels") or {}) and fields(item)
                ]
                version = self.store.version
            metadata: Json = {"resourceVersion": str(version)}
            if limit and len(found) > limit:
                metadata["continue"] = self._keep(version, found[limit:])
                if not query.get("labelSelector") and not query.get("fieldSelector"):
                    metadata["remainingItemCount"] = len(found) - limit
                found = found[:limit]
        items = (
            found
            if kind.custom
            else [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in found]
        )
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}

    def _keep(self, version: int, rest: list[Json]) -> str:
        token = base64.urlsafe_b64encode(
            json.dumps({"v": "meta.k8s.io/v1", "rv": version, "at": suffix()}).encode()
        ).decode()
        self._pages[token] = version, rest
        return token

    def _page(self, token: str) -> tuple[int, list[Json]]:
        if token not in self._pages:
            raise bad_request(f"invalid continue token: continue key is not valid: {token}")
        version, rest = self._pages[token]
        if version < self.store.compacted:
            raise expired(CONTINUE_EXPIRED)
        return version, rest

    def replace(self, kind: Kind, key: Key, found: Json, status: bool = False, dry_run: bool = False) -> Json:
        """`status`: the subresource, which changes nothing but the status; the object itself leaves it alone."""
        with self.store.lock:
            before = self.read(kind, key)
            merged = self._over(kind, before, copy.deepcopy(found), status)
            if not status:
                admission.fill(kind, merged)
            if merged["metadata"].get("name") != key[1]:
                named = merged["metadata"].get("name")
                raise bad_request(f"the name of the object ({named}) does not match the name on the URL ({key[1]})")
            if not status and (
                causes := validation.of_metadata(kind, merged["metadata"]) + self._changes(kind, merged, before)
            ):
                raise invalid(kind, key[1], causes)
            if "generation" in before["metadata"] and merged.get("spec") != before.get("spec"):
                merged["metadata"]["generation"] = before["metadata"]["generation"] + 1
            if dry_run:
                return merged
            stored = self.store.put(kind, merged)
            metadata = stored["metadata"]
            if "deletionTimestamp" in metadata and not metadata.get("finalizers") and self._may_go(kind, stored):
                return self.store.remove(kind, key)
            return stored

    @staticmethod
    def _may_go(kind: Kind, stored: Json) -> bool:
        if kind == NAMESPACES:
            return not (stored.get("spec") or {}).get("finalizers")
        return kind != PODS or not stored["metadata"].get("deletionGracePeriodSeconds")

    @staticmethod
    def _changes(kind: Kind, merged: Json, before: Json) -> list[Any]:
        causes = validation.of_change(kind, merged, before)
        if not causes and merged.get("spec") != before.get("spec"):
            causes = validation.of_new(kind, merged)
        return causes + validation.of_leaving(merged["metadata"], before["metadata"])

    @staticmethod
    def _over(kind: Kind, before: Json, found: Json, status: bool) -> Json:
        metadata, old = found["metadata"], before["metadata"]
        asked = metadata.get("resourceVersion")
        if asked and asked != old["resourceVersion"]:
            raise conflict(kind, old["name"], MODIFIED)
        if not asked and kind.custom:
            message = "Invalid value: 0: must be specified for an update"
            raise invalid(kind, old["name"], [("metadata.resourceVersion", "FieldValueInvalid", message)])
        if metadata.get("uid", old["uid"]) != old["uid"]:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old['uid']}"
            raise conflict(kind, old["name"], why)
        if status:
            result = {**before, "status": found.get("status", {})}
            return result
        metadata |= {name: old[name] for name in STAMPED if name in old}
        if "namespace" in old:
            metadata["namespace"] = old["namespace"]
        if kind.has_status:
            found.pop("status", None)
            if "status" in before:
                found["status"] = before["status"]
        return found

    def _patched(self, kind: Kind, found: Json, strictness: str) -> tuple[Json, list[str]]:
        """What a patch makes of an object; unknown fields are told as an invalid patch, not as a bad request."""
        clean, told = self.decoded(kind, found, "Warn")
        if told and strictness == "Strict":
            value = json.dumps(found, separators=(",", ":")).replace('"', '\\"')
            message = f'Invalid value: "{value}": strict decoding error: {", ".join(told)}'
            raise invalid(Kind("", "", "", ""), "", [("patch", "FieldValueInvalid", message)])
        return clean, told if strictness != "Ignore" else []

    def patch(
        self,
        kind: Kind,
        key: Key,
        body: Any,
        how: str,
        status: bool = False,
        strictness: str = "",
        dry_run: bool = False,
    ) -> tuple[Json, list[str]]:
        with self.store.lock:
            before = self.read(kind, key)
            if how == "application/merge-patch+json":
                found = patches.merged(before, body)
            elif how == "application/json-patch+json":
                found = patches.json_patched(before, body)
            elif how == "application/strategic-merge-patch+json" and not kind.custom:
                found = patches.strategically_merged(before, body, root(kind))
            else:
                raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
            clean, told = self._patched(kind, found, strictness)
            if isinstance(body, dict) and "resourceVersion" not in (body.get("metadata") or {}):
                clean["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            return self.replace(kind, key, clean, status, dry_run), told
