"""What a folder with a model must be before anything loads it: safetensors, a known architecture, a tokenizer.

Nothing in it is executed. Pickled weights and Python files are never taken over, and a configuration that asks for
code of its own (`auto_map`) is refused.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmops_core.errors import InputError, Problem
from llmops_core.safetensors_header import LENGTH_BYTES, header_bytes, parse_header

WEIGHTS = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors")
INDEX = "model.safetensors.index.json"
OTHER_FILES = {
    *("config.json", "generation_config.json", INDEX),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json"),
}
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
LIMIT_JSON_BYTES = 64 * 2**20
# Decoder-only families that transformers knows without code from elsewhere.
KNOWN_MODEL_TYPES = {
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gemma", "gemma2", "gemma3_text"),
    *("phi", "phi3", "olmo", "olmo2", "granite", "smollm3", "stablelm", "starcoder2", "gpt2", "gpt_neox", "falcon"),
    *("cohere", "cohere2", "gpt_oss", "glm", "glm4", "deepseek_v3"),
}


def is_model_file(name: str) -> bool:
    """Whether a file of this name is taken over: weights as safetensors, configuration and tokenizer, nothing else."""
    return name in OTHER_FILES or WEIGHTS.fullmatch(name) is not None


def check_model_folder(folder: Path, origin: str) -> None:
    """Raises InputError naming everything that is missing or wrong in a folder that came from `origin`."""
    names = {path.name for path in folder.iterdir()}
    problems = [*_config_problems(folder, names), *_weight_problems(folder, names)]
    if not names.intersection(TOKENIZERS):
        problems.append(("", "no tokenizer", " or ".join(TOKENIZERS), "add the model's tokenizer"))
    if problems:
        raise InputError(*[Problem(origin, *problem) for problem in problems])


def _config_problems(folder: Path, names: Iterable[str]) -> Iterable[tuple[str, str, str, str]]:
    if "config.json" not in names:
        yield "config.json", "no such file", "the model's configuration", "this is no Hugging Face folder"
        return
    config = _read_json(folder / "config.json")
    if not isinstance(config, dict):
        yield "config.json", "no JSON object", "the model's configuration", "the file cannot be read"
        return
    model_type = config.get("model_type")
    if model_type not in KNOWN_MODEL_TYPES:
        known = ", ".join(sorted(KNOWN_MODEL_TYPES))
        yield "config.json: model_type", repr(model_type)[:80], f"one of {known}", "the architecture is not supported"
    if "auto_map" in config:
        message = "the model wants to run code of its own, which is never done; use one that transformers knows"
        yield "config.json: auto_map", "a field", "no such field", message


def _weight_problems(folder: Path, names: Iterable[str]) -> Iterable[tuple[str, str, str, str]]:
    weights = sorted(name for name in names if WEIGHTS.fullmatch(name))
    if not weights:
        message = "weights are taken as safetensors only; convert them, or name a revision that has them"
        yield "", "no safetensors", "model.safetensors", message
    held: dict[str, set[str]] = {}
    for name in weights:
        try:
            held[name] = set(_tensors(folder / name))
        except ValueError as error:
            yield name, str(error), "a sound safetensors file", "the weights cannot be read; fetch or make them again"
    if INDEX in names:
        yield from _index_problems(_read_json(folder / INDEX), held)


def _index_problems(index: Any, held: dict[str, set[str]]) -> Iterable[tuple[str, str, str, str]]:
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict):
        yield INDEX, "no weight_map", "a mapping of tensors to files", "the index cannot be read"
        return
    lost = sorted(f"{tensor} in {file}" for tensor, file in places.items() if tensor not in held.get(str(file), ()))
    if lost:
        expected = "every tensor in the file that the index names"
        yield INDEX, f"{len(lost)} lost, such as {lost[0][:120]}", expected, "weights are missing; fetch them again"


def _tensors(path: Path) -> Iterable[str]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = header_bytes(stream.read(LENGTH_BYTES), size)
        return parse_header(stream.read(length), size - LENGTH_BYTES - length)


def _read_json(path: Path) -> Any:
    """The parsed file, None for what is too large or no JSON."""
    if path.stat().st_size > LIMIT_JSON_BYTES:
        return None
    try:
        return json.loads(path.read_bytes())
    except (RecursionError, ValueError):
        return None
