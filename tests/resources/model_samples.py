"""A tiny model as a publisher would offer it, with what must never be taken over; and what tests ask about folders."""

import json
from pathlib import Path

import numpy
from safetensors.numpy import save

LISTED = {"allowed_endpoints": ("127.0.0.1",)}


def model_files() -> dict[str, bytes]:
    return {
        "config.json": json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": save({"a": numpy.arange(6.0).reshape(2, 3)}),
        "README.md": b"# read me",
        "pytorch_model.bin": b"\x80\x04a pickle",
        "modeling_evil.py": b"import os",
    }


WANTED = {"config.json", "tokenizer.json", "model.safetensors", "origin.json"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def nothing_left(target: Path) -> bool:
    return not target.parent.exists() or list(target.parent.iterdir()) == []
