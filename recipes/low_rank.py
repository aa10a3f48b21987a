"""Low-rank adapters at the price of one matrix product: the adapter is added to the weight, not to the output.

peft computes x W + s (x A) B, which for narrow layers is three products and two passes over the output. While a step
has more tokens than the layer is wide, the sum W + s B A is cheaper: it is made once a step, is smaller than the
layer's output, and its gradient reaches A and B just the same. For wide layers peft's own way needs less memory, and is
kept.

A GPU has time for products and none for passes over memory; and the frozen weight, held in bfloat16, would swallow
most of a small adapter in the sum. There s (x A) B is added by the product that makes it, without a pass of its own.
"""

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER = "default"  # peft's name of the only adapter


def quicken_adapters(tuned: "PeftModel", tokens_per_step: int) -> None:
    """Make adapted layers compute as is quickest where the model is."""
    if next(tuned.parameters()).device.type == "cuda":
        fuse_adapters(tuned)
    else:
        fold_adapters(tuned, tokens_per_step)


def fold_adapters(tuned: "PeftModel", tokens_per_step: int) -> int:
    """Make narrow adapted layers compute with the sum; the number of them. Merging works as before."""
    from peft.tuners.lora import Linear

    narrow = [layer for layer in tuned.modules() if isinstance(layer, Linear) and _pays(layer, tokens_per_step)]
    for layer in narrow:
        layer.forward = MethodType(_with_summed_weight, layer)
    return len(narrow)


def fuse_adapters(tuned: "PeftModel") -> int:
    """Make all plain adapted layers add in the last product, for a GPU; the number of them."""
    from peft.tuners.lora import Linear

    plain = [layer for layer in tuned.modules() if isinstance(layer, Linear) and _is_plain(layer)]
    for layer in plain:
        layer.forward = MethodType(_with_added_output, layer)
    return len(plain)


def _is_plain(layer: Any) -> bool:
    return not layer.use_dora.get(ADAPTER) and isinstance(layer.lora_dropout[ADAPTER], torch.nn.Identity)


def _pays(layer: Any, tokens_per_step: int) -> bool:
    return _is_plain(layer) and tokens_per_step >= 2 * max(layer.in_features, layer.out_features)


def _with_summed_weight(layer: Any, x: torch.Tensor) -> torch.Tensor:
    a, b, scale = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.scaling[ADAPTER]
    return linear(x, torch.addmm(layer.base_layer.weight, b, a, alpha=scale), layer.base_layer.bias)


def _with_added_output(layer: Any, x: torch.Tensor) -> torch.Tensor:
    a, b, scale = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.scaling[ADAPTER]
    flat = x.flatten(0, -2)
    own = linear(flat, layer.base_layer.weight, layer.base_layer.bias)
    return torch.addmm(own, linear(flat, a), b.t(), alpha=scale).unflatten(0, x.shape[:-1])
