"""The fine-tuning recipe beside the plain Hugging Face Trainer on rows of skewed length: tokens/s, MFU, memory, loss.

    python benchmarks/gpu_training.py                                # the tiny model, on whatever is here
    python benchmarks/gpu_training.py --size 8b --steps 40           # on a GPU, in bfloat16

The model has random weights: speed and memory do not depend on them, and nothing need be downloaded. Both sides start
from the same weights, put the same LoRA adapters on them, learn the same rows (answers only), each about once, with
about as many tokens a step, the same peak rate, warm-up, straight decay and clipping, in the same number format, and
compute activations again (gradient checkpointing). The recipe packs its rows. The Trainer does what it does by default:
it pads the rows of a batch to the longest of them. `--trainer-rows` rows are one forward pass, several are one step.

Lengths are log-normal, as instructions are: half of the rows have less than a tenth of the longest one's tokens. The
text is a walk through words, each with a few successors, so that there is something to learn. Afterwards the same code
scores both on rows that neither has met. Tokens are those of rows, not of padding; MFU counts only them, against the
vendor's peak for dense bfloat16 (recipes/devices.py), and is left out where no peak is stated. Each side runs in a
process of its own. The exit code is 1 below 1.5 times the Trainer's rate, or for a loss more than 1 % above the
Trainer's.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from recipes.process import be_a_good_neighbour  # noqa: E402

# vocabulary, width, feed-forward width, layers, heads, key/value heads; row_tokens, tokens a step, peak rate.
# The larger ones are the sizes of Llama 3.2 1B and 3B and of Llama 3.1 8B.
SIZES = {
    "tiny": ((2048, 128, 512, 3, 4, 2), (256, 2048, 5e-3)),
    "1b": ((128256, 2048, 8192, 16, 32, 8), (2048, 32768, 5e-4)),
    "3b": ((128256, 3072, 8192, 28, 24, 8), (2048, 32768, 5e-4)),
    "8b": ((128256, 4096, 14336, 32, 32, 8), (2048, 16384, 5e-4)),
}
WORDS, SUCCESSORS = 500, 4
MEDIAN_SHARE, SPREAD = 0.08, 1.0  # of the longest row; of the logarithm
SHORTEST, PROMPT_SHARE, UNMET_ROWS = 8, 0.5, 64
PACKED_SHARE = 0.97  # of a packed row's places are filled; into the rest no row fits


def walks(longest: int, seed: int):
    """Rows without end: each word is one of the few that follow the one before it, by a table that all rows share."""
    import numpy as np

    from recipes.packing import Document

    table = np.random.default_rng(0).integers(3, 3 + WORDS, (3 + WORDS, SUCCESSORS))
    generator = np.random.default_rng(seed)
    while True:
        length = round(generator.lognormal(math.log(MEDIAN_SHARE * longest), SPREAD))
        length = min(max(length, SHORTEST), longest)
        words = [int(generator.integers(3, 3 + WORDS))]
        for choice in generator.integers(0, SUCCESSORS, length - 1):
            words.append(int(table[words[-1], choice]))
        yield Document(tuple(words), max(1, int(PROMPT_SHARE * length)))


def prepared(size: str, seed: int):
    """The model with random weights and adapters, on its device: equal for both sides."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llmops_core.training_spec import Lora
    from recipes.devices import choose_device, frozen_dtype, prepare_torch
    from recipes.finetune import with_adapters

    device = choose_device()
    prepare_torch(seed)
    vocabulary, width, inner, layers, heads, groups = SIZES[size][0]
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups, max_position_embeddings=8192,
        tie_word_embeddings=size == "1b",
    )  # fmt: skip
    torch.set_default_dtype(frozen_dtype(device))
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model, with_adapters(model, Lora())


def unmet_loss(model, longest: int) -> float:
    """Mean loss a token of answers that neither side has met, through the model's own forward."""
    import torch

    from recipes.devices import computing
    from recipes.packing import IGNORED, pack
    from recipes.training_loop import whole_loss

    rows, total, count = islice(walks(longest, seed=10**6), UNMET_ROWS), 0.0, 0
    with torch.no_grad(), computing(model.device):
        for row in rows:
            batch = pack([[row]], len(row.tokens), 0).to(model.device)
            learned = int((batch.targets != IGNORED).sum())
            total, count = total + float(whole_loss(model, batch)) * learned, count + learned
    return total / count


def measured(model, tokens: int, computed: int, seconds: float, processor: float, longest: int) -> dict[str, object]:
    from recipes.devices import gpu_report
    from recipes.training_report import peak_memory_bytes

    figures = {"tokens": tokens, "computed": computed, "seconds": seconds, "processor": processor}
    figures |= gpu_report(model, tokens / seconds, 1)
    figures["peak"] = figures.get("peak_gpu_memory_bytes", peak_memory_bytes())
    model.eval()
    figures["loss"] = unmet_loss(model, longest)
    return figures


def ours(size: str, steps: int, seed: int, trainer_rows: int) -> dict[str, object]:
    from recipes.devices import recompute
    from recipes.low_rank import quicken_adapters
    from recipes.progress import Progress
    from recipes.training_loop import Schedule, train

    model, adapted = prepared(size, seed)
    longest, tokens, rate = SIZES[size][1]
    recompute(model)
    quicken_adapters(adapted, tokens)
    schedule = Schedule(seed, steps, rate, tokens, longest, max(1, steps // 20))
    documents, before = taught(size, steps, seed), time.process_time()
    trained = train(model, documents, schedule, 0, Progress())
    processor = time.process_time() - before
    return measured(model, trained.tokens, steps * tokens, trained.seconds, processor, longest)


def trainer(size: str, steps: int, seed: int, trainer_rows: int) -> dict[str, object]:
    import torch
    from transformers import Trainer, TrainingArguments

    model, adapted = prepared(size, seed)
    torch.use_deterministic_algorithms(False)  # the Trainer's default, and quicker
    longest, tokens, rate = SIZES[size][1]
    documents = taught(size, steps, seed)
    rows_per_step = tokens * len(documents) / sum(len(each.tokens) for each in documents)
    passes = max(1, round(rows_per_step / trainer_rows))
    computed = 0

    def padded(rows: list[dict[str, object]]) -> dict[str, torch.Tensor]:
        """What DataCollatorForSeq2Seq does, without a tokenizer."""
        nonlocal computed
        chosen = [documents[int(str(row["index"]))] for row in rows]
        width = max(len(each.tokens) for each in chosen)
        computed += width * len(chosen)
        shape = (len(chosen), width)
        ids, mask, labels = torch.zeros(shape).long(), torch.zeros(shape).long(), torch.full(shape, -100)
        for row, each in enumerate(chosen):
            ids[row, : len(each.tokens)] = torch.tensor(each.tokens)
            mask[row, : len(each.tokens)] = 1
            labels[row, each.prompt_tokens : len(each.tokens)] = torch.tensor(each.tokens[each.prompt_tokens :])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=trainer_rows, gradient_accumulation_steps=passes,
            num_train_epochs=1, learning_rate=rate, warmup_steps=max(1, steps // 20), lr_scheduler_type="linear",
            adam_beta2=0.95, max_grad_norm=1.0, optim="adamw_torch_fused", logging_steps=20, save_strategy="no",
            report_to=[], seed=seed, use_cpu=model.device.type == "cpu", bf16=model.dtype == torch.bfloat16,
            gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
            remove_unused_columns=False, dataloader_pin_memory=model.device.type == "cuda", disable_tqdm=True,
        )  # fmt: skip
        rows = [{"index": index} for index in range(len(documents))]
        run = Trainer(model=adapted, args=arguments, train_dataset=rows, data_collator=padded)
        started, before = time.monotonic(), time.process_time()
        run.train()
        seconds, processor = time.monotonic() - started, time.process_time() - before
    return measured(model, sum(len(each.tokens) for each in documents), computed, seconds, processor, longest)


def taught(size: str, steps: int, seed: int):
    """As many rows as the recipe packs into its steps, so that each side meets each of them once."""
    longest, tokens, _ = SIZES[size][1]
    rows, left = walks(longest, seed), PACKED_SHARE * steps * tokens
    chosen = []
    while left > 0:
        chosen.append(next(rows))
        left -= len(chosen[-1].tokens)
    return chosen


def line(figures: dict[str, float]) -> str:
    waste = 100 - 100 * figures["tokens"] / figures["computed"]
    work = f"{figures['tokens']:.0f} tokens, beside {waste:.0f} % padding, {figures['seconds']:.1f} s"
    speed = f"{figures['tokens'] / figures['seconds']:.0f} tokens/s"
    if "device" not in figures:  # a processor has other work too
        speed += f" ({figures['tokens'] / figures['processor']:.0f} per processor second)"
    mfu = f"MFU {figures['mfu_percent']:.1f} %" if "mfu_percent" in figures else "no MFU (no peak is stated)"
    return f"{work}, {speed}, {mfu}, peak {figures['peak'] / 1e9:.2f} GB, loss {figures['loss']:.4f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trainer-rows", type=int, default=8)
    parser.add_argument("--side", choices=["ours", "trainer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    be_a_good_neighbour()
    if options.side:
        side = ours if options.side == "ours" else trainer
        print(json.dumps(side(options.size, options.steps, options.seed, options.trainer_rows)))
        return 0
    results = {}
    for side in ("trainer", "ours"):
        command = [sys.executable, *sys.argv, "--side", side]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return 1
        results[side] = json.loads(done.stdout.splitlines()[-1])
        device = results[side].get("device", f"processor, load {os.getloadavg()[0]:.2f}")
        print(f"{side:8} {line(results[side])}, {device}", flush=True)
    rates = {side: figures["tokens"] / figures["seconds"] for side, figures in results.items()}
    ratio, losses = rates["ours"] / rates["trainer"], [results[side]["loss"] for side in ("ours", "trainer")]
    print(f"{ratio:.2f} times the Trainer's tokens/s; loss {losses[0]:.4f} and {losses[1]:.4f}")
    return 0 if ratio >= 1.5 and losses[0] <= 1.01 * losses[1] else 1


if __name__ == "__main__":
    sys.exit(main())
