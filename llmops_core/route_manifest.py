"""A model's route as an HTTPRoute of the Gateway API (v1), as a plain mapping, and the route that such an object is.

Three rules below `/models/<name>` (`/staging/models/<name>`): `/v1/…` goes to the shares by their weights, `/ready` to
the same servers, and `/route` is answered by the proxy itself with a redirect that names the version of these rules.
That answer is the only proof that a proxy follows them: a status says that they were accepted, not that they rule.

Each backend has a filter of its own, which sets the headers that say whose answer it is. It also makes implementations
keep the shares apart (Envoy Gateway merges backends without filters into one cluster, in which a candidate without a
ready pod would hand its requests to the other). Weights are read back from the rules themselves; what a rule cannot
hold, such as a version's digest, stands in an annotation.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from llmops_core.errors import IntegrityError
from llmops_core.fingerprint import canonical_json, digest_of
from llmops_core.job_names import LABEL_DOMAIN, MANAGED_BY, label_value
from llmops_core.names import kubernetes_name
from llmops_core.routing import Environment, Route, Share
from llmops_core.serving_manifest import MANAGER, object_name
from llmops_core.serving_settings import GatewayPlace

Manifest = dict[str, Any]

KIND = ("gateway.networking.k8s.io/v1", "HTTPRoute")
COMPONENT = "model-route"
SELECTOR = f"{MANAGED_BY}={MANAGER},app.kubernetes.io/component={COMPONENT}"
ROUTE, VERSION = f"{LABEL_DOMAIN}/route", f"{LABEL_DOMAIN}/route-version"
IDENTITY_HEADERS = ("x-llmops-model", "x-llmops-version", "x-llmops-weights-digest")
GRACE_SECONDS = 1  # the pod's own proxy gives up first, so that the failure is counted where it happened


def route_name(model: str, environment: Environment) -> str:
    return kubernetes_name(model, environment, length=52)


def base_path(model: str, environment: Environment) -> str:
    """Below which a model is reached; production's has no name of its environment."""
    return f"/models/{model}" if environment == "production" else f"/{environment}/models/{model}"


def version_of(route: Route) -> str:
    """Names what the route says, in 24 hexadecimal digits."""
    return digest_of(route.model_dump(mode="json"))[:24]


def http_route(route: Route, place: GatewayPlace, namespace: str) -> Manifest:
    parent = {"group": KIND[0].partition("/")[0], "kind": "Gateway", "name": place.name}
    listener = {"sectionName": place.listener} if place.listener else {}
    labels = {
        MANAGED_BY: MANAGER,
        "app.kubernetes.io/component": COMPONENT,
        f"{LABEL_DOMAIN}/model": label_value(route.model),
        f"{LABEL_DOMAIN}/environment": route.environment,
    }
    known = canonical_json(route.model_dump(mode="json")).decode()
    return {
        "apiVersion": KIND[0],
        "kind": KIND[1],
        "metadata": {
            "name": route_name(route.model, route.environment),
            "namespace": namespace,
            "labels": labels,
            "annotations": {ROUTE: known, VERSION: version_of(route)},
        },
        "spec": {"parentRefs": [parent | listener], "rules": _rules(route)},
    }


def route_of(found: Mapping[str, Any]) -> Route:
    """The route that an object is: shares by its rules. Raises IntegrityError for one that says no route."""
    name = found.get("metadata", {}).get("name", "")
    try:
        known = Route.model_validate_json(found["metadata"]["annotations"][ROUTE])
        deployments = {object_name(share.deployment.name): share.deployment for share in known.shares}
        (asked,) = [rule for rule in found["spec"]["rules"] if _prefix_of(rule) is not None]
        shares = [
            Share(deployment=deployments[ref["name"]], weight_percent=ref.get("weight", 1))
            for ref in asked["backendRefs"]
        ]
        return Route(model=known.model, environment=known.environment, shares=tuple(shares))
    except (KeyError, TypeError, ValueError, ValidationError, json.JSONDecodeError) as error:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        advice = f"kubectl delete httproute {name}, and release again"
        raise IntegrityError(f"the HTTPRoute {name} is not as this platform wrote it ({why}): {advice}") from error


def duration(seconds: float) -> str:
    """As the Gateway API writes one: whole units, five digits at most."""
    whole, rest = divmod(round(seconds * 1000), 1000)
    return f"{whole}s{rest}ms" if rest else f"{whole}s"


def _rules(route: Route) -> list[Manifest]:
    base, backends = base_path(route.model, route.environment), [_backend(share) for share in route.shares]
    patience = max(share.deployment.timeout_seconds for share in route.shares if share.weight_percent > 0)
    named = {"type": "ReplaceFullPath", "replaceFullPath": f"{base}/route/{version_of(route)}"}
    return [
        {
            "matches": [_match("Exact", f"{base}/route")],
            "filters": [{"type": "RequestRedirect", "requestRedirect": {"path": named, "statusCode": 302}}],
        },
        {
            "matches": [_match("Exact", f"{base}/ready")],
            "filters": [_rewrite({"type": "ReplaceFullPath", "replaceFullPath": "/ready"})],
            "backendRefs": backends,
        },
        {
            "matches": [_match("PathPrefix", f"{base}/v1")],
            "filters": [_rewrite({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"})],
            "backendRefs": backends,
            "timeouts": {"request": duration(patience + GRACE_SECONDS)},
        },
    ]


def _match(kind: str, path: str) -> Manifest:
    return {"path": {"type": kind, "value": path}}


def _rewrite(path: Manifest) -> Manifest:
    return {"type": "URLRewrite", "urlRewrite": {"path": path}}


def _backend(share: Share) -> Manifest:
    deployment = share.deployment
    values = (deployment.model, deployment.version, deployment.weights_digest)
    headers = [{"name": name, "value": value} for name, value in zip(IDENTITY_HEADERS, values, strict=True)]
    return {
        "group": "",
        "kind": "Service",
        "name": object_name(deployment.name),
        "port": deployment.port,
        "weight": share.weight_percent,
        "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": headers}}],
    }


def _prefix_of(rule: Mapping[str, Any]) -> str | None:
    for match in rule.get("matches") or ():
        if match["path"]["type"] == "PathPrefix":
            return str(match["path"]["value"])
    return None
