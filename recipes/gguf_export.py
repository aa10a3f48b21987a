"""Write a GGUF file, llama.cpp's format, from a Hugging Face folder of the Llama architecture.

Three things must be carried over exactly, or the model answers nonsense without any error:

- Rotary layout. Hugging Face rotates the two halves of a head against each other, llama.cpp's `llama` architecture
  rotates neighbouring pairs. The same function results when the rows of the query and key projections are permuted
  so that row i of the first half and row i of the second half become neighbours.
- Tokens. A byte-level BPE is its vocabulary, its ordered merges and the regular expression that splits text before
  merging. llama.cpp knows such expressions by name only, so an unknown one is refused rather than approximated.
- Marks. Which tokens are control tokens, which begin and end a text, whether one is put before every prompt.

The file holds no date and no path: the same folder gives the same bytes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llmops_core.errors import InputError, Problem

Quantization = Literal["f32", "f16", "q8_0"]
ARCHITECTURES = ("LlamaForCausalLM",)

# The split expressions of tokenizer.json, by the name llama.cpp compiles the same expression under.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
SPLITS = {LLAMA3_SPLIT: "llama-bpe", QWEN2_SPLIT: "qwen2"}

Q8_0_BLOCK = 32  # weights that share one scale; a row must be a whole number of blocks


def export_gguf(hf_folder: Path, target: Path, quantization: Quantization) -> None:
    """Write `target` from config.json, *.safetensors and tokenizer.json in `hf_folder`.

    Raises InputError for an architecture, rotary scaling, tensor or tokenizer that has no exact counterpart.
    """
    import gguf

    config = _read_json(hf_folder / "config.json")
    _refuse_unsupported(hf_folder, config)
    writer = gguf.GGUFWriter(None, "llama")
    _add_architecture(writer, config, quantization)
    _add_tokenizer(writer, hf_folder, config["vocab_size"])
    for name, values in _tensors(hf_folder):
        _add_tensor(writer, _gguf_name(hf_folder, config, name), _laid_out(config, name, values), quantization)
    partial = target.with_name(target.name + ".partial")
    writer.write_header_to_file(partial)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(target)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            Problem(str(path), "", "no such file", "a Hugging Face model folder", "cannot be packaged without it")
        ) from None
    except ValueError as error:
        raise InputError(Problem(str(path), "", str(error), "JSON", "cannot be read")) from error


def _refuse_unsupported(folder: Path, config: dict[str, Any]) -> None:
    file = str(folder / "config.json")
    found = config.get("architectures") or ["none"]
    if found[0] not in ARCHITECTURES:
        expected = " or ".join(ARCHITECTURES)
        raise InputError(Problem(file, "architectures", found[0], expected, "cannot be exported to GGUF"))
    rope_type = _rope(config).get("rope_type", "default")
    required = {
        "rope_type": (rope_type, "default"),
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "attention_bias": (config.get("attention_bias", False), False),
        "mlp_bias": (config.get("mlp_bias", False), False),
    }
    problems = [
        Problem(file, field, str(value), str(only), "has no exact counterpart in this export")
        for field, (value, only) in required.items()
        if value != only
    ]
    if problems:
        raise InputError(*problems)


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Transformers 5 writes rope_parameters; folders of earlier releases have rope_theta and rope_scaling."""
    earlier = {"rope_theta": config.get("rope_theta", 10_000.0), **(config.get("rope_scaling") or {})}
    return config.get("rope_parameters") or earlier


def _add_architecture(writer: Any, config: dict[str, Any], quantization: Quantization) -> None:
    import gguf

    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(_rope(config)["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    file_types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[file_types[quantization]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


@dataclass(frozen=True)
class ByteLevelTokens:
    """tokenizer.json as llama.cpp wants it: texts and kinds by id, merges as "left right", the split's name."""

    texts: list[str]
    control: list[bool]
    merges: list[str]
    split: str


def read_tokens(path: Path) -> ByteLevelTokens:
    """Read a byte-level BPE. Raises InputError where llama.cpp would split or merge differently."""
    content = _read_json(path)
    model = content["model"]
    if model["type"] != "BPE":
        raise InputError(Problem(str(path), "model.type", model["type"], "BPE", "only byte-level BPE is supported"))
    if content.get("normalizer"):
        found = content["normalizer"]["type"]
        raise InputError(Problem(str(path), "normalizer", found, "none", "llama.cpp would not normalise the text"))
    split = split_name(path, content["pre_tokenizer"])
    if model.get("ignore_merges", False) != (split == "llama-bpe"):
        found = str(model.get("ignore_merges", False))
        raise InputError(
            Problem(str(path), "model.ignore_merges", found, str(split == "llama-bpe"), f"as {split} does")
        )
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    control = {token["id"] for token in content["added_tokens"] if token["special"]}
    by_id = {number: text for text, number in (model["vocab"] | added).items()}
    texts = [by_id[number] for number in range(len(by_id))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return ByteLevelTokens(texts, [number in control for number in range(len(texts))], merges, split)


def split_name(path: Path, pre_tokenizer: dict[str, Any] | None) -> str:
    """llama.cpp's name of a tokenizer.json's pre-tokenization."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer or {}])
    kinds = [step.get("type") for step in steps]
    if not any(step.get("add_prefix_space") for step in steps):
        if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1].get("use_regex", True):
            return "smollm"
        pattern = steps[0].get("pattern", {}).get("Regex")
        if kinds == ["Split", "ByteLevel"] and pattern in SPLITS and not steps[1].get("use_regex", True):
            return SPLITS[pattern]
    found = json.dumps(pre_tokenizer)[:200]
    expected = "ByteLevel, Digits + ByteLevel, or Llama 3's or Qwen 2's Split + ByteLevel, without add_prefix_space"
    raise InputError(Problem(str(path), "pre_tokenizer", found, expected, "llama.cpp knows no such splitting of text"))


def _add_tokenizer(writer: Any, folder: Path, vocabulary_size: int) -> None:
    import gguf
    from transformers import AutoTokenizer

    tokens = read_tokens(folder / "tokenizer.json")
    unused = vocabulary_size - len(tokens.texts)
    if unused < 0:
        found = f"{len(tokens.texts)} tokens"
        problem = f"config.json says vocab_size {vocabulary_size}"
        raise InputError(Problem(str(folder / "tokenizer.json"), "", found, "at most vocab_size", problem))
    kinds = [gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL for control in tokens.control]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokens.split)
    writer.add_token_list(tokens.texts + [f"[PAD{number}]" for number in range(unused)])
    writer.add_token_types(kinds + [gguf.TokenType.UNUSED] * unused)
    writer.add_token_merges(tokens.merges)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    for number, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if number is not None:
            add(number)
    # What the tokenizer really does, whatever its settings say: the marks it puts around a plain text.
    plain, marked = (tokenizer("a", add_special_tokens=marks)["input_ids"] for marks in (False, True))
    writer.add_add_bos_token(marked[:1] != plain[:1])
    writer.add_add_eos_token(marked[-1:] != plain[-1:])
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor as float32, in the order of names, from one file or several."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            Problem(str(folder), "", "no *.safetensors", "safetensors weights", "other formats are refused")
        )
    for file in files:
        try:
            with safe_open(file, framework="pt") as content:
                for name in sorted(content.keys()):
                    yield name, content.get_tensor(name).float().numpy()
        except SafetensorError as error:
            raise InputError(Problem(str(file), "", str(error), "a safetensors file", "cannot be read")) from error


def _gguf_name(folder: Path, config: dict[str, Any], name: str) -> str:
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    found = names.get_name(name, try_suffixes=(".weight",))
    if found is None:
        raise InputError(Problem(str(folder), name, "a tensor", "a tensor of a plain Llama", "has no place in GGUF"))
    return found


def _laid_out(config: dict[str, Any], name: str, values: np.ndarray) -> np.ndarray:
    heads = config["num_attention_heads"]
    if name.endswith("q_proj.weight"):
        return interleave_rotary_halves(values, heads)
    if name.endswith("k_proj.weight"):
        return interleave_rotary_halves(values, config.get("num_key_value_heads") or heads)
    return values


def interleave_rotary_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of a (heads × head size, width) projection: rows i and i + half of a head become neighbours."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def _add_tensor(writer: Any, name: str, values: np.ndarray, quantization: Quantization) -> None:
    """Vectors stay float32 (they are small, and norms are sensitive); rows no block fits fall back to float16."""
    import gguf

    if values.ndim == 1 or quantization == "f32":
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    elif quantization == "f16" or values.shape[-1] % Q8_0_BLOCK:
        writer.add_tensor(name, values.astype(np.float16))
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
