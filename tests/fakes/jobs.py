"""Jobs in memory: every recipe writes in a millisecond what it would write after minutes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_core.fingerprint import digest_of
from resources.jobs.jobs import Job, Jobs, Progress


class FakeJobs(Jobs):
    """`fails` holds errors that the next jobs of a recipe raise, in order; `right` is the share of right answers,
    `marked_right` the share that its program calls right (None: honestly the same), `diverged_at_step` what trainings
    report. `configs` has the newest configuration of each recipe."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.configs: dict[str, Any] = {}
        self.fails: dict[str, list[Exception]] = {}
        self.right = 1.0
        self.marked_right: float | None = None
        self.diverged_at_step: int | None = None

    def run(self, job: Job, context: Any, on_progress: Callable[[Progress], None]) -> None:
        self.ran.append(job.recipe)
        if self.fails.get(job.recipe):
            raise self.fails[job.recipe].pop(0)
        on_progress({"done": 1, "total": 2, "loss": 0.5, "seconds_left": 1.0})
        out = job.out
        out.mkdir(parents=True)
        config = json.dumps(job.config, indent=1).encode()
        self.configs[job.recipe] = json.loads(config)
        if job.recipe in ("pretrain", "finetune"):
            _trained(out, config, self.diverged_at_step)
        elif job.recipe == "package":
            _packaged(out, config)
        else:
            _evaluated(out, json.loads(config), job.inputs["data"], self.right, self.marked_right)


def _trained(out: Path, config: bytes, diverged_at_step: int | None) -> None:
    """Weights that follow from the configuration alone, as training with a seed does."""
    (out / "model.safetensors").write_bytes(hashlib.sha256(config).digest())
    if json.loads(config).get("method") == "none":
        (out / "report.json").write_text(json.dumps({"method": "none", "loss_curve": [], "seconds": 0.0}))
        return
    report = {"loss_curve": [[0, 4.0], [1, 0.5]], "final_loss": 0.5, "parameters": 7, "tokens_per_second": 9.0}
    (out / "report.json").write_text(json.dumps({**report, "diverged_at_step": diverged_at_step, "seconds": 1.0}))


def _packaged(out: Path, config: bytes) -> None:
    (out / "model.gguf").write_bytes(b"GGUF" + config)
    (out / "package.json").write_text("{}")


def _evaluated(out: Path, config: dict[str, Any], data: Path, right: float, marked_right: float | None) -> None:
    share = right if marked_right is None else marked_right
    suites, lines = [], []
    for suite in config["suites"]:
        rows = [json.loads(line) for line in (data / suite["data"]).read_text(encoding="utf-8").splitlines()]
        marked = [
            {
                "suite": suite["name"],
                "row": digest_of([row["prompt"], row["response"]])[:16],
                "prompt": row["prompt"],
                "answer": row["response"] if index < right * len(rows) else "wrong",
                "correct": index < share * len(rows),
            }
            for index, row in enumerate(rows)
        ]
        correct = sum(line["correct"] for line in marked)
        suites.append({**suite, "correct": correct, "total": len(rows), "errors": 0})
        lines += marked
    (out / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (out / "report.json").write_text(json.dumps({"suites": suites}))
