"""Our fine-tuning recipe beside the plain Hugging Face Trainer: non-padding tokens a second, and the loss they reach.

    python benchmarks/training.py [--epochs 2] [--repeats 5]

Both start from the same pretrained base, put the same LoRA adapters on it from the same seed, see the same rows in the
same number of epochs with about the same number of tokens a step, the same peak rate, warm-up and clipping, and learn
answers only. The recipe is the platform's: packed rows, folded adapters, a rate that falls in a straight line. The
Trainer is used as most people use it: rows padded to the longest of their batch, a cosine, AdamW fused, all cores.
Afterwards the same code scores both on the same rows: those learned, and dev.jsonl, whose phrasings neither has met.
Each repeat takes the next seed and runs either side in a process of its own; import times are not counted. Two cores
shared with other work give no fair figure, so the load is printed, and tokens for each second of processor time. Losses
differ from seed to seed, so they are compared by the mean of paired differences, shown with its standard error. The
exit code is 1 below 1.5 times the Trainer's rate, for a higher mean of the final loss on the rows learned, and for a
loss on unmet phrasings that is higher by more than chance explains (two standard errors).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from recipes.process import be_a_good_neighbour  # noqa: E402

RATE, WARMUP, TOKENS_PER_STEP, WIDTH = 0.006, 15, 1024, 64
SCORED = 2000  # rows of each file, enough and quick


def prepared(base: Path, data: Path, seed: int):
    """Model with adapters, tokenizer, training and evaluation documents: equal for both sides."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmops_core.training_spec import Lora
    from recipes.devices import prepare_torch
    from recipes.finetune import with_adapters
    from recipes.rows import read_questions
    from recipes.text_format import encode

    prepare_torch(seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    taught, judged = (
        encode(read_questions(data / name), tokenizer, WIDTH, data / name) for name in ("train.jsonl", "dev.jsonl")
    )
    return model, with_adapters(model, Lora()), tokenizer, taught, judged


def evaluation_loss(model, documents, pad: int) -> float:
    """Mean loss an answer's token, over padded rows through the model's own forward."""
    import torch

    from recipes.packing import IGNORED, pack
    from recipes.training_loop import whole_loss

    total = count = 0.0
    with torch.no_grad():
        for start in range(0, len(documents), 64):
            batch = pack([[document] for document in documents[start : start + 64]], WIDTH, pad)
            learned = int((batch.targets != IGNORED).sum())
            total, count = total + float(whole_loss(model, batch)) * learned, count + learned
    return total / count


def final_losses(model, taught, judged, pad: int) -> dict[str, float]:
    """On the rows learned, and on rows in phrasings that neither side has met."""
    return {"loss": evaluation_loss(model, taught[:SCORED], pad), "unmet": evaluation_loss(model, judged[:SCORED], pad)}


def ours(base: Path, data: Path, epochs: int, seed: int) -> dict[str, float]:
    from recipes.low_rank import fold_adapters
    from recipes.packing import batches
    from recipes.progress import open_progress
    from recipes.training_loop import Schedule, train

    model, adapted, tokenizer, taught, judged = prepared(base, data, seed)
    fold_adapters(adapted, TOKENS_PER_STEP)
    wanted = epochs * sum(len(each.tokens) for each in taught)
    stream = batches(taught, TOKENS_PER_STEP, WIDTH, tokenizer.pad_token_id, seed)
    sums = accumulate(batch.token_count for batch in stream)
    steps = next(step for step, tokens in enumerate(sums, start=1) if tokens >= wanted)
    before = time.process_time()
    schedule = Schedule(seed, steps, RATE, TOKENS_PER_STEP, WIDTH, WARMUP)
    with open_progress() as progress:
        trained = train(model, taught, schedule, tokenizer.pad_token_id, progress)
    processor = time.process_time() - before
    losses = final_losses(model, taught, judged, tokenizer.pad_token_id)
    return {"tokens": trained.tokens, "seconds": trained.seconds, "processor": processor, "steps": steps, **losses}


def trainer(base: Path, data: Path, epochs: int, seed: int) -> dict[str, float]:
    import torch
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model, adapted, tokenizer, taught, judged = prepared(base, data, seed)
    rows = [
        {
            "input_ids": list(each.tokens),
            "attention_mask": [1] * len(each.tokens),
            "labels": [-100] * each.prompt_tokens + list(each.tokens[each.prompt_tokens :]),
        }
        for each in taught
    ]
    rows_per_step = round(TOKENS_PER_STEP * 0.94 / (sum(len(each.tokens) for each in taught) / len(taught)))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=rows_per_step,
            num_train_epochs=epochs,
            learning_rate=RATE,
            warmup_steps=WARMUP,
            lr_scheduler_type="cosine",
            adam_beta2=0.95,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            logging_steps=50,
            save_strategy="no",
            report_to=[],
            seed=seed,
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        collator = DataCollatorForSeq2Seq(tokenizer, model=None)
        run = Trainer(model=adapted, args=arguments, train_dataset=rows, data_collator=collator)
        started, before = time.monotonic(), time.process_time()
        steps = run.train().global_step
        seconds, processor = time.monotonic() - started, time.process_time() - before
    model.eval()
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    tokens = epochs * sum(len(each.tokens) for each in taught)
    return {
        "tokens": tokens,
        "seconds": seconds,
        "processor": processor,
        "steps": steps,
        **final_losses(model, taught, judged, tokenizer.pad_token_id),
    }


def made(folder: Path) -> tuple[Path, Path]:
    """Data and base model, made as the platform makes them."""
    import yaml

    data, base, config = folder / "atlas", folder / "base", folder / "config.json"
    spec = yaml.safe_load((ROOT / "models/atlas-qa/model.yaml").read_text())["source"]["pretrain"]
    config.write_text(json.dumps(spec))
    python = [sys.executable, "-m"]
    subprocess.run([*python, "recipes.atlas", "--out", str(data)], cwd=ROOT, check=True)
    arguments = ["--config", str(config), "--data", str(data), "--out", str(base)]
    subprocess.run([*python, "recipes.pretrain", *arguments], cwd=ROOT, check=True)
    return base, data


def line(figures: dict[str, float]) -> str:
    rate, thrift = figures["tokens"] / figures["seconds"], figures["tokens"] / figures["processor"]
    work = f"{figures['tokens']:.0f} tokens, {figures['steps']:.0f} steps, {figures['seconds']:.1f} s"
    speed = f"{rate:.0f} tokens/s, {thrift:.0f} per processor second"
    return f"{work}, {speed}, loss {figures['loss']:.4f}, unmet {figures['unmet']:.4f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--base", type=Path, help="a pretrained base; made first if not given")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", choices=["ours", "trainer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    be_a_good_neighbour()
    if options.side:
        figures = (ours if options.side == "ours" else trainer)(
            options.base, options.data, options.epochs, options.seed
        )
        print(json.dumps(figures))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        base, data = (options.base, options.data) if options.base else made(Path(folder))
        print(f"load before: {os.getloadavg()[0]:.2f}", flush=True)
        results: dict[str, list[dict[str, float]]] = {"trainer": [], "ours": []}
        for seed in range(options.seed, options.seed + options.repeats):
            for side, runs in results.items():
                words = [__file__, "--side", side, "--base", str(base), "--data", str(data)]
                command = [sys.executable, *words, "--epochs", str(options.epochs), "--seed", str(seed)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    return 1
                runs.append(json.loads(done.stdout.splitlines()[-1]))
                figures = runs[-1]
                print(f"{side:8} {line(figures)}, load {os.getloadavg()[0]:.2f}", flush=True)
    rates = {
        side: statistics.median(each["tokens"] / each["seconds"] for each in runs) for side, runs in results.items()
    }
    ratio = rates["ours"] / rates["trainer"]
    print(f"median: ours {rates['ours']:.0f}, Trainer {rates['trainer']:.0f} tokens/s: {ratio:.2f} times")
    higher, _ = compared("loss", results["ours"], results["trainer"])
    unmet, error = compared("unmet", results["ours"], results["trainer"])
    return 0 if ratio >= 1.5 and higher <= 0 and unmet <= 2 * error else 1


def compared(name: str, ours: list[dict[str, float]], trainer: list[dict[str, float]]) -> tuple[float, float]:
    """Print a loss of both sides; returns the mean difference (above zero: ours is higher) and its standard error."""
    differences = [mine[name] - theirs[name] for mine, theirs in zip(ours, trainer, strict=True)]
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    ours_mean, trainer_mean = (statistics.fmean(each[name] for each in runs) for runs in (ours, trainer))
    print(f"{name}: ours {ours_mean:.4f}, Trainer {trainer_mean:.4f}, difference {mean:+.4f} ± {error:.4f}")
    return mean, error


if __name__ == "__main__":
    sys.exit(main())
