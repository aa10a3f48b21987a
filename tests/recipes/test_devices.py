"""What a GPU changes, as far as a processor can tell: the arithmetic of figures, and the path in half-sized numbers."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from llmops_core.errors import InputError
from llmops_core.training_spec import Lora
from recipes.process import be_a_good_neighbour

be_a_good_neighbour()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel  # noqa: E402

from recipes import devices, training_loop  # noqa: E402
from recipes.finetune import merged, with_adapters  # noqa: E402
from recipes.low_rank import fuse_adapters  # noqa: E402
from recipes.packing import Batch, Document  # noqa: E402
from recipes.progress import Progress, Silent  # noqa: E402
from recipes.training_loop import Schedule, train  # noqa: E402

DOCUMENTS = [Document(tuple(range(5 + n, 14 + 2 * n)), 2 + n % 3) for n in range(11)]
PROCESSOR = torch.device("cpu")


class Gpu:
    """A device whose name and memory a test chooses; nothing is computed on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, free_gb: float = 0.0) -> None:
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (int(free_gb * 1e9), int(80e9)))
        monkeypatch.setattr(LlamaForCausalLM, "device", torch.device("cuda", 0))


def sizes(**changes: object) -> LlamaConfig:
    given = {"vocab_size": 100, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2}
    return LlamaConfig(**{**given, "num_attention_heads": 2, "tie_word_embeddings": False, **changes})


def test_operations_were_counted_for_weights_that_multiply_nothing() -> None:
    model = LlamaForCausalLM(sizes())
    layers = 2 * (4 * 16 * 16 + 3 * 16 * 40 + 2 * 16) + 16
    multiplied = layers + 100 * 16  # the output layer; the table of the same size in front is only looked up
    assert devices.flops_per_token(model) == 6 * multiplied + 2 * 100 * 16
    for weight in model.parameters():
        weight.requires_grad_(False)
    assert devices.flops_per_token(model) == 4 * multiplied
    tied = LlamaForCausalLM(sizes(tie_word_embeddings=True))
    assert devices.flops_per_token(tied) == 6 * multiplied


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989e12),
     ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA A10G", 70e12), ("NVIDIA L40S", 362e12), ("Tesla V100", None)],
)  # fmt: skip
def test_a_peak_is_that_of_the_device_or_none(monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None) -> None:
    Gpu(monkeypatch, name)
    assert devices.peak_flops(torch.device("cuda", 0)) == peak


def test_on_a_processor_no_figure_of_a_gpu_is_made_up() -> None:
    model = LlamaForCausalLM(sizes())
    assert devices.peak_flops(PROCESSOR) is None
    assert devices.gpu_report(model, 1e6, 1) == {} and devices.gauges(PROCESSOR) == {}
    assert devices.frozen_dtype(PROCESSOR) == torch.float32 and not devices.fit_into_memory(model, 10**9)


def test_activations_are_computed_again_only_where_keeping_them_takes_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama 8B's sizes: a step of 16384 tokens keeps about 130 GB, one of 1024 about 8 GB."""
    model = LlamaForCausalLM(sizes())
    big = sizes(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32)
    monkeypatch.setattr(model, "config", big)
    assert devices.activation_bytes(model, 16384) == pytest.approx(130e9, rel=0.05)
    Gpu(monkeypatch, "NVIDIA H100", free_gb=60)
    assert not devices.fit_into_memory(model, 1024) and not model.is_gradient_checkpointing
    assert devices.fit_into_memory(model, 16384) and model.is_gradient_checkpointing


def learnt(tiny_llama: Path, dtype: torch.dtype, recompute: bool = False) -> tuple[list[float], torch.nn.Module]:
    training_loop.draw_anew(1, 0, 0)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=dtype)
    tuned = with_adapters(model, Lora())
    if dtype == torch.bfloat16:
        assert fuse_adapters(tuned) == 14
    if recompute:
        devices.recompute(model)
    trained = train(model, DOCUMENTS, Schedule(1, 30, 0.005, 128, 32, 3), 0, Silent())
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    return trained.losses, merged(tuned)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_base_held_in_half_the_size_learnt_something_else(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, recompute: bool
) -> None:
    def computing(device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16)

    exact, _ = learnt(tiny_llama, torch.float32)
    for module in (devices, training_loop):
        monkeypatch.setattr(module, "computing", computing)
    monkeypatch.setattr(training_loop, "halves", lambda device: True)
    losses, model = learnt(tiny_llama, torch.bfloat16, recompute)
    assert losses[0] == pytest.approx(exact[0], rel=0.01)
    assert losses[-1] == pytest.approx(exact[-1], rel=0.05) and losses[-1] < 0.7 * losses[0]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_gauges_are_read_once_for_each_report_that_goes_out(capsys: pytest.CaptureFixture[str]) -> None:
    read: list[int] = []
    progress = Progress(interval_seconds=60)
    progress.gauges = lambda: {"gpu_percent": float(len(read))} if not read.append(1) else {}
    for done in range(1, 101):
        progress.report(done, 100, loss=1.0)
    assert len(read) == 2 and "100/100 loss 1 gpu_percent 2" in capsys.readouterr().err


def test_a_model_with_an_operation_of_no_fixed_order_could_not_be_trained(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch does on a GPU: it refuses such an operation while an order is asked for."""
    exact, _ = learnt(tiny_llama, torch.float32)
    plain = training_loop.answer_loss

    def unordered(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        if torch.are_deterministic_algorithms_enabled():
            raise RuntimeError("histc_cuda does not have a deterministic implementation, but you set it")
        return plain(model, batch)

    monkeypatch.setattr(training_loop, "answer_loss", unordered)
    torch.use_deterministic_algorithms(True)
    try:
        losses, _ = learnt(tiny_llama, torch.float32)
    finally:
        torch.use_deterministic_algorithms(False)
    assert losses == exact and "histc_cuda" in capsys.readouterr().err
    monkeypatch.setattr(training_loop, "answer_loss", lambda model, batch: _fail("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        learnt(tiny_llama, torch.float32)


@pytest.mark.parametrize("fitting", [1, 3, 4])
def test_a_step_that_does_not_fit_was_the_end_of_the_training(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, fitting: int, capsys: pytest.CaptureFixture[str]
) -> None:
    exact, _ = learnt(tiny_llama, torch.float32)
    plain = training_loop.answer_loss

    def small(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        if len(batch.tokens) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(model, batch)

    monkeypatch.setattr(training_loop, "answer_loss", small)
    losses, _ = learnt(tiny_llama, torch.float32)
    assert losses == pytest.approx(exact, rel=1e-4)
    assert ("computed in 4 parts" in capsys.readouterr().err) == (fitting == 1)


def test_a_row_that_does_not_fit_is_named(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training_loop, "answer_loss", none)
    with pytest.raises(InputError, match="row_tokens: one row does not fit"):
        learnt(tiny_llama, torch.float32)


def _fail(message: str) -> torch.Tensor:
    raise RuntimeError(message)
