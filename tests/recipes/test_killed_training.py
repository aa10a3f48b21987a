"""The whole recipe, killed as machines are: without a word at any moment, or with SIGTERM and a little time."""

import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import pytest

from llmops_core.exit_codes import TRY_AGAIN

PRELOADED = ["recipes.finetune", "recipes.training_loop", "recipes.low_rank", "peft", "transformers.models.llama"]
KILLS = 5


def program(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """What `python -m recipes.finetune` does, in a process that has imported its modules already."""
    from recipes.finetune import main

    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 2)
    sys.exit(main(arguments))


def newest(folder: Path) -> int:
    """The serial number of the checkpoint that was begun last."""
    return max((int(each.name[:8]) for each in folder.glob("*")), default=0)


def wait_for(process: multiprocessing.process.BaseProcess, folder: Path, serial: int) -> None:
    while process.is_alive() and newest(folder) < serial:
        time.sleep(0.005)


@pytest.mark.slow  # imports torch and peft anew, then trains seven times
def test_a_training_that_was_killed_at_random_moments_ended_with_other_weights(
    tmp_path: Path, tiny_llama: Path
) -> None:
    rows = [{"prompt": f"What is {n} and {n + 1}?", "response": str(2 * n + 1)} for n in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = {"method": "lora", "train": "train.jsonl", "steps": 200, "tokens_per_step": 256, "learning_rate": 0.01}
    (tmp_path / "config.json").write_text(json.dumps(plan))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)

    def started(out: str, **environment: str) -> multiprocessing.process.BaseProcess:
        given = {"config": tmp_path / "config.json", "data": tmp_path, "base": tiny_llama, "out": tmp_path / out}
        arguments = [word for name, path in given.items() for word in (f"--{name}", str(path))]
        process = context.Process(target=program, args=(arguments, environment, str(tmp_path / f"{out}.log")))
        process.start()
        return process

    alone = started("alone")
    alone.join()
    assert alone.exitcode == 0
    chance, ends = random.Random(11), list[int | None]()
    while not ends or ends[-1] != 0:
        process = started("cut", LLMOPS_CHECKPOINTS=str(tmp_path / "kept"), LLMOPS_CHECKPOINT_SECONDS="0.02")
        if len(ends) < KILLS:
            wait_for(process, tmp_path / "kept", newest(tmp_path / "kept") + chance.randint(1, 3))
            time.sleep(chance.uniform(0, 0.05))
            (process.terminate if len(ends) % 3 == 2 else process.kill)()
        process.join()
        ends.append(process.exitcode)
    said = (tmp_path / "cut.log").read_text()
    assert len(ends) >= 3 and set(ends) <= {0, -9, -15, TRY_AGAIN}, f"{ends}\n{said}"
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "alone/model.safetensors").read_bytes()
    cut, alone_report = (json.loads((tmp_path / out / "report.json").read_bytes()) for out in ("cut", "alone"))
    assert [cut[name] for name in ("loss_curve", "tokens", "steps")] == [
        alone_report[name] for name in ("loss_curve", "tokens", "steps")
    ]
    resumed = cut["checkpoints"]["resumed_at_steps"]
    assert len(resumed) >= 2 and resumed == sorted(resumed), f"{resumed} {ends}\n{said}"
    print(f"ends {ends}, gone on after steps {resumed}, waited {cut['checkpoints']['waited_percent']} %")
