"""What the cluster is given for an attempt: a training on GPUs as a TrainJob, with a runtime of our own beside it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llmops_core.errors import EnvironmentLacks, IntegrityError
from llmops_core.job_manifest import Attempt
from llmops_core.job_settings import ClusterJobsPlace
from resources.cluster.kubernetes_api import JOBS, TRAIN_JOBS, TRAINING_RUNTIMES, KubernetesApi
from resources.jobs.job_objects import JobObjects
from resources.jobs.job_roll import JobRoll
from tests.core.test_job_manifest import ATTEMPT, FULL, ON_GPUS, ON_NODES
from tests.fakes.kubernetes_api import KubernetesApi as StandIn
from tests.resources.kubernetes_samples import NAMESPACE

PLACE = ClusterJobsPlace.model_validate({**FULL, "workload": "train_job", "queue": None})
OTHER = replace(ON_GPUS, identity=replace(ON_GPUS.identity, recipe="evaluate"))


@pytest.fixture
def api(stand_in: StandIn) -> Iterator[KubernetesApi]:
    found = KubernetesApi(stand_in.client(), NAMESPACE)
    yield found
    for kind in (JOBS, TRAIN_JOBS, TRAINING_RUNTIMES):
        for each in found.every(kind):
            found.delete(kind, each["metadata"]["name"], each["metadata"]["uid"])
    stand_in.settle()


@pytest.mark.parametrize(("attempt", "kind"), [(ON_NODES, TRAIN_JOBS), (OTHER, JOBS), (ATTEMPT, JOBS)])
def test_an_attempt_was_made_twice_or_as_another_kind(api: KubernetesApi, attempt: Attempt, kind: Any) -> None:
    objects = JobObjects(PLACE, api)
    assert objects.make(attempt)["metadata"]["uid"] == objects.make(attempt)["metadata"]["uid"]
    assert objects.kind(attempt) is kind and [each["metadata"]["name"] for each in api.every(kind)] == [attempt.name]
    assert len(api.every(TRAINING_RUNTIMES)) == (kind is TRAIN_JOBS)


def test_train_jobs_that_ended_stayed_for_ever(api: KubernetesApi) -> None:
    objects = JobObjects(PLACE, api)
    for attempt in (ON_GPUS, OTHER):
        objects.make(attempt)
        objects.tidy(attempt)
        objects.tidy(attempt)
    assert api.every(TRAIN_JOBS) == []
    assert [each["metadata"]["name"] for each in api.every(JOBS)] == [OTHER.name]  # until its time to live is over


def test_train_jobs_that_ended_when_nobody_looked_stayed_for_ever(api: KubernetesApi) -> None:
    objects = JobObjects(PLACE, api)
    objects.make(ON_GPUS)
    objects.make(OTHER)
    roll = JobRoll(api, objects, None)  # type: ignore[arg-type]  # nothing is billed
    found = {each.name: each for each in roll.going()}
    assert not roll.forget(replace(found[ON_GPUS.name], version="1")), "it is not as it was read"
    assert roll.forget(found[ON_GPUS.name]) and not roll.forget(found[OTHER.name])
    assert api.every(TRAIN_JOBS) == [] and [each["metadata"]["name"] for each in api.every(JOBS)] == [OTHER.name]


def test_train_jobs_that_the_settings_name_no_more_were_seen_by_nobody(stand_in: StandIn, api: KubernetesApi) -> None:
    JobObjects(PLACE, api).make(ON_GPUS)
    now = JobRoll(api, JobObjects(PLACE.model_copy(update={"workload": "job"}), api), None)  # type: ignore[arg-type]
    assert [(each.name, each.kind) for each in now.going()] == [(ON_GPUS.name, "trainjobs")]
    stand_in.faults.refuse(403, verb="list", resource="trainjobs", times=2)
    assert now.going() == [], "a platform that never had them may have no right to look"
    with pytest.raises(EnvironmentLacks):
        JobRoll(api, JobObjects(PLACE, api), None).going()  # type: ignore[arg-type]


def test_the_runtime_of_somebody_else_was_taken_for_ours(api: KubernetesApi) -> None:
    objects = JobObjects(PLACE, api)
    objects.make(ON_GPUS)
    (runtime,) = api.every(TRAINING_RUNTIMES)
    api.delete(TRAINING_RUNTIMES, runtime["metadata"]["name"], runtime["metadata"]["uid"])
    theirs = {"name": runtime["metadata"]["name"], "labels": {"app": "theirs"}}
    api.create(TRAINING_RUNTIMES, {**runtime, "metadata": theirs})
    with pytest.raises(IntegrityError, match="look who made it"):
        objects.make(replace(ON_GPUS, number=2))


def test_a_right_that_is_missing_made_half_of_it(stand_in: StandIn, api: KubernetesApi) -> None:
    stand_in.faults.refuse(403, verb="create", resource="trainingruntimes", times=1)
    with pytest.raises(EnvironmentLacks, match="give the platform this right"):
        JobObjects(PLACE, api).make(ON_GPUS)
    assert api.every(TRAIN_JOBS) == []
