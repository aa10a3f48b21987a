"""Jobs that are run on the cluster: known to the test by this file, and to their pods by a ConfigMap that holds it."""

import os
import time

from dagster import In, Nothing, OpExecutionContext, in_process_executor, job, op

from llmops_assets.executor import steps_in_pods

WORKED = "worked in"


@op
def first(context: OpExecutionContext) -> None:
    context.log.info(f"{WORKED} {os.environ['HOSTNAME']}")


@op(ins={"before": In(Nothing)})
def second(context: OpExecutionContext) -> None:
    context.log.info(f"{WORKED} {os.environ['HOSTNAME']}")


@op
def waits() -> None:
    time.sleep(600)


@op
def fails() -> None:
    raise ValueError("on purpose")


@job(executor_def=in_process_executor)
def in_one_pod() -> None:
    second(first())


@job(executor_def=in_process_executor)
def failing() -> None:
    fails()


@job(executor_def=in_process_executor)
def waiting() -> None:
    waits()


@job(executor_def=steps_in_pods())
def in_pods_of_their_own() -> None:
    second(first())


@job(executor_def=steps_in_pods())
def waiting_in_a_pod() -> None:
    waits()
