"""The door to jobs on this cluster: recipes of a few lines, sent, run in a pod of the image, followed and fetched."""

from typing import Any

import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from llmops_core.cost import RUNNING, Bill
from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from tests.cluster.cluster_under_test import wait_for
from tests.cluster.jobs_under_test import ENDS_SECONDS, RealClusterWorld, outcome
from tests.fakes.job_worlds import Killed

pytestmark = pytest.mark.usefixtures("pods")


def test_a_job_left_no_result_or_was_not_heard(world: RealClusterWorld) -> None:
    ran = world.following(recipe="speaks", times=2).ended(ENDS_SECONDS)
    assert ran.errors == [], outcome(ran)
    assert (ran.out / "deep" / "rows.txt").read_text() == "a row\n" * 2
    assert [each["done"] for each in ran.progress] in ([], [1, 2])
    assert "printed" in ran.events and ran.events_with("speaks 2/2, loss 0.5")
    assert {each.outcome for each in world.spent} == {"succeeded"}
    assert 0 <= world.spent[0].seconds < ENDS_SECONDS  # a cluster tells times in whole seconds


def test_an_error_of_the_input_was_tried_again(world: RealClusterWorld) -> None:
    ran = world.following(recipe="blames").ended(ENDS_SECONDS)
    (error,) = ran.errors
    assert isinstance(error, InputError), outcome(ran)
    assert error.problems[0].message == "rows.jsonl: line 3 is no object" and len(world.job_objects) == 1


def test_a_retried_step_started_another_job(world: RealClusterWorld) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    first = world.following(recipe="speaks", on_progress=dies, times=1).ended(ENDS_SECONDS)
    assert isinstance(first.errors[0], Killed), outcome(first)
    second = world.following(recipe="speaks", times=1).ended(ENDS_SECONDS)
    assert second.errors == [] and (second.out / "report.json").exists(), outcome(second)
    assert world.book.messages("run").count("printed") == 1 and len(world.job_objects) == 1


def test_a_deleted_pod_was_waited_for_for_ever(world: RealClusterWorld) -> None:
    going = world.following(recipe="waits")
    world.namespace.delete("pods", world.running()["metadata"]["name"], "Background")
    ran = going.ended(ENDS_SECONDS)
    (error,) = ran.errors
    assert isinstance(error, TransientError) and "pod_deleted" in str(error), outcome(ran)


def test_a_deleted_job_was_waited_for_for_ever(world: RealClusterWorld) -> None:
    going = world.following(recipe="waits")
    world.running()
    (job,) = world.job_objects
    world.namespace.delete("jobs", job["metadata"]["name"])
    assert isinstance(going.ended(ENDS_SECONDS).errors[0], TransientError)
    wait_for(lambda: not world.namespace.items("pods"), "the pod goes on")


def test_a_run_that_was_cancelled_left_its_job(world: RealClusterWorld) -> None:
    def cancel(*_: Any) -> None:
        world.book.cancelled.add("run")
        raise DagsterExecutionInterruptedError

    ran = world.following(recipe="stays", on_progress=cancel).ended(ENDS_SECONDS)
    assert isinstance(ran.errors[0], DagsterExecutionInterruptedError), outcome(ran)
    wait_for(lambda: not world.job_objects and not world.namespace.items("pods"), "the job goes on")


def test_a_job_that_nobody_waits_for_went_on_or_was_for_nothing(world: RealClusterWorld) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    world.following(recipe="stays", on_progress=dies).ended(ENDS_SECONDS)
    door, bills = world.door(), list[Bill]()
    (running,), (job,) = door.running(), door.going()
    assert running.spent.outcome == RUNNING and door.ended() == []
    assert door.end(job, "run run is over", bills.append)
    assert bills[0].spent.outcome == "cancelled" and bills[0].spent.seconds >= running.spent.seconds > 0
    wait_for(lambda: not world.job_objects and not world.namespace.items("pods"), "the job goes on")


def test_pods_whose_job_was_taken_from_under_them_got_a_second_one_beside_them(world: RealClusterWorld) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    world.following(recipe="stays", on_progress=dies).ended(ENDS_SECONDS)
    (job,) = world.job_objects
    world.namespace.delete("jobs", job["metadata"]["name"], "Orphan")
    wait_for(lambda: not world.job_objects, "the job stays")
    (before,) = world.namespace.items("pods")
    going = world.following(recipe="stays", run="second")
    wait_for(lambda: world.book.messages("second"), "nothing is heard of it")
    (after,) = world.namespace.items("pods")
    assert after["metadata"]["uid"] == before["metadata"]["uid"] and world.job_objects == []
    world.namespace.delete("pods", after["metadata"]["name"], "Background")
    (error,) = going.ended(ENDS_SECONDS).errors
    assert isinstance(error, TransientError) and ("pod_deleted" in str(error) or "lost" in str(error))


def test_memory_did_not_follow_the_ladder(world: RealClusterWorld) -> None:
    world.place = world.place.model_copy(update={"memory_ladder_gb": (1.5,)})
    ran = world.following(recipe="eats").ended(ENDS_SECONDS)
    assert ran.errors == [] and (ran.out / "report.json").read_text() == "450000000", outcome(ran)
    limits = [job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for job in world.job_objects]
    assert sorted(limit["memory"] for limit in limits) == ["1500M", "500M"]


def test_a_job_past_its_deadline_was_called_a_crash(world: RealClusterWorld) -> None:
    world.place = world.place.model_copy(update={"deadline_seconds": 8})
    ran = world.following(recipe="waits").ended(ENDS_SECONDS)
    (error,) = ran.errors
    assert isinstance(error, EnvironmentLacks) and "deadline_exceeded" in str(error), outcome(ran)
