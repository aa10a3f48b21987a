"""Many short rows in a few full ones: no step spends time on padding, and every step has the same shape.

A question and its answer are about fifteen tokens. Padding each to the longest wastes a third of the work; instead
several are laid end to end in rows of `width` tokens. What must not change is the result: each document keeps its own
positions from zero and sees only itself (a block-diagonal causal mask), so the loss equals that of padded rows.

Only the answer is learned: `targets` is the next token where that belongs to an answer, IGNORED elsewhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

IGNORED = -100
TENSORS = ("tokens", "positions", "targets", "owners")


@dataclass(frozen=True)
class Document:
    """The tokens of one row; the first `prompt_tokens` of them are given, the others are to be learned."""

    tokens: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class Batch:
    """One step, or one process's part of it. Shape of all four: (rows, width).

    `owners` numbers each row's documents, -1 is padding. `token_count` and `document_count` are those of the whole
    step, `learned_share` is the share of its learned tokens that this part has.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    token_count: int
    document_count: int
    learned_share: float = 1.0

    @property
    def mask(self) -> torch.Tensor:
        """(rows, 1, width, width), True where a token sees another: its own document's, up to itself."""
        width = self.owners.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self.owners.device).tril()
        return ((self.owners[:, :, None] == self.owners[:, None, :]) & causal)[:, None]

    def parts(self, number: int) -> "list[Batch]":
        """The same in so many parts, each with its share; one is the batch itself."""
        if number == 1:
            return [self]
        learned = (self.targets != IGNORED).sum(1)
        parts: list[Batch] = []
        for first in range(number):
            tensors = {name: getattr(self, name)[first::number] for name in TENSORS}
            share = float(learned[first::number].sum() / learned.sum())
            parts.append(replace(self, **tensors, learned_share=self.learned_share * share))
        return parts

    def to(self, device: torch.device) -> "Batch":
        moved = {name: getattr(self, name).to(device) for name in TENSORS}
        return replace(self, **moved)


def fill_rows(documents: Sequence[Document], order: Sequence[int], rows: int, width: int) -> list[list[Document]]:
    """Documents, taken in `order`, laid into `rows` rows of at most `width` tokens until one fits in no row.

    First fit in the given order. Returns the rows; the number of documents taken is the sum of their lengths.
    """
    filled: list[list[Document]] = [[] for _ in range(rows)]
    free = [width] * rows
    for index in order:
        document = documents[index]
        row = next((row for row in range(rows) if free[row] >= len(document.tokens)), None)
        if row is None:
            break
        filled[row].append(document)
        free[row] -= len(document.tokens)
    return filled


def pack(filled: Sequence[Sequence[Document]], width: int, pad: int) -> Batch:
    """Tensors of a batch from its rows of documents."""
    shape = (len(filled), width)
    tokens, positions = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    targets, owner = np.full(shape, IGNORED, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    for row, documents in enumerate(filled):
        start = 0
        for number, document in enumerate(documents):
            end = start + len(document.tokens)
            tokens[row, start:end] = document.tokens
            positions[row, start:end] = np.arange(end - start)
            owner[row, start:end] = number
            first = max(document.prompt_tokens, 1)
            targets[row, start + first - 1 : end - 1] = document.tokens[first:]
            start = end
    count, taken = int((owner >= 0).sum()), sum(len(documents) for documents in filled)
    first, second, third, fourth = map(torch.from_numpy, (tokens, positions, targets, owner))
    return Batch(first, second, third, fourth, count, taken)


def part_of(filled: Sequence[Sequence[Document]], width: int, pad: int, rank: int, world: int) -> Batch:
    """The part of a step that process `rank` of `world` computes: every `world`-th row."""
    part = pack(filled[rank::world], width, pad)
    if world == 1:
        return part
    learned = [sum(len(each.tokens) - max(each.prompt_tokens, 1) for each in row) for row in filled]
    return replace(
        part,
        token_count=sum(len(each.tokens) for row in filled for each in row),
        document_count=sum(len(row) for row in filled),
        learned_share=sum(learned[rank::world]) / sum(learned),
    )


def batches(
    documents: Sequence[Document],
    tokens_per_step: int,
    width: int,
    pad: int,
    seed: int,
    taken: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Batches without end: every document once, in a random order, then all again in another one.

    With `taken`, the number of documents in the batches before, they go on from there: the order of documents does not
    depend on how many are drawn at a time. Process `rank` of `world` gets its part of each.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, tokens_per_step // width)
    rounds, begun = divmod(taken, len(documents))
    for _ in range(rounds):
        generator.permutation(len(documents))
    queue: list[int] = generator.permutation(len(documents)).tolist()[begun:]
    while True:
        if len(queue) < rows * width:  # more than one batch can hold, as a document has a token at least
            queue.extend(generator.permutation(len(documents)).tolist())
            continue
        filled = fill_rows(documents, queue, rows, width)
        del queue[: sum(len(row) for row in filled)]
        yield part_of(filled, width, pad, rank, world)
