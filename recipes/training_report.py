"""What a training did, in figures."""

import math
import resource
import sys
from dataclasses import dataclass, field

import torch
from torch import nn

from llmops_core.errors import InputError, Problem
from recipes.checkpoints import Checkpoints
from recipes.devices import gpu_report
from recipes.ranks import ALONE, Ranks

FINAL_STEPS = 10


@dataclass
class Trained:
    """What happened: losses of all steps taken, non-padding tokens seen and the seconds they took.

    Of a training that was interrupted and went on, these are the figures of the whole; steps that were lost with a
    machine and done again count once.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    steps_not_taken: int = 0
    diverged_at_step: int | None = None

    def as_report(
        self, model: nn.Module, seed: int, checkpoints: Checkpoints | None = None, ranks: Ranks = ALONE
    ) -> dict[str, object]:
        """The figures for report.json."""
        every = max(1, len(self.losses) // 200)
        curve = [(step + 1, round(loss, 5)) for step, loss in enumerate(self.losses) if math.isfinite(loss)]
        if not curve:
            message = "training diverged in its first step; lower it"
            raise InputError(Problem("model.yaml", "learning_rate", "no finite loss", "a rate that trains", message))
        shown = [point for point in curve if point[0] % every == 0 or point in (curve[0], curve[-1])]
        last = [loss for _, loss in curve[-FINAL_STEPS:]]
        return {
            "loss_curve": shown,
            "final_loss": round(sum(last) / len(last), 5),
            "steps": len(self.losses),
            "steps_not_taken": self.steps_not_taken,
            "diverged_at_step": self.diverged_at_step,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens / self.seconds, 1),
            "parameters": sum(each.numel() for each in model.parameters()),
            "trainable_parameters": sum(each.numel() for each in model.parameters() if each.requires_grad),
            "seed": seed,
            "threads": torch.get_num_threads(),
            "peak_memory_bytes": peak_memory_bytes(),
            **gpu_report(model, self.tokens / self.seconds, ranks.world),
            **({"checkpoints": checkpoints.as_report()} if checkpoints else {}),
        }


def peak_memory_bytes() -> int:
    """The most memory this process has held (macOS counts bytes, Linux KiB)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
