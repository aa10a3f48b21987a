"""How many GPUs jobs hold at once: slots of Dagster's concurrency pool `gpus`, one for each GPU of the environment.

Dagster counts a step as one slot of its pool, whatever the step needs, and for as long as it lasts. So steps have no
pool, but jobs take slots: as many as they need GPUs, while they run, under names of their own. The pool is the one that
Dagster's page of pools shows; what a run held that died is freed by Dagster's daemon.

Slots are taken one after the other. Of two jobs with half of what they need, each would wait for the other for ever:
so only one job may be taking (the pool `gpus-turn`, of one slot). It is the one that came first, and those behind it
wait even if they need less: else a job for all GPUs would wait for ever behind small ones.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext, DagsterInstance
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

from llmops_core.errors import EnvironmentLacks

POOL, TURN = "gpus", "gpus-turn"
POLL_SECONDS = 0.5


@contextmanager
def gpus_held(context: AssetExecutionContext, step: str, count: int, limit: int, goes: bool) -> Iterator[None]:
    """Waits until `count` of the `limit` GPUs are free and holds them inside the block.

    A job that `goes` has them already, from a run that died perhaps: nothing is waited for, and what is free is taken
    as it becomes free. Raises EnvironmentLacks for more than there are.
    """
    if not count:
        yield
        return
    if count > limit:
        raise EnvironmentLacks(f"{step} needs {count} GPUs, and jobs may have {limit} here (capacity.gpu_count)")
    _limit_to(context.instance, limit)
    names = [f"{step}: GPU {number} of {count}" for number in range(1, count + 1)]
    with InstanceConcurrencyContext(context.instance, context.run) as slots:
        try:
            if goes:
                for name in names:
                    slots.claim(POOL, name)
            else:
                _take(context, slots, step, names)
            yield
        finally:
            for name in names:
                slots.free_step(name)


def _take(context: AssetExecutionContext, slots: InstanceConcurrencyContext, step: str, names: list[str]) -> None:
    """All of them, in this job's turn."""
    turn = f"{step}: takes GPUs"
    try:
        waiting = [(TURN, turn), *((POOL, name) for name in names)]
        told = False
        for pool, name in waiting:
            while not slots.claim(pool, name):
                if not told:
                    context.log.info(f"{step} waits for {len(names)} GPUs: see the pool {POOL}")
                    told = True
                time.sleep(POLL_SECONDS)
    finally:
        slots.free_step(turn)


def _limit_to(instance: DagsterInstance, limit: int) -> None:
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    now = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    for pool, wanted in ((POOL, limit), (TURN, 1)):
        if now.get(pool) != wanted:
            storage.set_concurrency_slots(pool, wanted)
