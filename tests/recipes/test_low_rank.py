"""Folded adapters are the same adapters: equal outputs, equal gradients, equal merged weights."""

import copy
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from recipes.finetune import merged
from recipes.low_rank import fold_adapters, fuse_adapters

TOKENS = 64
SIZES = LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)


def tuned(dropout: float = 0.0, dora: bool = False) -> PeftModel:
    torch.manual_seed(3)
    settings = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], lora_dropout=dropout, use_dora=dora,
        init_lora_weights=False, task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(LlamaForCausalLM(SIZES), settings)


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    tokens = torch.arange(TOKENS).reshape(4, 16) % 40
    model(input_ids=tokens, labels=tokens).loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("way", [lambda model: fold_adapters(model, TOKENS), fuse_adapters])
def test_folding_changed_what_is_learnt(way: Callable[[PeftModel], int]) -> None:
    plain, folded = tuned(), tuned()
    assert way(folded) == 4
    expected, found = gradients(plain), gradients(folded)
    assert expected.keys() == found.keys() and len(found) == 8
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", [lambda model: fold_adapters(model, TOKENS), fuse_adapters])
def test_folding_changed_what_is_merged(way: Callable[[PeftModel], int]) -> None:
    plain, folded = tuned(), tuned()
    way(folded)
    tokens = torch.arange(TOKENS).reshape(4, 16) % 40
    answers = copy.deepcopy(plain)(input_ids=tokens).logits
    for name, weight in merged(plain).state_dict().items():
        torch.testing.assert_close(merged_state(folded)[name], weight)
    torch.testing.assert_close(merged(folded)(input_ids=tokens).logits, answers, rtol=1e-4, atol=1e-5)


def merged_state(model: PeftModel) -> dict[str, torch.Tensor]:
    return merged(copy.deepcopy(model)).state_dict()


@pytest.mark.parametrize(("tokens", "dropout", "dora"), [(47, 0.0, False), (TOKENS, 0.1, False), (TOKENS, 0.0, True)])
def test_layers_were_folded_where_that_costs_more_or_means_something_else(
    tokens: int, dropout: float, dora: bool
) -> None:
    narrow = 2 if tokens < 48 else 0  # the square layers still pay at 47 tokens, the wide ones do not
    assert fold_adapters(tuned(dropout, dora), tokens) == narrow
