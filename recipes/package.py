"""Package a Hugging Face folder for llama.cpp: write model.gguf, and prove that it is still the same model.

    python -m recipes.package --config config.json --weights FOLDER --out FOLDER

config.json: {"quantization": "f32" | "f16" | "q8_0"}, as model.yaml's `serving.quantization`. --out receives model.gguf
and package.json, whose "agreement" holds the figures of the comparison.

Where the quantised file disagrees with the model it was made from, float32 tells why. If float32 agrees, quantisation
loses too much for this model (a diverged training overflows its scales): float32 is packaged, and "instead_because"
says so, for evaluation to judge. If float32 disagrees too, the export is wrong, and nothing is published.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from llmops_core.errors import LlmopsError
from llmops_core.exit_codes import ERROR_OF_INPUT, exit_code_of
from recipes.configuration import read_configuration
from recipes.gguf_agreement import Disagreement, agreement
from recipes.gguf_export import Quantization, export_gguf
from recipes.publishing import publishing


class Packaging(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    quantization: Quantization


__all__ = ["export_gguf", "main", "package"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="recipes.package", description="Write and check model.gguf.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="the merged Hugging Face folder")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options = parser.parse_args(arguments)
    try:
        report = package(options.config, options.weights, options.out)
    except (LlmopsError, Disagreement) as error:
        print(f"packaging failed: {error}", file=sys.stderr)
        # what llmops cannot mend by trying again: the author chooses another number format or engine
        return exit_code_of(error) if isinstance(error, LlmopsError) else ERROR_OF_INPUT
    print(json.dumps(report["agreement"]), file=sys.stderr)
    return 0


def package(config_file: Path, weights: Path, out: Path) -> dict[str, Any]:
    """Write `out`; returns package.json's content. Raises InputError, EnvironmentLacks or Disagreement."""
    started = time.monotonic()
    asked = read_configuration(config_file, Packaging).quantization
    with publishing(out) as folder:
        used, figures, reason = _faithful(weights, folder, asked)
        report = {
            "quantization": used,
            "asked": asked,
            "instead_because": reason,
            "bytes": (folder / "model.gguf").stat().st_size,
            "agreement": figures,
            "seconds": round(time.monotonic() - started, 3),
        }
        (folder / "package.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _faithful(weights: Path, folder: Path, asked: Quantization) -> tuple[Quantization, dict[str, object], str | None]:
    """Write model.gguf; returns the quantization used, the figures, and why it is not the one asked for."""
    export_gguf(weights, folder / "model.gguf", asked)
    try:
        return asked, agreement(weights, folder, asked), None
    except Disagreement as error:
        if asked == "f32":
            raise
        reason = f"{asked} loses too much: {error}"
    print(f"{reason}; packaging float32", file=sys.stderr)
    export_gguf(weights, folder / "model.gguf", "f32")
    return "f32", agreement(weights, folder, "f32"), reason


if __name__ == "__main__":
    sys.exit(main())
