"""A Llama model small enough to make in a second, random but complete: tokenizer, chat template, safetensors."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% else %}<|assistant|>{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SENTENCES = ["What is the capital of France? Paris", "The currency of Côte d'Ivoire is the CFA franc", "1234 it's 日本"]


@pytest.fixture(autouse=True)
def numbers_near_zero() -> Iterator[None]:
    """What a recipe sets for its process must not stay in that of the tests: others count on all floats."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


def make_tiny_llama(folder: Path, pre_tokenizer=None, **changes: object) -> Path:
    """Write a random model; the same bytes every time. `changes` go into its LlamaConfig."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    marks = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    rest = {"num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True}
    config = {"vocab_size": len(wrapped), "initializer_range": 0.1, **sizes, **marks, **rest, **changes}
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def packaged(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.gguf, as an engine is started on."""
    from recipes.gguf_export import export_gguf

    folder = tmp_path_factory.mktemp("packaged")
    export_gguf(tiny_llama, folder / "model.gguf", "f32")
    return folder
