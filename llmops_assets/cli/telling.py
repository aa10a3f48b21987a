"""A run's events as lines for people: which step of how many, how far, how long still, and never a long silence."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llmops_assets.cli.dagster_client import Event
from llmops_core.plan import STAGES

QUIET_SECONDS = 5.0

Say = Callable[[str], None]


@dataclass
class Telling:
    """`usual_seconds` are what each stage took when it was made last; `step_seconds` what each takes in this run."""

    say: Say
    usual_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    clock: Callable[[], float] = time.monotonic
    step_seconds: dict[str, float] = field(default_factory=dict[str, float])
    _begun: dict[str, float] = field(default_factory=dict[str, float])
    _running: str = ""
    _running_since: float = 0.0
    _said_at: float = 0.0

    def event(self, event: Event) -> None:
        """Says what there is to say of an event. Of checks, which are steps too, only what did not pass."""
        stage = event.step in STAGES
        if event.kind == "ExecutionStepStartEvent" and stage:
            self._begin(event)
        elif event.kind in ("ExecutionStepSuccessEvent", "ExecutionStepFailureEvent") and stage:
            self._end(event)
        elif event.kind == "AssetCheckEvaluationEvent" and "did not pass" in event.message:
            self._tell(f"  {event.message}")
        elif event.kind == "LogMessageEvent" and not event.message.startswith("[pipes]"):
            self._tell(f"  {event.step}: {event.message}")

    def wait(self) -> None:
        """Called while nothing happens: names the step that is at work once it has been silent for a while."""
        if self._running and self.clock() - self._said_at >= QUIET_SECONDS:
            self._tell(f"  {self._running}: at work for {self.clock() - self._running_since:.0f} s")

    def _begin(self, event: Event) -> None:
        self._begun[event.step] = event.seconds
        self._running, self._running_since = event.step, self.clock()
        usual = self.usual_seconds.get(event.step)
        last_time = f", {usual:.0f} s last time" if usual else ""
        self._tell(f"{event.step} … (step {STAGES.index(event.step) + 1} of {len(STAGES)}{last_time})")

    def _end(self, event: Event) -> None:
        self._running = ""
        seconds = event.seconds - self._begun.get(event.step, event.seconds)
        self.step_seconds[event.step] = seconds
        ended = "done" if event.kind == "ExecutionStepSuccessEvent" else "FAILED"
        self._tell(f"{event.step} {ended} after {seconds:.1f} s")

    def _tell(self, line: str) -> None:
        self._said_at = self.clock()
        self.say(line)
