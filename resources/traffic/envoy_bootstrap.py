"""What Envoy is started with: its one listener, the filters each request passes, and how requests are counted.

Requests are counted when they end, by an access logger that writes statistics: outcome and time of a request go into
one histogram at one moment. Envoy's own cluster histogram leaves out every request that was never answered (timeouts,
resets, refused connections) and says nothing about clients that left, so a deployment that hangs would look fast.

Envoy's histograms have bins of two significant digits, and a bucket edge takes in the whole bin that starts at it:
`le="500"` counts 509 ms as well, `le="1000"` 1099 ms. The edge one bin below is exact: 490 means less than 500 ms.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS
from resources.traffic.envoy_config import (
    ADMIN_CLUSTER,
    GUARDS,
    IDENTITY_HEADERS,
    METADATA,
    ROUTES_NAME,
    TYPE,
    Json,
)

CLUSTERS_FILE = Path("cds") / "clusters.json"
ROUTES_FILE = Path("rds") / "routes.json"
STATISTIC_PREFIX = "llmops_gateway"
LONGEST_BODY_BYTES = 1 << 20
MOST_CONNECTIONS = 10_000
HOST = "127.0.0.1"
_FILTERS = f"{TYPE}.extensions.filters.http"


def bucket_milliseconds(edge_seconds: float) -> float:
    """The bucket that counts exactly the requests below the edge: the start of the bin that ends at it."""
    milliseconds = edge_seconds * 1000
    magnitude = math.floor(math.log10(milliseconds))
    power = 10.0 ** (magnitude - 1)
    digits = round(milliseconds / power)
    return round((digits - 1) * power if digits > 10 else 99 * power / 10, 1)


def bootstrap(folder: Path, port: int, admin_port: int) -> Json:
    """`folder` is where the discovery files are; each has a folder of its own, since a rename wakes all its readers."""
    return {
        "node": {"id": "gateway", "cluster": "llmops"},
        "admin": {
            "address": _address(admin_port),
            "allow_paths": [{"prefix": "/stats"}, {"exact": "/ready"}],
        },
        "stats_flush_on_admin": True,
        "stats_config": {"histogram_bucket_settings": [buckets(STATISTIC_PREFIX), buckets("cluster.")]},
        "overload_manager": {"resource_monitors": [connection_limit()]},
        "dynamic_resources": {"cds_config": _watched(folder / CLUSTERS_FILE)},
        "static_resources": {
            "clusters": [cluster_at(ADMIN_CLUSTER, _address(admin_port))],
            "listeners": [_listener(folder, port)],
        },
    }


def buckets(prefix: str) -> Json:
    return {"match": {"prefix": prefix}, "buckets": [bucket_milliseconds(edge) for edge in LATENCY_EDGES_SECONDS]}


def _listener(folder: Path, port: int) -> Json:
    return {
        "name": "gateway",
        "address": _address(port),
        "enable_reuse_port": False,  # a second process on this port must fail, not take every other request
        "per_connection_buffer_limit_bytes": LONGEST_BODY_BYTES,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": _connection_manager(folder)}]}],
    }


def _connection_manager(folder: Path) -> Json:
    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "HTTP1",
        "use_remote_address": True,
        **GUARDS,
        "rds": {
            "route_config_name": ROUTES_NAME,
            "config_source": _watched(folder / ROUTES_FILE),
        },
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": f"{TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [{"remove": name} for name in IDENTITY_HEADERS],
                },
            }
        ],
        "local_reply_config": {"mappers": [own_errors()]},
        "access_log": [{"name": "envoy.access_loggers.stats", "typed_config": counting()}],
        "http_filters": [
            http_filter("buffer", "buffer.v3.Buffer", {"max_request_bytes": LONGEST_BODY_BYTES}),
            http_filter("json_to_metadata", "json_to_metadata.v3.JsonToMetadata", _model_of_body()),
            http_filter("header_mutation", "header_mutation.v3.HeaderMutation", {}),
            http_filter("router", "router.v3.Router", {}),
        ],
    }


def own_errors() -> Json:
    """Errors that the proxy makes itself (timeouts, broken connections, long bodies) in the shape of OpenAI's."""
    too_long = {"comparison": {"op": "EQ", "value": {"default_value": 413, "runtime_key": "llmops.too_long"}}}
    by_proxy = {"or_filter": {"filters": [{"response_flag_filter": {}}, {"status_code_filter": too_long}]}}
    error = {"message": "%LOCAL_REPLY_BODY%", "type": "gateway_error", "code": "%RESPONSE_CODE_DETAILS%"}
    return {"filter": by_proxy, "body_format_override": {"json_format": {"error": error}}}


def http_filter(name: str, kind: str, options: Json) -> Json:
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_FILTERS}.{kind}", **options}}


def _model_of_body() -> Json:
    """Exactly one of `model`, `unnamed` and `invalid` is set once the body was read. The content type is not asked:
    curl sends JSON as a form unless told otherwise."""

    def note(key: str, value: str | None = None) -> Json:
        return {"metadata_namespace": METADATA, "key": key, **({"value": value} if value else {})}

    rule = {
        "selectors": [{"key": "model"}],
        "on_present": note("model"),
        "on_missing": note("unnamed", "yes"),
        "on_error": note("invalid", "yes"),
    }
    return {
        "request_rules": {
            "rules": [rule],
            "allow_content_types_regex": {"regex": ".*"},
            "allow_empty_content_type": True,
        }
    }


def counting(more: Mapping[str, str] | None = None) -> Json:
    """The access logger that counts; `more` are labels of all its series."""
    tags = {"deployment": "%UPSTREAM_CLUSTER%", "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", **(more or {})}
    listed = [{"name": name, "value_format": value} for name, value in tags.items()]
    return {
        "@type": f"{TYPE}.extensions.access_loggers.stats.v3.Config",
        "stats_scope": {"prefix": STATISTIC_PREFIX},
        "counters": [{"stat": {"name": "requests", "tags": listed}, "value_fixed": 1}],
        "histograms": [
            {"stat": {"name": "duration", "tags": listed}, "unit": "Milliseconds", "value_format": "%DURATION%"}
        ],
    }


def cluster_at(name: str, address: Json) -> Json:
    """A cluster of one address, such as Envoy's own page."""
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def connection_limit() -> Json:
    kind = f"{TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    limit = {"@type": kind, "max_active_downstream_connections": MOST_CONNECTIONS}
    return {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": limit}


def _watched(file: Path) -> Json:
    return {"path_config_source": {"path": str(file), "watched_directory": {"path": str(file.parent)}}}


def _address(port: int) -> Json:
    return {"socket_address": {"address": HOST, "port_value": port}}
