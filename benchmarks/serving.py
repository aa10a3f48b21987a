"""Our serving engine beside transformers' generate: the same model, the same prompts, greedy, at concurrency 1, 8, 32.

    python benchmarks/serving.py [--weights FOLDER] [--rows FILE]

FOLDER is a merged Hugging Face folder, by default the newest that `make run` trained; its GGUF file is made here. FILE
has the questions, by default the sample's test rows. Three contenders:

- engine: llama.cpp's server through HTTP, as production runs it (one thread, continuous batching, 32 slots);
- lock: `generate` behind a lock, one request at a time, as a plain web service around a model does it;
- batches: `generate` on left-padded batches of as many prompts as there are clients, all waiting for the slowest.

The two peers run in a process of their own without HTTP, which flatters them. Latency of a batch is that of each of its
requests. Memory is the resident set of the process that holds the model. A first pass of 32 requests is not counted.
"""

import argparse
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from recipes.chat_client import ask_all
from recipes.engines import Served, free_port, running
from recipes.gguf_export import export_gguf

CONCURRENCIES = (1, 8, 32)
ANSWER_TOKENS = 64
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path, default=_newest_weights())
    parser.add_argument("--rows", type=Path, default=Path("data/atlas/test.jsonl"))
    parser.add_argument("--requests", type=int, default=320)
    parser.add_argument("--quantization", choices=("f32", "f16", "q8_0"), default="q8_0")
    options = parser.parse_args()
    if options.weights is None or not options.rows.is_file():
        parser.error("`make run` makes weights and rows; run it first, or name others with --weights and --rows")
    lines = options.rows.read_text(encoding="utf-8").splitlines()[: options.requests]
    prompts = [json.loads(line)["prompt"] for line in lines]
    print(f"{len(prompts)} requests, {options.quantization} for the engine, {psutil.cpu_count()} cores\n")
    measured = {"engine": _engine(options.weights, options.quantization, prompts)}
    for peer in ("lock", "batches"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            measured[peer] = apart.submit(_transformers, peer, options.weights, prompts).result()
    _print_table(measured)


def _newest_weights() -> Path | None:
    found = Path(os.environ.get("LLMOPS_HOME", ".llmops")).glob("artifacts/weights/*/manifest.json")
    return max((path.parent for path in found), key=lambda path: path.stat().st_mtime, default=None)


def _engine(weights: Path, quantization: Any, prompts: list[str]) -> dict[int, Figures]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        export_gguf(weights, folder / "model.gguf", quantization)
        served = Served(folder, "model", free_port(), context_tokens=128, parallel=max(CONCURRENCIES))
        with running(served, folder / "log") as url:
            (server,) = psutil.Process().children()
            ask_all(url, "model", prompts[:32], 8, 60)

            def ask(concurrency: int) -> list[float]:
                answers = ask_all(url, "model", prompts, concurrency, 60)
                failed = [answer.error for answer in answers if answer.error]
                if failed:
                    raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
                return [answer.latency_seconds for answer in answers]

            return _measured(ask, server)


def _transformers(peer: str, weights: Path, prompts: list[str]) -> dict[int, Figures]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)  # as the engine has, and faster than two for a model this small
    tokenizer: Any = AutoTokenizer.from_pretrained(weights, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(weights).eval()

    def generate(texts: list[str]) -> None:
        chats = [[{"role": "user", "content": text}] for text in texts]
        batch = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**batch, do_sample=False, max_new_tokens=ANSWER_TOKENS)
        tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)

    generate(prompts[:32])
    one_by_one = _behind_a_lock(generate, prompts)
    in_batches = _in_batches(generate, prompts)
    return _measured(one_by_one if peer == "lock" else in_batches, psutil.Process())


def _behind_a_lock(generate: Callable[[list[str]], None], prompts: list[str]) -> Callable[[int], list[float]]:
    def ask(concurrency: int) -> list[float]:
        lock = threading.Lock()

        def request(prompt: str) -> float:
            started = time.monotonic()
            with lock:
                generate([prompt])
            return time.monotonic() - started

        with ThreadPoolExecutor(concurrency) as clients:
            return list(clients.map(request, prompts))

    return ask


def _in_batches(generate: Callable[[list[str]], None], prompts: list[str]) -> Callable[[int], list[float]]:
    def ask(concurrency: int) -> list[float]:
        latencies = []
        for first in range(0, len(prompts), concurrency):
            batch = prompts[first : first + concurrency]
            started = time.monotonic()
            generate(batch)
            latencies += [time.monotonic() - started] * len(batch)
        return latencies

    return ask


def _measured(ask: Callable[[int], list[float]], process: psutil.Process) -> dict[int, Figures]:
    figures = {}
    for concurrency in CONCURRENCIES:
        started = time.monotonic()
        latencies = ask(concurrency)
        elapsed = time.monotonic() - started
        p50, p95 = np.quantile(latencies, [0.5, 0.95])
        memory = process.memory_info().rss / 1e6
        figures[concurrency] = {"rate": len(latencies) / elapsed, "p50": p50, "p95": p95, "memory": memory}
    return figures


def _print_table(measured: dict[str, dict[int, Figures]]) -> None:
    print(f"{'':>8} {'clients':>7} {'requests/s':>10} {'p50 ms':>8} {'p95 ms':>8} {'memory MB':>9} {'engine is':>10}")
    for concurrency in CONCURRENCIES:
        ours = measured["engine"][concurrency]["rate"]
        for name, figures in measured.items():
            row = figures[concurrency]
            ratio = "" if name == "engine" else f"{ours / row['rate']:.1f} ×"
            times = f"{row['p50'] * 1e3:>8.1f} {row['p95'] * 1e3:>8.1f}"
            print(f"{name:>8} {concurrency:>7} {row['rate']:>10.1f} {times} {row['memory']:>9.0f} {ratio:>10}")


if __name__ == "__main__":
    main()
