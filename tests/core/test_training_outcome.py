"""A training whose loss did not fall, or about which nothing is told, has not learnt."""

import math

import pytest

from llmops_core.training_outcome import judge_training
from llmops_core.verdict import Verdict

SOUND = {"loss_curve": [[1, 4.0], [2, 1.0]], "final_loss": 1.1, "diverged_at_step": None}


def test_a_falling_loss_was_not_accepted() -> None:
    assert judge_training(SOUND).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"final_loss": 4.0}, Verdict.FAILED),
        ({"final_loss": 9.0}, Verdict.FAILED),
        ({"diverged_at_step": 12}, Verdict.FAILED),
        ({"final_loss": math.nan}, Verdict.ERROR),
        ({"final_loss": math.inf}, Verdict.ERROR),
        ({"final_loss": None}, Verdict.ERROR),
        ({"final_loss": True}, Verdict.ERROR),
        ({"loss_curve": [[1, math.nan]]}, Verdict.ERROR),
        ({"loss_curve": []}, Verdict.ERROR),
    ],
)
def test_a_training_that_taught_nothing_passed(change: dict[str, object], verdict: Verdict) -> None:
    assert judge_training({**SOUND, **change}).verdict is verdict


def test_a_report_without_losses_passed() -> None:
    assert judge_training({}).verdict is Verdict.ERROR
