"""The route table as Envoy's configuration: pure rendering, no I/O.

Each deployment is a cluster of one endpoint without health checks and outlier detection: a candidate that fails must
fail in front of the canary's counters, not be taken out before it is seen. Whether a model is ready is asked of its
servers at the moment of the question, through a cluster of its own. Nothing is retried on the way to a model: a retry
would turn a candidate's failure into the baseline's success.

Order of a route list is order of matching. The model in a JSON body is only known after the body was read: until then
no route with a cluster matches, so a body that is refused (too long, no JSON) is charged to no deployment.
"""

import ipaddress
import json
import re
from collections.abc import Iterable
from typing import Any

from llmops_core.errors import InputError, Problem
from llmops_core.fingerprint import digest_of
from llmops_core.routing import Deployment, Environment, Route, RouteTable, Share

Json = dict[str, Any]

TYPE = "type.googleapis.com/envoy"
ROUTES_NAME = "gateway"
ADMIN_CLUSTER = "~admin"
METADATA = "llmops"
ENVIRONMENT_HEADER = "x-llmops-environment"
MODEL_HEADER, VERSION_HEADER, DIGEST_HEADER = "x-llmops-model", "x-llmops-version", "x-llmops-weights-digest"
IDENTITY_HEADERS = (MODEL_HEADER, VERSION_HEADER, DIGEST_HEADER)
MUTATION_FILTER = "envoy.filters.http.header_mutation"
# what each proxy of ours demands of a request: one spelling of a path, and that it ends
GUARDS: Json = {
    "normalize_path": True,
    "merge_slashes": True,
    "path_with_escaped_slashes_action": "REJECT_REQUEST",
    "max_request_headers_kb": 32,
    "request_headers_timeout": "10s",
    "request_timeout": "60s",
}
CONNECT_LIMIT = "2s"
# Shorter than any model server's own limit (llama.cpp: 5 s), so that no request is sent on a connection that the server
# is just closing. A limit on requests is not needed: the server says `Connection: close` with its hundredth answer.
IDLE_LIMIT = "2s"
READY_LIMIT = "2s"
LONGEST_DIRECT_BODY_BYTES = 1 << 20


def cluster_name(deployment: str) -> str:
    """A name that survives Envoy's statistics (dots split them, colons are replaced), and back by `deployment_of`."""
    return re.sub(r"[^A-Za-z0-9-]", lambda match: "".join(f"_{byte:02x}" for byte in match[0].encode()), deployment)


def deployment_of(cluster: str) -> str | None:
    """The deployment behind a cluster name; None for the gateway's own clusters."""
    if not cluster or cluster.startswith("~"):
        return None
    return re.sub(r"(?:_[0-9a-f]{2})+", lambda match: bytes.fromhex(match[0].replace("_", "")).decode(), cluster)


def clusters(table: RouteTable) -> list[Json]:
    """One cluster for each deployment, and one for each route's readiness. InputError for a name with two addresses."""
    found: dict[str, Deployment] = {}
    for share in (share for route in table.routes for share in route.shares):
        known = found.setdefault(share.deployment.name, share.deployment)
        if known != share.deployment:
            expected = f"one description of {known.name}"
            raise InputError(
                Problem("route table", "deployment", str(share.deployment), expected, "two under one name")
            )
    rendered = [_cluster(cluster_name(one.name), [one]) for one in found.values()]
    ready = [_cluster(_ready_cluster(route), [share.deployment for share in _live(route)]) for route in table.routes]
    return sorted(rendered + ready, key=lambda cluster: cluster["name"])


def routes(table: RouteTable, instance: str) -> tuple[str, Json]:
    """(version, route configuration). The version is a digest of everything in it, and `/health` answers with it."""
    rules = [*_metrics(), *_environment("staging", table), *_environment("production", table), *_nothing_found()]
    version = digest_of({"instance": instance, "rules": rules})[:24]
    health = direct_answer({"path": "/health"}, 200, {"status": "ok", "routes": version})
    return version, {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": ROUTES_NAME,
        "max_direct_response_body_size_bytes": LONGEST_DIRECT_BODY_BYTES,
        "virtual_hosts": [{"name": "models", "domains": ["*"], "routes": [health, *rules]}],
        # A server's own words about its identity are not passed on; the gateway knows whom it asked.
        "response_headers_to_remove": list(IDENTITY_HEADERS),
    }


def discovery(resources: Iterable[Json]) -> Json:
    """A file for Envoy's file-based discovery. Its version is the digest of its content."""
    listed = list(resources)
    return {"version_info": digest_of(listed)[:24], "resources": listed}


def longest_timeout_seconds(route: Route) -> float:
    """Envoy's timeout belongs to the route, not to a share: the most patient live deployment sets it."""
    return max(share.deployment.timeout_seconds for share in _live(route))


def _live(route: Route) -> list[Share]:
    return [share for share in route.shares if share.weight_percent > 0]


def _cluster(name: str, deployments: list[Deployment]) -> Json:
    return {
        "@type": f"{TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC" if all(_is_address(one.host) for one in deployments) else "STRICT_DNS",
        "connect_timeout": CONNECT_LIMIT,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": IDLE_LIMIT},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [_endpoint(one.host, one.port) for one in deployments]}],
        },
    }


def _endpoint(host: str, port: int) -> Json:
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _metrics() -> list[Json]:
    only_get = {"name": ":method", "string_match": {"exact": "GET"}}
    match = {"path": "/metrics", "headers": [only_get]}
    return [{"match": match, "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/stats/prometheus"}}]


def _environment(environment: Environment, table: RouteTable) -> list[Json]:
    """Staging is asked for by header or by path; production is what is left."""
    listed = sorted((r for r in table.routes if r.environment == environment), key=lambda route: route.model)
    if environment == "production":
        return [_strange_environment(), *_models(listed, "", [])]
    by_header = {"name": ENVIRONMENT_HEADER, "string_match": {"exact": environment}}
    return [*_models(listed, f"/{environment}", []), *_models(listed, "", [by_header])]


def _models(listed: list[Route], prefix: str, headers: list[Json]) -> list[Json]:
    """Rules of one environment, most specific first. `listed[0]` is the model of requests that name none."""

    def matching(**match: Any) -> Json:
        return {**match, **({"headers": headers} if headers else {})}

    rules = [
        direct_answer(matching(path=f"{prefix}{path}"), 200, _model_list(listed)) for path in ("/models", "/v1/models")
    ]
    for route in listed:
        under = f"{prefix}/models/{route.model}"
        rules.append(readiness(matching(path=f"{under}/ready"), route))
        rules.append(_to_model(matching(prefix=f"{under}/v1/"), route))
    rules.append(_not_found(matching(prefix=f"{prefix}/models/"), "no such model is served here"))
    ready = matching(path=f"{prefix}/ready")
    rules.append(readiness(ready, listed[0]) if listed else direct_answer(ready, 503, {"status": "no model is served"}))
    for route in listed:
        named = [_metadata("model", {"string_match": {"exact": route.model}})]
        rules.append(_to_model(matching(prefix=f"{prefix}/v1/", dynamic_metadata=named), route))
    unknown = matching(prefix=f"{prefix}/v1/", dynamic_metadata=[_metadata("model", {"present_match": True})])
    rules.append(_not_found(unknown, "the model named in the request is not served here"))
    unnamed = matching(prefix=f"{prefix}/v1/", dynamic_metadata=[_metadata("unnamed", {"present_match": True})])
    rules.append(_to_model(unnamed, listed[0]) if listed else _not_found(unnamed, "no model is served here"))
    invalid = matching(prefix=f"{prefix}/v1/", dynamic_metadata=[_metadata("invalid", {"present_match": True})])
    rules.append(_error(invalid, 400, "the body is not JSON, or too deep to be read", "invalid_json"))
    # With the header, a path of this environment that nothing above took must not fall through to the next one.
    rules.append(_error(matching(prefix=f"{prefix}/v1/" if prefix else "/v1/"), 404, "no such path", "not_found"))
    return rules


def _to_model(match: Json, route: Route) -> Json:
    weighted = [_weighted(share) for share in _live(route)]
    return {
        "match": match,
        "route": {
            "weighted_clusters": {"clusters": weighted},
            "timeout": f"{longest_timeout_seconds(route):.3f}s",
            **({"prefix_rewrite": "/v1/"} if match["prefix"] != "/v1/" else {}),
        },
    }


def _weighted(share: Share) -> Json:
    return {
        "name": cluster_name(share.deployment.name),
        "weight": share.weight_percent,
        "typed_per_filter_config": identity_of(share.deployment),
    }


def identity_of(deployment: Deployment) -> Json:
    """The filter's options for a way to this deployment: every answer says whose it is, the proxy's own included."""
    values = (deployment.model, deployment.version, deployment.weights_digest)
    mutations = [
        {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        for key, value in zip(IDENTITY_HEADERS, values, strict=True)
    ]
    mutation = {
        "@type": f"{TYPE}.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
        "mutations": {"response_mutations": mutations},
    }
    return {MUTATION_FILTER: mutation}


def _ready_cluster(route: Route) -> str:
    return f"~ready-{route.environment}-{cluster_name(route.model)}"


def readiness(match: Json, route: Route) -> Json:
    """Ask the route's servers one after another until one says that it is ready."""
    again = {
        "retry_on": "5xx,reset,connect-failure",
        "num_retries": max(1, len(_live(route)) - 1),
        "per_try_timeout": READY_LIMIT,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": 5,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"},
    }
    action = {"cluster": _ready_cluster(route), "timeout": "5s", "prefix_rewrite": "/health", "retry_policy": again}
    return {"match": match, "route": action}


def _metadata(key: str, value: Json) -> Json:
    return {"filter": METADATA, "path": [{"key": key}], "value": value}


def _strange_environment() -> Json:
    present = {"name": ENVIRONMENT_HEADER, "present_match": True}
    known = {"safe_regex": {"regex": "staging|production"}}
    strange = {"name": ENVIRONMENT_HEADER, "string_match": known, "invert_match": True}
    message = f"the header {ENVIRONMENT_HEADER} is staging or production"
    return _error({"prefix": "/", "headers": [present, strange]}, 400, message, "no_such_environment")


def _nothing_found() -> list[Json]:
    return [_error({"prefix": "/"}, 404, "no such path", "not_found")]


def _not_found(match: Json, message: str) -> Json:
    return _error(match, 404, message, "model_not_found", parameter="model")


def _error(match: Json, status: int, message: str, code: str, parameter: str | None = None) -> Json:
    error = {"message": message, "type": "invalid_request_error", "param": parameter, "code": code}
    return direct_answer(match, status, {"error": error})


def direct_answer(match: Json, status: int, body: Json) -> Json:
    content_type = {"header": {"key": "content-type", "value": "application/json"}}
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": json.dumps(body)}},
        "response_headers_to_add": [{**content_type, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }


def _model_list(listed: list[Route]) -> Json:
    data = [{"id": route.model, "object": "model", "created": 0, "owned_by": "llmops"} for route in listed]
    return {"object": "list", "data": data}
