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
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from llmops_core.errors import InputError, Problem
from recipes.checkpoints import Checkpoints, asked_to_stop, stopped
from recipes.devices import computing, give_up_order, halves
from recipes.packing import IGNORED, Batch, Document, batches
from recipes.progress import Progress
from recipes.ranks import ALONE, Ranks
from recipes.training_report import Trained
from recipes.training_state import Underway

DIVERGED_STEPS = 10


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


def draw_anew(seed: int, step: int, rank: int) -> None:
    """The random numbers of a step (dropout's) follow from where it stands, not from what was drawn before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]))


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
    model: PreTrainedModel,
    documents: Sequence[Document],
    schedule: Schedule,
    pad: int,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train the model's trainable weights in place, where they are, from the last checkpoint on if there is one.

    Raises Interrupted when SIGTERM arrives and there are checkpoints: the last one is then of the last step. Raises
    InputError when a step has fewer rows than there are processes.
    """
    refuse_idle_processes(schedule, ranks)
    under_way = _begun(model, schedule)
    ranks.share(under_way.weights.values())
    if checkpoints is not None and (state := ranks.share_state(checkpoints.newest())) is not None:
        under_way.restore(state)
        checkpoints.resumed_at = under_way.resumed_at
    trained, before = under_way.trained, under_way.trained.seconds
    sizes = (schedule.tokens_per_step, schedule.row_tokens, pad, schedule.seed)
    stream = batches(documents, *sizes, under_way.documents, ranks.rank, ranks.world)
    model.train()
    started = time.monotonic()
    with asked_to_stop() if checkpoints else nullcontext() as asked:
        while len(trained.losses) < schedule.steps and trained.diverged_at_step is None:
            stop = _take_step(model, under_way, next(stream), schedule, ranks, asked)
            trained.seconds = before + time.monotonic() - started
            progress.report(len(trained.losses), schedule.steps, loss=trained.losses[-1])
            if checkpoints is not None and (stop or checkpoints.due()):
                checkpoints.save(under_way.capture)
            if checkpoints is not None and stop:
                checkpoints.end()
                raise stopped(len(trained.losses), schedule.steps)
    if checkpoints is not None:
        checkpoints.end()
    model.eval()
    return trained


def refuse_idle_processes(schedule: Schedule, ranks: Ranks) -> None:
    """Raises InputError when a step has fewer rows than there are processes: some would have nothing to do."""
    rows = max(1, schedule.tokens_per_step // schedule.row_tokens)
    if rows < ranks.world:
        message = "a step has fewer rows than there are GPUs; raise it, lower row_tokens or take fewer GPUs"
        expected = f"{ranks.world * schedule.row_tokens} or more"
        found = f"{schedule.tokens_per_step}, {rows} rows for {ranks.world} processes"
        raise InputError(Problem("model.yaml", "tokens_per_step", found, expected, message))


def _begun(model: PreTrainedModel, schedule: Schedule) -> Underway:
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.AdamW(
        weights.values(), schedule.learning_rate, schedule.betas, weight_decay=schedule.weight_decay, fused=True
    )
    return Underway(weights, optimiser)


def _take_step(
    model: PreTrainedModel,
    under_way: Underway,
    batch: Batch,
    schedule: Schedule,
    ranks: Ranks,
    asked: threading.Event | None,
) -> bool:
    """One step of all processes; whether one of them has been asked to stop."""
    trained, optimiser, step = under_way.trained, under_way.optimiser, len(under_way.trained.losses)
    batch = batch.to(model.device)
    draw_anew(schedule.seed, step, ranks.rank)
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate_at(step)
    part = _gradients(model, under_way, batch)
    loss, stop = _added_up(part, under_way, ranks, asked is not None and asked.is_set())
    norm = nn.utils.clip_grad_norm_(under_way.weights.values(), schedule.gradient_norm)
    taken = bool(torch.isfinite(norm))
    if taken:
        optimiser.step()
    else:
        trained.steps_not_taken += 1
    optimiser.zero_grad(set_to_none=True)
    trained.losses.append(loss)
    trained.tokens += batch.token_count
    under_way.documents += batch.document_count
    hopeless = 2.0 * math.log(model.config.get_text_config().vocab_size)
    under_way.worse = 0 if taken and loss <= hopeless else under_way.worse + 1
    if under_way.worse == DIVERGED_STEPS:
        trained.diverged_at_step = len(trained.losses)
    return stop


def _gradients(model: PreTrainedModel, under_way: Underway, batch: Batch) -> torch.Tensor:
    """Gradients of this process's part of the step's mean loss; that part."""
    while True:
        fits = True
        try:
            if under_way.quick is None:
                under_way.quick = _quick_is_right(model, batch)
            parts = [_backward(model, under_way.quick, part) for part in batch.parts(under_way.passes)]
            return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
        except torch.OutOfMemoryError:
            fits = False  # and no more here: as long as the exception is held, so is what it stopped
        except RuntimeError as error:
            if not give_up_order(error):
                raise
        under_way.optimiser.zero_grad(set_to_none=True)
        if not fits:
            under_way.passes = _more_passes(under_way.passes, len(batch.tokens))


def _backward(model: PreTrainedModel, quick: bool, batch: Batch) -> torch.Tensor:
    with computing(model.device):
        loss = (answer_loss if quick else whole_loss)(model, batch)
    part = loss if batch.learned_share == 1.0 else loss * batch.learned_share
    part.backward()
    return part.detach()


def _more_passes(passes: int, rows: int) -> int:
    """A step that does not fit into the GPU's memory is computed in twice as many parts. Raises InputError when each
    part is one row already."""
    if passes >= rows:
        message = "one row does not fit into the memory of the GPU; lower it, or ask for a larger one"
        raise InputError(Problem("model.yaml", "row_tokens", "out of memory", "rows that fit", message))
    torch.cuda.empty_cache()
    print(f"out of memory: each step is computed in {min(2 * passes, rows)} parts", file=sys.stderr, flush=True)
    return min(2 * passes, rows)


def _added_up(part: torch.Tensor, under_way: Underway, ranks: Ranks, stop: bool) -> tuple[float, bool]:
    """Gradients of the whole step; its loss, and whether any process shall stop."""
    if ranks.world == 1:
        return float(part), stop
    said = torch.stack([part.double(), torch.tensor(float(stop), dtype=torch.float64, device=part.device)])
    ranks.add_up(weight.grad for weight in under_way.weights.values() if weight.grad is not None)
    ranks.add_up([said])
    whole, stops = said.tolist()
    return whole, stops > 0


def _quick_is_right(model: PreTrainedModel, batch: Batch) -> bool:
    """Whether one layer makes the model's logits of its hidden states: seen on the batch's first row."""
    if (last := model.get_output_embeddings()) is None:
        return False
    given = {"input_ids": batch.tokens[:1], "position_ids": batch.positions[:1], "attention_mask": batch.mask[:1]}
    with torch.no_grad(), computing(model.device):
        quick = last(model.get_decoder()(**given, use_cache=False)[0]).float()
        whole = model(**given, use_cache=False).logits.float()
    tolerance = 1e-2 if halves(model.device) else 1e-4
    return bool((quick - whole).norm() <= tolerance * whole.norm())
