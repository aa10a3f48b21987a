"""Whether a training learnt anything, as far as its own report tells. Whether the model is good, evaluation judges."""

import math
from collections.abc import Mapping
from typing import Any

from llmops_core.verdict import Finding, Verdict

NAME = "learnt"


def judge_training(report: Mapping[str, Any]) -> Finding:
    """PASSED when the loss at the end, a mean of the last steps, is finite and lower than that of the first step.

    `report` is the recipe's report.json: `loss_curve` as (step, loss), `final_loss`, `diverged_at_step`.
    """
    curve, final = report.get("loss_curve"), report.get("final_loss")
    if not curve or not isinstance(final, (int, float)) or isinstance(final, bool):
        return Finding(NAME, Verdict.ERROR, "the report tells no loss")
    first = float(curve[0][1])
    if report.get("diverged_at_step") is not None:
        return Finding(NAME, Verdict.FAILED, f"diverged at step {report['diverged_at_step']}", final, first)
    if not (math.isfinite(final) and math.isfinite(first)):
        return Finding(NAME, Verdict.ERROR, f"the loss went from {first:g} to {final:g}")
    verdict = Verdict.PASSED if final < first else Verdict.FAILED
    return Finding(NAME, verdict, f"the loss went from {first:.3g} to {final:.3g}", final, first)
