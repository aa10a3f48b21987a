"""Whether somebody counts what becomes of the requests to model servers: a canary without counts is never decided.

A Prometheus that answers may still read nothing of ours: because no PodMonitor picks the servers' pods, or because the
Prometheus does not pick the PodMonitor. The first shows in the cluster, the second only when servers run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_core.doctor import Diagnosis, Health

Manifest = Mapping[str, Any]

NAME = "prometheus"
PICK = "let it read every PodMonitor of the namespace (podMonitorSelectorNilUsesHelmValues=false): docs/kubernetes.md"
MAKE = (
    "apply deploy/kubernetes/components/monitoring/workloads, or let your Prometheus read these pods at the port http"
)


def judge_scrapes(address: str, scraped: int, running: int) -> Diagnosis:
    """`scraped` of the `running` pods of model servers are read by the Prometheus at `address`."""
    found = f"{address} answers and reads {scraped} of {running} model servers"
    if scraped < running:
        return Diagnosis(NAME, Health.FAILED, found, PICK)
    return Diagnosis(NAME, Health.OK, found)


def judge_monitors(monitors: Sequence[Manifest], labels: Mapping[str, str], port: str) -> Diagnosis:
    """Whether one of the namespace's PodMonitors reads `port` of pods with these labels."""
    fitting = [each["metadata"]["name"] for each in monitors if _fits(each["spec"], labels, port)]
    if fitting:
        return Diagnosis("pod monitor", Health.OK, f"{', '.join(fitting)} picks the servers")
    found = f"none of {len(monitors)} picks the port {port} of the servers' pods" if monitors else "there is none"
    return Diagnosis("pod monitor", Health.FAILED, found, MAKE)


def _fits(spec: Manifest, labels: Mapping[str, str], port: str) -> bool:
    selector: Manifest | None = spec.get("selector")
    told: Mapping[str, str] | None = (selector or {}).get("matchLabels")
    expressions: Sequence[Manifest] | None = (selector or {}).get("matchExpressions")
    endpoints: Sequence[Manifest] | None = spec.get("podMetricsEndpoints")
    return (
        (told or {}).items() <= labels.items()
        and any(each.get("port") == port for each in endpoints or ())
        and all(_holds(each, labels) for each in expressions or ())
    )


def _holds(expression: Manifest, labels: Mapping[str, str]) -> bool:
    value = labels.get(str(expression["key"]))
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None
