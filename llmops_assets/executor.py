"""Where the steps of a run work: in the run's own process, or each in a Kubernetes Job of its own.

Dagster's `k8s_job_executor` gives a step the image, namespace, account, variables and volumes of its run (those of
K8sRunLauncher and the code location). What is added here: the Jobs of the steps belong to the run's pod. A run whose
worker died is started again, and takes its jobs on GPUs over; steps of the dead one must not go on beside it.
"""

from typing import Any

from dagster import ExecutorDefinition, in_process_executor

from llmops_core.settings import Settings


def executor_of(settings: Settings | None) -> ExecutorDefinition:
    """What the settings say; in the run itself where there are none to read."""
    if settings is None or settings.executor == "in_process":
        return in_process_executor
    return steps_in_pods()


def steps_in_pods() -> ExecutorDefinition:
    """Dagster's own, and all that a run's configuration may change about it."""
    from dagster_k8s import k8s_job_executor

    def owned(given: dict[str, Any]) -> dict[str, Any]:
        return {**given, "enable_owner_references": True}

    return k8s_job_executor.configured(owned, name="k8s_job", config_schema=k8s_job_executor.config_schema.config_type)
