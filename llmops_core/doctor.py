"""What an environment must have, and what is judged of what was found there.

Each part is one diagnosis with one of four verdicts. Nothing unknown counts as good: a part that could not be asked,
because another is broken or because whoever asks may not look, is `unknown`. Then the environment is not called well;
nor is it ill, and the two are told apart.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.settings import Settings

SKEW_LIMIT_SECONDS = 30.0  # signed requests bear 15 minutes, but leases, deadlines and logs are compared to the second
LEAST_FREE_BYTES = 3 * 10**9
OLDEST_MINOR = 29  # of Kubernetes 1.x: Jobs with success by index, and pods told apart from their deletion

Verdict = Literal["well", "failed", "unknown"]
EXIT_CODES: dict[Verdict, int] = {"well": 0, "failed": 1, "unknown": 2}  # as of an audit: 2 is what was not seen


class Health(StrEnum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Diagnosis:
    """`found` says what is there, `mend` what to do; nothing is to be done where all is well."""

    name: str
    verdict: Health
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self) | {"verdict": self.verdict.value}


@dataclass(frozen=True)
class Right:
    """Something that the platform does in the cluster."""

    verb: str
    group: str
    resource: str
    subresource: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {what}.{self.group}" if self.group else f"{self.verb} {what}"


def verdict_of(diagnoses: Iterable[Diagnosis]) -> Verdict:
    """The worst of them. An examination that looked at nothing found nothing out."""
    verdicts = {each.verdict for each in diagnoses}
    if Health.FAILED in verdicts:
        return "failed"
    return "unknown" if Health.UNKNOWN in verdicts or not verdicts else "well"


def only_inside(address: str) -> bool:
    """Whether the host of an address, or this host, is a Service's full name: only pods of its cluster resolve it."""
    host = (urlsplit(address).hostname or "") if "://" in address else address
    return "svc" in host.lower().rstrip(".").split(".")[2:]


def ask_from_inside(name: str, what: str) -> Diagnosis:
    mend = "ask from inside: docs/kubernetes.md, Look before you release"
    return Diagnosis(name, Health.UNKNOWN, f"only pods of the cluster reach {what}", mend)


def rights_of_jobs(place: ClusterJobsPlace) -> list[Right]:
    """What the platform does in the namespace of the jobs."""
    kinds: list[tuple[str, str, str, tuple[str, ...]]] = [
        ("batch", "jobs", "", ("create", "get", "list", "watch", "patch", "delete")),
        ("", "pods", "", ("get", "list", "watch")),
        ("", "pods", "log", ("get",)),
        ("", "events", "", ("list",)),
        ("", "services", "", ("create", "get", "delete")),
    ]
    if place.workload == "train_job":
        verbs = ("create", "get", "list", "watch", "patch", "delete")
        kinds.append(("trainer.kubeflow.org", "trainjobs", "", verbs))
        kinds.append(("trainer.kubeflow.org", "trainingruntimes", "", ("create", "get")))
    return [Right(verb, group, name, below) for group, name, below, verbs in kinds for verb in verbs]


def rights_of_serving() -> list[Right]:
    """What the platform does in the namespace of the model servers."""
    kinds: list[tuple[str, str, str, tuple[str, ...]]] = [
        ("apps", "deployments", "", ("create", "get", "list", "update", "delete")),
        ("", "services", "", ("create", "get", "delete")),
        ("policy", "poddisruptionbudgets", "", ("create", "get", "delete")),
        ("gateway.networking.k8s.io", "httproutes", "", ("create", "get", "list", "update", "delete")),
        ("", "pods", "", ("list",)),
        ("", "pods", "log", ("get",)),
    ]
    return [Right(verb, group, name, below) for group, name, below, verbs in kinds for verb in verbs]


def kinds_needed(settings: Settings) -> dict[str, tuple[str, str]]:
    """{group/version, or a group of which any version will do: (kind, what installs it)} of others' kinds."""
    needed: dict[str, tuple[str, str]] = {}
    if settings.serving.kind == "kubernetes":
        needed["gateway.networking.k8s.io/v1"] = ("HTTPRoute", "the Gateway API and an implementation of it")
    if isinstance(settings.jobs, ClusterJobsPlace):
        if settings.jobs.queue is not None:
            needed["kueue.x-k8s.io"] = ("LocalQueue", "Kueue")
        if settings.jobs.workload == "train_job":
            needed["trainer.kubeflow.org/v1alpha1"] = ("TrainJob", "Kubeflow's trainer")
    return needed


def judge_version(version: str, minor: str) -> Diagnosis:
    """`minor` as the server says it, such as 36 or 36+."""
    number = int("".join(sign for sign in minor if sign.isdigit()) or 0)
    if number < OLDEST_MINOR:
        return Diagnosis("kubernetes", Health.FAILED, version, f"upgrade the cluster to 1.{OLDEST_MINOR} or newer")
    return Diagnosis("kubernetes", Health.OK, version)


def judge_clock(name: str, skew_seconds: float) -> Diagnosis:
    """`skew_seconds` is how far this machine's clock is before the other's."""
    found = f"{abs(skew_seconds):.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} it"
    if abs(skew_seconds) > SKEW_LIMIT_SECONDS:
        mend = f"set this machine's clock (chrony, systemd-timesyncd); {SKEW_LIMIT_SECONDS:.0f} s are borne"
        return Diagnosis(name, Health.FAILED, found, mend)
    return Diagnosis(name, Health.OK, found)


def judge_disk(place: str, free_bytes: int) -> Diagnosis:
    found = f"{free_bytes / 1e9:.1f} GB free at {place}"
    if free_bytes < LEAST_FREE_BYTES:
        return Diagnosis("disk", Health.FAILED, found, f"make room: {LEAST_FREE_BYTES / 1e9:.0f} GB are needed")
    return Diagnosis("disk", Health.OK, found)


def judge_rights(name: str, namespace: str, granted: Mapping[Right, bool]) -> Diagnosis:
    """What of the rights whoever asks lacks."""
    lacking = [str(right) for right, allowed in granted.items() if not allowed]
    if lacking:
        mend = f"bind a role with these rights in {namespace}: see deploy/kubernetes/base/workloads/access.yaml"
        return Diagnosis(name, Health.FAILED, f"not allowed in {namespace}: {', '.join(lacking)}", mend)
    return Diagnosis(name, Health.OK, f"{len(granted)} rights in {namespace}")


def judge_refusals(name: str, address: str, refused: Mapping[str, str], answered: bool) -> Diagnosis:
    """`refused` says of each operation that was tried why it failed; empty where it worked. `answered` says whether the
    store was heard at all: where it was not, its policy is not what is wrong."""
    bad = [f"{operation}: {why}" for operation, why in refused.items() if why]
    if bad:
        mend = f"give the platform's credentials these rights on {address}, in the store's policy"
        if not answered:
            mend = "see the store's address in the settings, whether it runs, and what network policies let through"
        return Diagnosis(name, Health.FAILED, "; ".join(bad), mend)
    return Diagnosis(name, Health.OK, f"{', '.join(refused)} at {address}")


def judge_kinds(needed: Mapping[str, tuple[str, str]], served: Mapping[str, Collection[str]]) -> Iterator[Diagnosis]:
    """`served`: {what was asked for: the kinds that the cluster has of it}."""
    for group, (kind, installed_by) in needed.items():
        if kind in served[group]:
            yield Diagnosis(f"kind {kind}", Health.OK, f"served as {group}")
        else:
            yield Diagnosis(f"kind {kind}", Health.FAILED, f"the cluster has none ({group})", f"install {installed_by}")
