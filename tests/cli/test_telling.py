"""What a person sees of a run: each stage with its place, no long silence, and of the checks only what is wrong."""

from llmops_assets.cli.dagster_client import Event
from llmops_assets.cli.telling import QUIET_SECONDS, Telling


class Heard:
    def __init__(self, **usual_seconds: float) -> None:
        self.now = 100.0
        self.lines: list[str] = []
        self.telling = Telling(self.lines.append, usual_seconds, clock=lambda: self.now)

    def event(self, kind: str, step: str, message: str = "", seconds: float = 0.0) -> None:
        self.telling.event(Event(kind, step, message, seconds))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.telling.wait()


def test_nobody_knew_how_many_steps_there_are_or_how_long_they_take() -> None:
    heard = Heard(weights=84.6)
    heard.event("ExecutionStepStartEvent", "weights", seconds=10)
    heard.event("ExecutionStepSuccessEvent", "weights", seconds=12.5)
    heard.event("ExecutionStepStartEvent", "evaluation", seconds=13)
    assert heard.lines == [
        "weights … (step 3 of 10, 85 s last time)",
        "weights done after 2.5 s",
        "evaluation … (step 4 of 10)",
    ]
    assert heard.telling.step_seconds == {"weights": 2.5}


def test_a_step_that_says_nothing_looked_as_if_it_hung() -> None:
    heard = Heard()
    heard.event("ExecutionStepStartEvent", "base_weights")
    heard.wait(QUIET_SECONDS - 1)
    assert len(heard.lines) == 1
    heard.wait(1)
    heard.wait(1)
    assert heard.lines[1:] == ["  base_weights: at work for 5 s"]
    heard.event("LogMessageEvent", "base_weights", "step 1 of 400")
    heard.wait(QUIET_SECONDS - 1)
    assert heard.lines[2:] == ["  base_weights: step 1 of 400"]
    heard.event("ExecutionStepFailureEvent", "base_weights")
    heard.wait(60)
    assert heard.lines[3:] == ["base_weights FAILED after 0.0 s"]


def test_every_check_took_a_line_or_a_failed_one_took_none() -> None:
    heard = Heard()
    for kind in ("ExecutionStepStartEvent", "ExecutionStepSuccessEvent"):
        heard.event(kind, "dataset_intact")
    heard.event("AssetCheckEvaluationEvent", "dataset_intact", "Asset check 'intact' on 'dataset' passed.")
    wrong = "Asset check 'unanimous' on 'dataset' did not pass. Description: '1 prompt'"
    heard.event("AssetCheckEvaluationEvent", "dataset_unanimous", wrong)
    assert heard.lines == [f"  {wrong}"] and not heard.telling.step_seconds
