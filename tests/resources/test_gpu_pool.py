"""Jobs and the pool of GPUs, in a real Dagster instance: never more than there are, and nobody waits for ever."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.execution.plan import instance_concurrency_context
from dagster._core.test_utils import create_run_for_test, instance_for_test
from dagster._daemon.monitoring import execute_concurrency_slots_iteration

from llmops_core.errors import EnvironmentLacks
from resources.home import Home
from resources.host.platform_programs import write_dagster_instance
from resources.jobs import gpu_pool
from resources.jobs.gpu_pool import POOL, TURN, gpus_held

LIMIT = 8


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    monkeypatch.setattr(instance_concurrency_context, "INITIAL_INTERVAL_VALUE", 0.01)
    monkeypatch.setattr(gpu_pool, "POLL_SECONDS", 0.005)
    monitored = {"enabled": True, "free_slots_after_run_end_seconds": 1}
    with instance_for_test(overrides={"run_monitoring": monitored}) as instance:
        yield instance


def context_in(instance: DagsterInstance) -> Any:
    """What a job sees of a run that goes."""
    run = create_run_for_test(instance, job_name="release", status=DagsterRunStatus.STARTED)
    return SimpleNamespace(instance=instance, run=run, log=SimpleNamespace(info=lambda message: None))


def held(instance: DagsterInstance, pool: str = POOL) -> int:
    return instance.event_log_storage.get_concurrency_info(pool).active_slot_count


@contextmanager
def in_background(work: Any) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive(), "it waits for ever"


def test_jobs_together_held_more_gpus_than_there_are_or_each_half_of_what_it_needs(instance: DagsterInstance) -> None:
    chance = random.Random(4)
    wanted = [8, *(chance.choice([1, 2, 3, 4, 5]) for _ in range(9))]
    now, most, done, lock = 0, 0, 0, threading.Lock()

    def works(count: int) -> None:
        nonlocal now, most, done
        with gpus_held(context_in(instance), "weights", count, LIMIT, False):
            with lock:
                now += count
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now, done = now - count, done + 1

    threads = [threading.Thread(target=works, args=(count,), daemon=True) for count in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "two jobs wait for each other"
    assert done == len(wanted) and max(wanted[1:]) < most <= LIMIT, most
    assert held(instance) == held(instance, TURN) == 0


def test_a_job_of_four_gpus_took_one_slot(instance: DagsterInstance) -> None:
    with gpus_held(context_in(instance), "weights", 4, LIMIT, False):
        assert held(instance) == 4 and instance.event_log_storage.get_concurrency_info(POOL).slot_count == LIMIT
        with gpus_held(context_in(instance), "weights", 4, LIMIT, False):
            assert held(instance) == 8 and held(instance, TURN) == 0
    assert held(instance) == 0


def test_a_job_without_gpus_waited_for_them(instance: DagsterInstance) -> None:
    with gpus_held(context_in(instance), "weights", LIMIT, LIMIT, False), gpus_held(None, "package", 0, 0, False):  # type: ignore[arg-type]
        assert held(instance) == LIMIT


def test_a_job_that_needs_more_than_there_are_waited_for_ever(instance: DagsterInstance) -> None:
    context = context_in(instance)
    with (
        pytest.raises(EnvironmentLacks, match=r"needs 9 GPUs.*8 here.*capacity\.gpu_count"),
        gpus_held(context, "weights", 9, LIMIT, False),
    ):
        pass


def test_a_job_that_failed_or_gave_up_waiting_kept_its_gpus(instance: DagsterInstance) -> None:
    with pytest.raises(KeyboardInterrupt), gpus_held(context_in(instance), "weights", 6, LIMIT, False):
        raise KeyboardInterrupt
    assert held(instance) == 0
    given_up = context_in(instance)

    def told(message: str) -> None:
        raise KeyboardInterrupt  # while it waits

    given_up.log.info = told
    with gpus_held(context_in(instance), "weights", 6, LIMIT, False):
        with pytest.raises(KeyboardInterrupt), gpus_held(given_up, "weights", 4, LIMIT, False):
            pass
        info = instance.event_log_storage.get_concurrency_info(POOL)
        assert info.active_slot_count == 6 and info.pending_step_count == 0 and held(instance, TURN) == 0


def test_a_job_that_went_on_waited_for_gpus_that_it_has(instance: DagsterInstance) -> None:
    """It is counted as soon as others leave, so that no third job is let in beside it."""
    taken_over, third = context_in(instance), list[str]()
    with gpus_held(taken_over, "weights", 6, LIMIT, True):
        assert held(instance) == 6
    before = gpus_held(context_in(instance), "weights", 4, LIMIT, False)
    before.__enter__()
    with gpus_held(taken_over, "weights", 6, LIMIT, True):

        def comes() -> None:
            with gpus_held(context_in(instance), "weights", 4, LIMIT, False):
                third.append("came")

        with in_background(comes):
            time.sleep(0.2)
            before.__exit__(None, None, None)
            time.sleep(0.3)
            assert third == [], "6 and 4 of 8"
            instance.event_log_storage.free_concurrency_slots_for_run(taken_over.run.run_id)
    assert third != [] and held(instance) == 0


def test_a_run_that_was_killed_kept_its_gpus_for_ever(instance: DagsterInstance) -> None:
    killed = context_in(instance)
    holding = gpus_held(killed, "weights", LIMIT, LIMIT, False)
    holding.__enter__()  # and never left
    workspace: Any = SimpleNamespace(instance=instance)
    list(execute_concurrency_slots_iteration(workspace, SimpleNamespace(info=print)))  # type: ignore[arg-type]
    assert held(instance) == LIMIT
    instance.report_run_failed(killed.run)
    time.sleep(1.1)
    list(execute_concurrency_slots_iteration(workspace, SimpleNamespace(info=print)))  # type: ignore[arg-type]
    assert held(instance) == 0


def test_a_smaller_environment_went_on_with_the_larger_limit(instance: DagsterInstance) -> None:
    with gpus_held(context_in(instance), "weights", 8, 8, False):
        pass
    with gpus_held(context_in(instance), "weights", 2, 2, False):
        assert instance.event_log_storage.get_concurrency_info(POOL).slot_count == 2


def test_the_platform_s_own_dagster_never_freed_what_a_killed_run_held(tmp_path: Any) -> None:
    write_dagster_instance(Home(tmp_path, tmp_path, 9100))
    with DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 30
        assert str(instance.event_log_storage.get_pool_config().pool_granularity) == "PoolGranularity.OP"
