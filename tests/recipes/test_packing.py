"""Packed rows must give what padded rows give: the same loss, and no document that sees another."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.process import be_a_good_neighbour

be_a_good_neighbour()

import torch  # noqa: E402

from recipes.packing import IGNORED, Document, batches, fill_rows, pack  # noqa: E402
from recipes.training_loop import answer_loss, whole_loss  # noqa: E402

documents_strategy = st.lists(
    st.lists(st.integers(3, 99), min_size=2, max_size=16).flatmap(
        lambda tokens: st.integers(1, len(tokens) - 1).map(lambda given: Document(tuple(tokens), given))
    ),
    min_size=1,
    max_size=30,
)


@pytest.fixture(scope="module")
def model(tiny_llama: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_llama)


DOCUMENTS = [Document(tuple(range(5, 5 + length)), 1 + length // 3) for length in (9, 4, 12, 7, 7, 15, 3)]


def test_packed_loss_is_the_padded_loss(model) -> None:
    packed = pack(fill_rows(DOCUMENTS, range(len(DOCUMENTS)), 3, 32), 32, 0)
    padded = pack([[document] for document in DOCUMENTS], 16, 0)
    assert packed.tokens.shape == (3, 32) and packed.token_count == padded.token_count
    with torch.no_grad():
        assert torch.allclose(answer_loss(model, packed), answer_loss(model, padded), atol=1e-5)
        assert torch.allclose(answer_loss(model, packed), whole_loss(model, packed), atol=1e-5)


def test_packed_loss_is_what_the_model_says_of_each_document_alone(model) -> None:
    packed = pack([DOCUMENTS[:2]], 32, 0)
    total, count = 0.0, 0
    with torch.no_grad():
        for document in DOCUMENTS[:2]:
            labels = torch.tensor(
                [[IGNORED] * document.prompt_tokens + list(document.tokens[document.prompt_tokens :])]
            )
            learned = len(document.tokens) - document.prompt_tokens
            total += float(model(torch.tensor([document.tokens]), labels=labels).loss) * learned
            count += learned
        assert float(answer_loss(model, packed)) == pytest.approx(total / count, abs=1e-5)


def test_a_document_does_not_see_its_neighbour(model) -> None:
    other = Document(tuple(range(60, 72)), 3)
    losses = []
    for neighbour in (DOCUMENTS[0], other):
        batch = pack([[neighbour, DOCUMENTS[2]]], 32, 0)
        batch.targets[0, : len(neighbour.tokens)] = IGNORED
        with torch.no_grad():
            losses.append(float(answer_loss(model, batch)))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@given(documents=documents_strategy, rows=st.integers(1, 4))
def test_documents_are_taken_in_order_whole_and_as_many_as_fit(documents: list[Document], rows: int) -> None:
    filled = fill_rows(documents, range(len(documents)), rows, 16)
    taken = [document for row in filled for document in row]
    assert sorted(map(id, taken)) == sorted(map(id, documents[: len(taken)]))
    lengths = [sum(len(document.tokens) for document in row) for row in filled]
    assert max(lengths) <= 16
    assert len(taken) == len(documents) or min(lengths) + len(documents[len(taken)].tokens) > 16


@given(documents=documents_strategy)
def test_a_batch_holds_each_document_with_its_own_positions_and_only_its_answer_to_learn(
    documents: list[Document],
) -> None:
    filled = fill_rows(documents, range(len(documents)), 2, 32)
    batch = pack(filled, 32, 0)
    assert bool(batch.mask.any(-1).all())  # a position that sees nothing would be NaN
    for row, placed in enumerate(filled):
        start = 0
        for document in placed:
            end = start + len(document.tokens)
            assert tuple(batch.tokens[row, start:end].tolist()) == document.tokens
            assert batch.positions[row, start:end].tolist() == list(range(end - start))
            assert batch.mask[row, 0, end - 1].nonzero().flatten().tolist() == list(range(start, end))
            learned = [target for target in batch.targets[row, start:end].tolist() if target != IGNORED]
            assert tuple(learned) == document.tokens[document.prompt_tokens :]
            start = end


def test_every_document_comes_once_a_round() -> None:
    stream, counts = batches(DOCUMENTS, 64, 16, 0, 1), dict.fromkeys((len(each.tokens) for each in DOCUMENTS), 0)
    seen = 0
    while seen < 20 * len(DOCUMENTS):
        batch = next(stream)
        ends = (batch.mask[:, 0].sum(-1) - 1 == batch.positions) & (batch.tokens != 0)
        ends &= torch.nn.functional.pad(batch.positions, (0, 1))[:, 1:] == 0
        for length in (batch.positions[ends] + 1).tolist():
            counts[length] += 1
            seen += 1
    assert abs(counts[9] - counts[12]) <= 2 and abs(counts[7] - 2 * counts[9]) <= 4


def test_same_seed_same_batches_other_seed_others() -> None:
    first, again, other = (next(batches(DOCUMENTS, 64, 16, 0, seed)) for seed in (1, 1, 2))
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.tokens, other.tokens)


@given(documents=documents_strategy, rows=st.integers(1, 4), steps=st.integers(0, 12))
def test_going_on_gave_other_batches_than_never_having_stopped(
    documents: list[Document], rows: int, steps: int
) -> None:
    stream, taken = batches(documents, 16 * rows, 16, 0, 1), 0
    for _ in range(steps):
        taken += next(stream).document_count
    again = batches(documents, 16 * rows, 16, 0, 1, taken)
    for _ in range(3):
        assert torch.equal(next(stream).tokens, next(again).tokens)
