"""Examining a cluster: everything that a job and a model server would meet there, asked without making anything."""

from collections.abc import Callable, Iterator
from pathlib import Path

from llmops_core import job_manifest, serving_manifest
from llmops_core.doctor import (
    Diagnosis,
    Health,
    Right,
    judge_clock,
    judge_kinds,
    judge_rights,
    judge_version,
    kinds_needed,
    rights_of_jobs,
    rights_of_serving,
)
from llmops_core.errors import EnvironmentLacks, InputError, LlmopsError, TransientError
from llmops_core.gpu_nodes import judge_gpus
from llmops_core.job_names import JobIdentity
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.serving_settings import ClusterServingPlace
from llmops_core.settings import Settings
from resources.cluster_view import ClusterView, Hidden
from resources.image_registry import WhoAsks, has_image, login_in, parse_image
from resources.kubernetes_api import client_of_cluster
from resources.prometheus_metrics import PrometheusMetrics

Examined = Iterator[Diagnosis]
TRIAL = JobIdentity("doctor", "trial", "doctor", "0" * 64)
TRIAL_SERVER = DeploymentPlan(
    name="doctor-trial",
    model="doctor",
    version="0",
    weights_digest="0" * 64,
    model_file=Path("model.gguf"),
    alias="doctor",
    context_tokens=1,
    parallel=1,
    timeout_seconds=1,
    directory=Path(),
    python=Path("python"),
)


def examine_cluster(settings: Settings) -> Examined:
    jobs = settings.jobs if isinstance(settings.jobs, ClusterJobsPlace) else None
    if jobs is None and settings.serving.kind != "kubernetes":
        yield Diagnosis("kubernetes", Health.NOT_NEEDED, "jobs and servers run on this machine")
        return
    try:
        view = ClusterView(client_of_cluster())
        version, minor, skew_seconds = view.version()
    except LlmopsError as error:
        mend = "set KUBECONFIG to the cluster's, or run this in a pod of it"
        yield Diagnosis("kubernetes", Health.FAILED, str(error), mend)
        yield Diagnosis("cluster", Health.UNKNOWN, "nothing in the cluster could be asked", "see kubernetes above")
        return
    yield judge_version(version, minor)
    yield judge_clock("clock against kubernetes", skew_seconds)
    yield from _guarded("kinds", lambda: _kinds(view, settings))
    if jobs is not None:
        yield from _jobs(view, jobs)
    if isinstance(settings.serving, ClusterServingPlace):
        yield from _serving(view, settings.serving, settings.platform.artifacts is not None)


def _jobs(view: ClusterView, jobs: ClusterJobsPlace) -> Examined:
    space = jobs.namespace
    yield from _guarded("rights of jobs", lambda: _rights(view, "jobs", space, rights_of_jobs(jobs)))
    yield from _guarded("a job", lambda: _trial(view, jobs))
    if jobs.queue is not None:
        yield from _guarded(f"queue {jobs.queue}", lambda: _queue(view, space, str(jobs.queue)))
    for secret in (*jobs.secrets, *jobs.pull_secrets):
        yield from _there(view, f"secret {secret}", f"/api/v1/namespaces/{space}/secrets/{secret}")
    if jobs.service_account is not None:
        path = f"/api/v1/namespaces/{space}/serviceaccounts/{jobs.service_account}"
        yield from _there(view, f"account {jobs.service_account}", path)
    if jobs.priority_class is not None:
        path = f"/apis/scheduling.k8s.io/v1/priorityclasses/{jobs.priority_class}"
        yield from _there(view, f"priority {jobs.priority_class}", path)
    yield from _guarded("gpus", lambda: _gpus(view, jobs))
    yield from _guarded("image", lambda: _image(view, jobs))


def _serving(view: ClusterView, serving: ClusterServingPlace, has_store: bool) -> Examined:
    space, gateway = serving.namespace, serving.gateway.name
    yield from _guarded("rights of serving", lambda: _rights(view, "serving", space, rights_of_serving()))
    yield from _guarded("a server", lambda: _server_trial(view, serving))
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{space}/gateways/{gateway}"
    yield from _there(view, f"gateway {gateway}", path)
    yield from _guarded("prometheus", lambda: _prometheus(serving))
    if not has_store:
        mend = "name a bucket under platform.artifacts"
        yield Diagnosis("weights of servers", Health.FAILED, "pods cannot fetch them: there is no object store", mend)


def _server_trial(view: ClusterView, serving: ClusterServingPlace) -> Examined:
    """A dry run, as for a job."""
    manifest = serving_manifest.deployment(TRIAL_SERVER, serving, serving_manifest.WeightStore("s3://trial/trial"), {})
    try:
        view.try_to_create(f"/apis/apps/v1/namespaces/{serving.namespace}/deployments", manifest)
    except InputError as error:
        said = error.problems[0].message
        yield Diagnosis("a server", Health.FAILED, f"would be refused: {said}", "see deploy/kubernetes/base/workloads")
        return
    yield Diagnosis("a server", Health.OK, f"would be accepted in {serving.namespace}")


def _prometheus(serving: ClusterServingPlace) -> Examined:
    servers = PrometheusMetrics(serving.prometheus, serving.namespace).servers()
    yield Diagnosis("prometheus", Health.OK, f"{serving.prometheus.url} answers and reads {servers} model servers")


def _guarded(name: str, part: Callable[[], Examined]) -> Examined:
    """A part that the cluster hides is unknown; one that it refuses, or does not answer for, has failed."""
    try:
        yield from part()
    except Hidden as error:
        yield Diagnosis(name, Health.UNKNOWN, str(error), "ask as somebody who may look there")
    except TransientError as error:
        yield Diagnosis(name, Health.UNKNOWN, str(error), "ask again when it answers")
    except (EnvironmentLacks, InputError) as error:
        yield Diagnosis(name, Health.FAILED, str(error), "see the message")


def _kinds(view: ClusterView, settings: Settings) -> Examined:
    needed = kinds_needed(settings)
    yield from judge_kinds(needed, {group: view.kinds(group) for group in needed})


def _rights(view: ClusterView, name: str, namespace: str, rights: list[Right]) -> Examined:
    yield judge_rights(f"rights of {name}", namespace, {right: view.granted(right, namespace) for right in rights})


def _trial(view: ClusterView, jobs: ClusterJobsPlace) -> Examined:
    """A dry run of what the platform itself would create, so that every admission controller has its say."""
    attempt = job_manifest.Attempt(TRIAL, 1, "doctor", job_manifest.Needs(), {})
    manifest = job_manifest.job(attempt, jobs)
    try:
        view.try_to_create(f"/apis/batch/v1/namespaces/{jobs.namespace}/jobs", manifest)
    except InputError as error:
        said = error.problems[0].message
        mend = f"kubectl apply -k deploy/kubernetes/overlays/… makes the namespace {jobs.namespace} and its quota"
        yield Diagnosis("a job", Health.FAILED, f"would be refused: {said}", mend)
        return
    yield Diagnosis("a job", Health.OK, f"would be accepted in {jobs.namespace}")


def _queue(view: ClusterView, namespace: str, queue: str) -> Examined:
    version = view.kinds("kueue.x-k8s.io").get("LocalQueue")
    if version is None:
        yield Diagnosis(f"queue {queue}", Health.UNKNOWN, "the cluster has no Kueue", "see kind LocalQueue above")
        return
    yield from _there(view, f"queue {queue}", f"/apis/{version}/namespaces/{namespace}/localqueues/{queue}")


def _there(view: ClusterView, name: str, path: str) -> Examined:
    def look() -> Examined:
        if view.exists(path):
            yield Diagnosis(name, Health.OK, "it is there")
        else:
            yield Diagnosis(name, Health.FAILED, f"there is none at {path}", "make it: docs/kubernetes.md says how")

    yield from _guarded(name, look)


def _gpus(view: ClusterView, jobs: ClusterJobsPlace) -> Examined:
    if not jobs.gpus:
        yield Diagnosis("gpus", Health.NOT_NEEDED, "the settings name none")
        return
    nodes = view.nodes()
    for kind, pool in jobs.gpus.items():
        yield judge_gpus(kind, pool, jobs, nodes)


def _image(view: ClusterView, jobs: ClusterJobsPlace) -> Examined:
    image = parse_image(jobs.image)
    login = None
    for secret in jobs.pull_secrets:
        config = view.secret(jobs.namespace, secret).get(".dockerconfigjson")
        login = login or (login_in(config, image.host) if config else None)
    try:
        there = has_image(image, login)
    except WhoAsks:
        who = "the pull secret's user" if login else "nobody in particular"
        yield Diagnosis(
            "image", Health.UNKNOWN, f"{image.host} shows it to others than {who}", "mend jobs.pull_secrets"
        )
        return
    if there:
        yield Diagnosis("image", Health.OK, f"{jobs.image} is in the registry")
    else:
        yield Diagnosis("image", Health.FAILED, f"{image.host} has no {jobs.image}", "build and push it: deploy/images")
