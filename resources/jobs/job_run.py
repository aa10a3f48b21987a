"""The run that waits for a job, as a door to jobs knows it: where it shows things, and whether it is cancelled."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from dagster import AssetExecutionContext, DagsterEvent, DagsterEventType, DagsterRunStatus, MetadataValue
from dagster._core.events import EngineEventData
from dagster._core.pipes.context import build_external_execution_context_data

HEARD = "llmops/heard"


class WaitingRun(ABC):
    @property
    @abstractmethod
    def id(self) -> str:
        """Of the run; the same when a step of it is tried again."""

    @abstractmethod
    def show(self, message: str, figures: Mapping[str, Any] | None = None, heard: tuple[Any, ...] = ()) -> None:
        """One event of the run, written once or not at all. `heard` is remembered with it."""

    @abstractmethod
    def heard(self) -> Iterator[tuple[Any, ...]]:
        """What earlier steps of this run remembered, in its order."""

    @abstractmethod
    def is_cancelled(self) -> bool:
        """Whether somebody asked for the run's end; a worker that is asked to end is not a run that is cancelled."""

    @abstractmethod
    def is_over(self) -> bool:
        """Whether it has ended or somebody asked for that: what is begun for it now is for nobody."""

    @abstractmethod
    def pipes_context(self) -> Any:
        """What Dagster Pipes tells a program of the run."""


class DagsterWaitingRun(WaitingRun):
    def __init__(self, context: AssetExecutionContext) -> None:
        self._context = context

    @property
    def id(self) -> str:
        return self._context.run.run_id

    def show(self, message: str, figures: Mapping[str, Any] | None = None, heard: tuple[Any, ...] = ()) -> None:
        metadata = {name: MetadataValue.text(str(value)) for name, value in (figures or {}).items()}
        if heard:
            metadata[HEARD] = MetadataValue.text(json.dumps(heard))
        told = EngineEventData(metadata=metadata)
        DagsterEvent.engine_event(self._context.get_step_execution_context(), message, told)

    def heard(self) -> Iterator[tuple[Any, ...]]:
        for entry in self._context.instance.all_logs(self.id, of_type=DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            value = event.engine_event_data.metadata.get(HEARD) if event is not None else None
            if value is not None:
                yield tuple(json.loads(str(value.value)))

    def is_cancelled(self) -> bool:
        run = self._context.instance.get_run_by_id(self.id)
        return run is None or run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)

    def is_over(self) -> bool:
        run = self._context.instance.get_run_by_id(self.id)
        return run is None or run.is_finished or run.status is DagsterRunStatus.CANCELING

    def pipes_context(self) -> Any:
        return build_external_execution_context_data(self._context, None)
