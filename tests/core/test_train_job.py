"""A training as a TrainJob: what its controller would refuse or do otherwise, which no schema says."""

import re
from dataclasses import replace
from typing import Any

import pytest

from llmops_core.job_manifest import Attempt, Needs, job
from llmops_core.job_names import JobIdentity, job_name
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.train_job import is_train_job, train_job, training_runtime
from tests.core.kubernetes_schemas import check
from tests.core.test_job_manifest import FULL, ON_GPUS, ON_NODES

PLACE = ClusterJobsPlace.model_validate({**FULL, "workload": "train_job"})
ATTEMPTS = pytest.mark.parametrize("attempt", [ON_GPUS, ON_NODES], ids=["one gpu", "two nodes"])


def job_of(runtime: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def as_run(attempt: Attempt) -> dict[str, Any]:
    """The pod as the controller makes it: the runtime's, with what the TrainJob says of its trainer."""
    trainer = train_job(attempt, PLACE)["spec"]["trainer"]
    pod = job_of(training_runtime(attempt, PLACE))["template"]["spec"]
    told = {"env": trainer["env"], "resources": trainer["resourcesPerNode"], "image": trainer["image"]}
    return {**pod, "containers": [{**pod["containers"][0], **told, "command": trainer["command"]}]}


@ATTEMPTS
def test_the_api_server_refused_it(attempt: Attempt) -> None:
    check(train_job(attempt, PLACE))
    check(training_runtime(attempt, PLACE))
    wrong = train_job(attempt, PLACE)
    wrong["spec"]["backofLimit"] = 0
    with pytest.raises(AssertionError, match="unknown"):
        check(wrong)


@ATTEMPTS
def test_every_node_asked_for_the_gpus_of_all(attempt: Attempt) -> None:
    trainer = train_job(attempt, PLACE)["spec"]["trainer"]
    asked = int(trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"])
    assert asked == trainer["numProcPerNode"] and asked * trainer["numNodes"] == attempt.needs.gpu_count


@ATTEMPTS
def test_the_trainer_s_own_variables_were_named(attempt: Attempt) -> None:
    assert not [each["name"] for each in train_job(attempt, PLACE)["spec"]["trainer"]["env"] if "PET_" in each["name"]]
    assert training_runtime(attempt, PLACE)["spec"]["mlPolicy"]["torch"] == {}  # which sets them


@ATTEMPTS
def test_the_cluster_retried_what_the_door_decides(attempt: Attempt) -> None:
    runtime = training_runtime(attempt, PLACE)
    made = job_of(runtime)
    assert made["backoffLimit"] == 0 and made["template"]["spec"]["restartPolicy"] == "Never"
    assert runtime["spec"]["template"]["spec"]["failurePolicy"] == {"maxRestarts": 0}


@ATTEMPTS
def test_a_pod_differed_from_that_of_a_job(attempt: Attempt) -> None:
    found, wanted = as_run(attempt), job(attempt, PLACE)["spec"]["template"]["spec"]
    wanted.pop("subdomain", None)  # a JobSet has its own
    for pod in (found, wanted):
        (container,) = pod["containers"]
        container.pop("name")
        container["env"] = [each for each in container["env"] if not each["name"].startswith("PET_")]
    assert found == wanted


def test_attempts_did_not_share_a_runtime_or_different_ones_did() -> None:
    first, again = (training_runtime(replace(ON_GPUS, number=number), PLACE) for number in (1, 2))
    other = training_runtime(ON_GPUS, PLACE.model_copy(update={"image": "training:2"}))
    on_v100 = training_runtime(replace(ON_GPUS, needs=Needs(32, 8, 1, "v100")), PLACE)
    assert first == again and len({each["metadata"]["name"] for each in (first, other, on_v100)}) == 3
    assert train_job(ON_GPUS, PLACE)["spec"]["runtimeRef"]["name"] == first["metadata"]["name"]


def test_what_does_not_train_became_a_train_job() -> None:
    asking = replace(ON_GPUS, identity=replace(ON_GPUS.identity, recipe="evaluate"))
    on_processors = replace(ON_GPUS, needs=Needs(32, 8))
    assert [is_train_job(each, PLACE) for each in (ON_GPUS, asking, on_processors)] == [True, False, False]
    assert not is_train_job(ON_GPUS, ClusterJobsPlace.model_validate(FULL))


def test_kueue_was_passed_by_or_the_watch_did_not_hear_of_its_pods() -> None:
    made = train_job(ON_GPUS, PLACE)
    assert made["spec"]["suspend"] is True and made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    (patch,) = made["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    labels = replicated["template"]["spec"]["template"]["metadata"]["labels"]
    assert labels.items() <= made["metadata"]["labels"].items() and labels["llmops.dev/job"] == ON_GPUS.name


def test_a_name_was_too_long_for_the_pods_of_a_job_set() -> None:
    """The controller of JobSets refuses one whose pods' names, with five more letters, have more than 63."""
    name = job_name(JobIdentity("m" * 63, "weights", "finetune", "0123456789abcdef" * 4), 9999)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", f"{name}-node-0-10-abcde")
