"""Examining a cluster: everything that a job and a model server would meet there, asked without making anything."""

from llmops_assets.operations.doctor_inside import Hidden
from llmops_assets.operations.doctor_pods import (
    Examined,
    Place,
    Wanted,
    guarded,
    image,
    images_of,
    needed_by,
    rights,
    there,
    trial,
)
from llmops_assets.operations.doctor_serving import examine_serving
from llmops_core import job_manifest, train_job
from llmops_core.doctor import (
    Diagnosis,
    Health,
    judge_clock,
    judge_kinds,
    judge_version,
    kinds_needed,
    rights_of_jobs,
)
from llmops_core.errors import LlmopsError
from llmops_core.gpu_nodes import judge_gpus
from llmops_core.job_names import JobIdentity
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.serving_settings import ClusterServingPlace
from llmops_core.settings import Settings
from resources.cluster.cluster_view import ClusterView
from resources.cluster.kubernetes_api import client_of_cluster

TRIAL = JobIdentity("doctor", "trial", "doctor", "0" * 64)


def examine_cluster(settings: Settings, hidden: Hidden) -> Examined:
    """`hidden` is what whoever asks does not reach, although the cluster's API answers."""
    jobs = settings.jobs if isinstance(settings.jobs, ClusterJobsPlace) else None
    serving = settings.serving if isinstance(settings.serving, ClusterServingPlace) else None
    places: list[Place] = [place for place in (jobs, serving) if place is not None]
    if not places:
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
    yield from guarded("kinds", lambda: _kinds(view, settings))
    for wanted in needed_by(places):
        yield from there(view, wanted)
    for place in places:
        for purpose, text in images_of(place).items():
            yield from guarded(f"image of {purpose}", lambda p=place, u=purpose, t=text: image(view, p, u, t))
    if jobs is not None:
        yield from _jobs(view, jobs, hidden)
    if serving is not None:
        yield from examine_serving(view, serving, settings.platform.artifacts is not None, hidden)


def _jobs(view: ClusterView, jobs: ClusterJobsPlace, hidden: Hidden) -> Examined:
    space = jobs.namespace
    yield from guarded("rights of jobs", lambda: rights(view, "jobs", space, rights_of_jobs(jobs), hidden))
    yield from guarded("a job", lambda: _trial(view, jobs))
    if jobs.workload == "train_job":
        yield from guarded("a train job", lambda: _train_job_trial(view, jobs))
    if jobs.queue is not None:
        yield from guarded(f"queue {jobs.queue}", lambda: _queue(view, space, str(jobs.queue)))
    yield from guarded("gpus", lambda: _gpus(view, jobs))


def _kinds(view: ClusterView, settings: Settings) -> Examined:
    needed = kinds_needed(settings)
    yield from judge_kinds(needed, {group: view.kinds(group) for group in needed})


def _trial(view: ClusterView, jobs: ClusterJobsPlace) -> Examined:
    manifest = job_manifest.job(job_manifest.Attempt(TRIAL, 1, "doctor", job_manifest.Needs(), {}), jobs)
    mend = f"kubectl apply -k deploy/kubernetes/overlays/… makes the namespace {jobs.namespace} and its quota"
    yield from trial(view, "a job", f"/apis/batch/v1/namespaces/{jobs.namespace}/jobs", manifest, mend)


def _train_job_trial(view: ClusterView, jobs: ClusterJobsPlace) -> Examined:
    """Its runtime alone: a TrainJob is refused while that is not there, and a dry run leaves nothing."""
    attempt = job_manifest.Attempt(TRIAL, 1, "doctor", job_manifest.Needs(gpu_count=1), {})
    path = f"/apis/{train_job.API_VERSION}/namespaces/{jobs.namespace}/trainingruntimes"
    mend = "install Kubeflow's trainer, or take `workload: train_job` out of the settings"
    yield from trial(view, "a train job", path, train_job.training_runtime(attempt, jobs), mend)


def _queue(view: ClusterView, namespace: str, queue: str) -> Examined:
    version, name = view.kinds("kueue.x-k8s.io").get("LocalQueue"), f"queue {queue}"
    if version is None:
        yield Diagnosis(name, Health.UNKNOWN, "the cluster has no Kueue", "see kind LocalQueue above")
        return
    path = f"/apis/{version}/namespaces/{namespace}/localqueues/{queue}"
    found = view.read(path)
    if found is None:
        yield from there(view, Wanted(name, path))
        return
    said = {each["type"]: each for each in (found.get("status") or {}).get("conditions") or []}.get("Active", {})
    if said.get("status") == "True":
        yield Diagnosis(name, Health.OK, "it admits jobs")
    elif said.get("status") == "False":
        mend = "see its ClusterQueue: kubectl describe clusterqueues"
        yield Diagnosis(name, Health.FAILED, f"it admits nothing: {said.get('message', '')}", mend)
    else:
        yield Diagnosis(
            name, Health.UNKNOWN, "it is there, and nobody says whether it admits jobs", "see whether Kueue runs"
        )


def _gpus(view: ClusterView, jobs: ClusterJobsPlace) -> Examined:
    if not jobs.gpus:
        yield Diagnosis("gpus", Health.NOT_NEEDED, "the settings name none")
        return
    nodes = view.nodes()
    for kind, pool in jobs.gpus.items():
        yield judge_gpus(kind, pool, jobs, nodes)
