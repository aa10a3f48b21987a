"""What a GPU changes: numbers of half the size where that costs no accuracy, memory that must be fitted into, a peak.

On CUDA, products are computed in bfloat16 (autocast); trained weights, their optimiser and the losses stay float32.
Weights that are frozen are held in bfloat16. A GPU without bfloat16 (V100) computes all in float32, since float16 would
need its losses scaled. On a processor everything is float32 (bfloat16 was measured to be slower there).

Where the activations of a step would take more than half of the memory that is left, they are computed again in the
backward pass instead of kept (gradient checkpointing): a third more work, a fraction of the memory. A step that still
does not fit is computed in parts (training_loop.py).

MFU, model FLOPs utilisation, is Chowdhery et al. 2022 (PaLM), appendix B, without its attention term: per token 2
operations for each weight in the forward pass, 2 in the backward pass, and 2 more for each weight that is trained. What
is computed again does not count, nor does padding. The peak is the vendor's for dense bfloat16; of a GPU that is not
listed here none is stated.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from transformers import PreTrainedModel

from recipes.ranks import local_rank, processes_here

# Operations a second, dense bfloat16. The first name that the device's name contains.
PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L4": 121e12,
}
# Bytes that a layer keeps for the backward pass: for each token so many numbers of two bytes for each unit of its width
# and of the width of its feed-forward part (Korthikanti et al. 2022 count 17 times the width; norms in float32 and
# gated feed-forward parts keep more).
KEPT_WIDTHS, KEPT_FEED_FORWARDS, NUMBER_BYTES = 16, 4, 2
ACTIVATIONS_SHARE = 0.5
# And what else a step needs: for each trained weight its gradient and two means, for each token's logits the half-sized
# ones, float32 ones and their gradient.
TRAINED_BYTES, LOGIT_BYTES = 12, 10


def choose_device() -> torch.device:
    """This process's GPU if there is one, else the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank())
    torch.cuda.set_device(device)
    return device


def prepare_torch(seed: int) -> None:
    """The same numbers each time: the seed set, on a GPU only operations that add in a fixed order.

    One thread for each core this process may use; and numbers near zero count as zero (they are slow).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // processes_here()))
    torch.set_flush_denormal(True)
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS's way to add in a fixed order
        torch.use_deterministic_algorithms(True)  # only warning would leave attention's gradient in any order
        # Meant to show mistakes of ours, it writes all memory once more. (torch has no annotation for it.)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)


def give_up_order(error: RuntimeError) -> bool:
    """Whether this model needs an operation that knows no fixed order; from now on it may run. Weights that are
    trained again then differ in their last digits."""
    if "deterministic" not in str(error) or not torch.are_deterministic_algorithms_enabled():
        return False
    torch.use_deterministic_algorithms(False)
    print(f"not the same digits each time: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
    return True


def halves(device: torch.device) -> bool:
    """Whether products are computed in bfloat16 there."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def frozen_dtype(device: torch.device) -> torch.dtype:
    """How weights that are not trained are held."""
    return torch.bfloat16 if halves(device) else torch.float32


def computing(device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass."""
    return torch.autocast("cuda", torch.bfloat16) if halves(device) else nullcontext()


def activation_bytes(model: PreTrainedModel, tokens: int) -> int:
    """What the layers would keep of a step of so many tokens until its backward pass."""
    sizes = model.config.get_text_config()
    width = sizes.hidden_size
    inner = getattr(sizes, "intermediate_size", None) or 4 * width
    numbers = KEPT_WIDTHS * width + KEPT_FEED_FORWARDS * inner
    return tokens * sizes.num_hidden_layers * numbers * NUMBER_BYTES


def fit_into_memory(model: PreTrainedModel, tokens: int) -> bool:
    """Have activations computed again where keeping them would take too much of the GPU; whether that is so."""
    device = model.device
    if device.type != "cuda" or not model.supports_gradient_checkpointing:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    needed = TRAINED_BYTES * trained + LOGIT_BYTES * tokens * model.config.get_text_config().vocab_size
    if activation_bytes(model, tokens) <= ACTIVATIONS_SHARE * (free - needed):
        return False
    recompute(model)
    return True


def recompute(model: PreTrainedModel) -> None:
    """Keep a layer's input only, and compute the rest again when its gradient is due."""
    model.activation_checkpointing_enable({"use_reentrant": False})


def flops_per_token(model: nn.Module) -> int:
    """Floating-point operations of training on one token."""
    weights = list(model.parameters())
    looked_up = 0
    if isinstance(model, PreTrainedModel) and not model.config.get_text_config().tie_word_embeddings:
        looked_up = sum(weight.numel() for weight in model.get_input_embeddings().parameters())
    multiplied = sum(weight.numel() for weight in weights) - looked_up
    return 4 * multiplied + 2 * sum(weight.numel() for weight in weights if weight.requires_grad)


def peak_flops(device: torch.device) -> float | None:
    """What the vendor states for this device, or None."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def gpu_report(model: nn.Module, tokens_per_second: float, world: int) -> dict[str, object]:
    """Figures that only a GPU has; none without one."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return {}
    report: dict[str, object] = {
        "device": torch.cuda.get_device_name(device),
        "devices": world,
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated(device),
    }
    if (peak := peak_flops(device)) is not None:
        share = tokens_per_second * flops_per_token(model) / (peak * world)
        report |= {"mfu_percent": round(100 * share, 2), "peak_flops": peak}
    return report


def gauges(device: torch.device) -> Mapping[str, float]:
    """How busy the GPU is now, where NVML can be asked (the driver, and Python's package nvidia-ml-py)."""
    if device.type != "cuda":
        return {}
    figures = {"gpu_memory_gb": torch.cuda.memory_allocated(device) / 1e9}
    try:
        figures["gpu_percent"] = float(torch.cuda.utilization(device))
    except Exception:  # noqa: BLE001 - NVML's errors have names only where it is installed; this figure is only shown
        return figures
    return figures
