"""`python -m recipes.finetune --config config.json --data DIR --base DIR --out DIR`: teach a base model new rows.

Works on any Hugging Face folder of a causal language model with safetensors. `method` is
- lora: low-rank adapters (peft) on frozen weights, merged at the end, so that any engine can serve the result;
- full: all weights are trained;
- none: the base model is handed on as it is.
config.json is the `training` mapping of model.yaml. Writes the merged folder and report.json.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llmops_core.errors import InputError, LlmopsError, Problem
from llmops_core.exit_codes import exit_code_of
from llmops_core.training_spec import Lora, Training
from recipes.checkpoints import open_checkpoints
from recipes.configuration import read_configuration
from recipes.process import be_a_good_neighbour
from recipes.progress import open_progress
from recipes.publishing import publishing
from recipes.rows import read_questions
from recipes.training_identity import identity_of

if TYPE_CHECKING:
    import torch
    from peft import LoraModel, PeftModel
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NOT_WEIGHTS = ("report.json",)


def finetune(plan: Training, data: Path, base: Path, out: Path) -> dict[str, object]:
    """Train, merge and publish; returns the report. Raises InputError for data or a base model that cannot be used."""
    check_base(base)
    if plan.method == "none":
        return hand_on(base, out, plan.seed)
    questions = {data / name: read_questions(data / name) for name in plan.files}

    from recipes.devices import choose_device, fit_into_memory, gauges, prepare_torch
    from recipes.ranks import open_ranks
    from recipes.text_format import encode, token_id
    from recipes.training_loop import Schedule, train

    device = choose_device()
    prepare_torch(plan.seed)
    model, tuned, tokenizer = prepared(plan, base, device)
    documents = [
        document for file, rows in questions.items() for document in encode(rows, tokenizer, plan.row_tokens, file)
    ]
    schedule = Schedule(
        plan.seed, plan.steps, plan.learning_rate, plan.tokens_per_step, plan.row_tokens, plan.warmup_steps
    )
    pad = token_id(tokenizer, tokenizer.pad_token or tokenizer.eos_token)
    with open_ranks() as ranks, open_progress(ranks.first) as progress, publishing(out, ranks.first) as folder:
        checkpoints = open_checkpoints(lambda: identity_of("finetune", plan, questions, base), ranks.first)
        fit_into_memory(model, plan.tokens_per_step // ranks.world)
        progress.gauges = lambda: gauges(device)
        trained = train(model, documents, schedule, pad, progress, checkpoints, ranks)
        report = {"method": plan.method, **trained.as_report(model, plan.seed, checkpoints, ranks)}
        if ranks.first:
            final = merged(tuned) if tuned is not None else model
            refuse_non_finite(final)
            final.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def prepared(
    plan: Training, base: Path, device: "torch.device"
) -> "tuple[PreTrainedModel, PeftModel | None, PreTrainedTokenizerBase]":
    """The base on its device, the same with adapters (or None), and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from recipes.devices import frozen_dtype
    from recipes.low_rank import quicken_adapters

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    dtype = frozen_dtype(device) if plan.lora else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=dtype, use_safetensors=True)
    tuned = with_adapters(model, plan.lora) if plan.lora else None
    model.to(device)  # type: ignore[arg-type] - a device is what it takes
    if tuned is not None:
        quicken_adapters(tuned, plan.tokens_per_step)
    return model, tuned, tokenizer


def with_adapters(model: "PreTrainedModel", lora: Lora) -> "PeftModel":
    """The model with its weights frozen and adapters put into it, in place."""
    from peft import LoraConfig, get_peft_model

    alpha = cast(int, lora.alpha)  # declared as an integer there, used as a number
    settings = LoraConfig(
        r=lora.rank, lora_alpha=alpha, target_modules=list(lora.targets), lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        found = ", ".join(lora.targets)
        problem = Problem(
            "model.yaml", "training.lora.targets", found, "names of this model's linear layers", str(error)
        )
        raise InputError(problem) from None


def merged(tuned: "PeftModel") -> "PreTrainedModel":
    """The plain model again, the adapters added to its weights, in float32: half the size would swallow small ones."""
    return cast("PreTrainedModel", cast("LoraModel", tuned.float().base_model).merge_and_unload())


def check_base(base: Path) -> None:
    """Raises InputError unless `base` is a Hugging Face folder with safetensors."""
    for pattern in ("config.json", "*.safetensors", "tokenizer.json"):
        if not any(base.glob(pattern)):
            message = "not the folder of a model that can be trained here"
            raise InputError(Problem(str(base), "--base", f"no {pattern}", "a Hugging Face folder", message))


def hand_on(base: Path, out: Path, seed: int) -> dict[str, object]:
    """Copy the base model unchanged."""
    report: dict[str, object] = {
        "method": "none",
        "loss_curve": [],
        "steps": 0,
        "tokens": 0,
        "seconds": 0.0,
        "seed": seed,
    }
    with publishing(out) as folder:
        shutil.copytree(base, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_WEIGHTS))
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def refuse_non_finite(model: "nn.Module") -> None:
    """Raises InputError if a weight is infinite or not a number: no engine could serve it, no evaluation judge it."""
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            message = "training diverged beyond what numbers can hold; lower it"
            raise InputError(
                Problem("model.yaml", "training.learning_rate", f"{name} not finite", "finite weights", message)
            )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.finetune")
    for name in ("config", "data", "base", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args(arguments)
    be_a_good_neighbour()
    try:
        finetune(read_configuration(options.config, Training), options.data, options.base, options.out)
    except LlmopsError as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
