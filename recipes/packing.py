"""Many short rows in a few full ones: no step spends time on padding, and every step has the same shape.

A question and its answer are about fifteen tokens. Padding each to the longest wastes a third of the work; instead
several are laid end to end in rows of `width` tokens. What must not change is the result: each document keeps its own
positions from zero and sees only itself (a block-diagonal causal mask), so the loss equals that of padded rows.

Only the answer is learned: `targets` is the next token where that belongs to an answer, IGNORED elsewhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

IGNORED = -100


@dataclass(frozen=True)
class Document:
    """The tokens of one row; the first `prompt_tokens` of them are given, the others are to be learned."""

    tokens: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class Batch:
    """One step. Shapes: tokens, positions, targets (rows, width); mask (rows, 1, width, width), True where seen."""

    tokens: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor
    token_count: int
    document_count: int


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
    same = owner[:, :, None] == owner[:, None, :]
    causal = np.tri(width, dtype=bool)
    mask = torch.from_numpy((same & causal)[:, None])
    count = int((owner >= 0).sum())
    taken = sum(len(documents) for documents in filled)
    return Batch(torch.from_numpy(tokens), torch.from_numpy(positions), torch.from_numpy(targets), mask, count, taken)


def batches(
    documents: Sequence[Document], tokens_per_step: int, width: int, pad: int, seed: int, taken: int = 0
) -> Iterator[Batch]:
    """Batches without end: every document once, in a random order, then all again in another one.

    With `taken`, the number of documents in the batches before, they go on from there: the order of documents does not
    depend on how many are drawn at a time.
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
        yield pack(filled, width, pad)
