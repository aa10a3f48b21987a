"""One training loop for pretraining and fine-tuning: packed rows in, a trained model and its loss curve out.

Steps are AdamW with linear warm-up, then a straight line down to zero, and a clipped gradient. (A cosine spends its
last fifth at rates that change nothing: with as many tokens the line ended lower.) Time is saved where it costs no
accuracy: no padding (packing), one static shape, logits only where an answer is learned, fused optimiser, one thread a
core. On one machine the same seed gives the same weights.

A model that guesses uniformly has a loss of ln(vocabulary). One that stays at more than twice that is worse than
knowing nothing and does not come back. A step whose gradient is not finite is not taken. After ten such steps in a row
training stops and says so (`diverged_at_step`). The weights are finite and are handed on: judging them is evaluation's
part.
"""

import math
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from llmops_core.errors import InputError, Problem
from recipes.packing import IGNORED, Batch, Document, batches
from recipes.progress import Progress

DIVERGED_STEPS = 10
FINAL_STEPS = 10


@dataclass(frozen=True)
class Schedule:
    """What one training does. `row_tokens` is the width of a packed row, and so the longest row of data."""

    seed: int
    steps: int
    learning_rate: float
    tokens_per_step: int
    row_tokens: int
    warmup_steps: int
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_norm: float = 1.0

    def rate_at(self, step: int) -> float:
        """Learning rate of a step (from 0)."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup_steps)


@dataclass
class Trained:
    """What happened: losses of all steps taken, non-padding tokens seen and the seconds they took."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    steps_not_taken: int = 0
    diverged_at_step: int | None = None

    def as_report(self, model: nn.Module, seed: int) -> dict[str, object]:
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
        }


def peak_memory_bytes() -> int:
    """The most memory this process has held (macOS counts bytes, Linux KiB)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def prepare_torch(seed: int) -> None:
    """One thread for each core this process may use, the seed set, and tiny numbers flushed to zero (they are slow)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(cores)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)


def answer_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the answers' tokens. Only their hidden states go through the output layer."""
    hidden = model.get_decoder()(
        input_ids=batch.tokens, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
    )[0]
    learned = batch.targets != IGNORED
    logits = cast(nn.Module, model.get_output_embeddings())(hidden[learned])
    return cross_entropy(logits.float(), batch.targets[learned])


def whole_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The same through the model's own forward, for architectures that do more to their logits than one layer."""
    logits = model(
        input_ids=batch.tokens, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
    ).logits
    return cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORED)


def train(
    model: PreTrainedModel, documents: Sequence[Document], schedule: Schedule, pad: int, progress: Progress
) -> Trained:
    """Train the model's trainable weights in place."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(
        weights, lr=schedule.learning_rate, betas=schedule.betas, weight_decay=schedule.weight_decay, fused=True
    )
    stream = batches(documents, schedule.tokens_per_step, schedule.row_tokens, pad, schedule.seed)
    hopeless = 2.0 * math.log(model.config.get_text_config().vocab_size)
    trained, worse, loss_of = Trained(), 0, whole_loss
    model.train()
    started = time.monotonic()
    for step in range(schedule.steps):
        batch = next(stream)
        if step == 0:
            loss_of = _quickest_loss(model, batch)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        loss = loss_of(model, batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights, schedule.gradient_norm)
        taken = bool(torch.isfinite(norm))
        if taken:
            optimiser.step()
        else:
            trained.steps_not_taken += 1
        optimiser.zero_grad(set_to_none=True)
        trained.losses.append(float(loss.detach()))
        trained.tokens += batch.token_count
        progress.report(step + 1, schedule.steps, loss=trained.losses[-1])
        worse = 0 if taken and trained.losses[-1] <= hopeless else worse + 1
        if worse == DIVERGED_STEPS:
            trained.diverged_at_step = step + 1
            break
    trained.seconds = time.monotonic() - started
    model.eval()
    return trained


def _quickest_loss(model: PreTrainedModel, batch: Batch) -> Callable[[PreTrainedModel, Batch], torch.Tensor]:
    """The quick loss if it is the same as the model's own on this batch, else the whole one."""
    with torch.no_grad():
        if model.get_output_embeddings() is None:
            return whole_loss
        same = torch.allclose(answer_loss(model, batch), whole_loss(model, batch), rtol=1e-4, atol=1e-5)
    return answer_loss if same else whole_loss
