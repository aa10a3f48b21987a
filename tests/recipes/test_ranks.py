"""Two processes must take the steps that one takes, and end, stop and go on as one."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from llmops_core.errors import InputError
from llmops_core.exit_codes import TRY_AGAIN
from recipes.process import be_a_good_neighbour

be_a_good_neighbour()

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from recipes.finetune import main as finetune  # noqa: E402
from recipes.packing import Document, batches  # noqa: E402
from recipes.parallel import main as parallel  # noqa: E402
from recipes.ranks import Ranks  # noqa: E402
from recipes.training_loop import Schedule, answer_loss, refuse_idle_processes  # noqa: E402

DOCUMENTS = [Document(tuple(range(5 + n, 14 + 2 * n)), 2 + n % 3) for n in range(11)]
TWO = ["--standalone", "--nproc-per-node=2"]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_parts_of_a_step_did_not_make_the_whole(tiny_llama: Path, world: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    streams = [batches(DOCUMENTS, 128, 32, 0, 1, 0, rank, world) for rank in range(world)]
    alone = batches(DOCUMENTS, 128, 32, 0, 1)
    for _ in range(3):
        whole, parts = next(alone), [next(stream) for stream in streams]
        with torch.no_grad():
            added = sum(float(answer_loss(model, part)) * part.learned_share for part in parts)
            assert added == pytest.approx(float(answer_loss(model, whole)), rel=1e-5)
        assert sum(part.learned_share for part in parts) == pytest.approx(1.0)
        assert {(part.token_count, part.document_count) for part in parts} == {
            (whole.token_count, whole.document_count)
        }


def test_a_process_without_a_row_is_refused_before_it_waits_for_the_others() -> None:
    schedule = Schedule(1, 10, 0.1, tokens_per_step=128, row_tokens=64, warmup_steps=1)
    refuse_idle_processes(schedule, Ranks(0, 2))
    with pytest.raises(InputError, match="192 or more"):
        refuse_idle_processes(schedule, Ranks(0, 3))


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(0)", 0), ("raise KeyError(1)", 1), ("sys.exit(65)", 65), ("sys.exit(75)", 75)]
)
def test_the_code_of_a_recipe_was_lost_on_its_way(tmp_path: Path, ending: str, code: int) -> None:
    (tmp_path / "recipe.py").write_text(f"import sys\n{ending}\n")
    assert parallel([*TWO, str(tmp_path / "recipe.py")]) == code


def test_a_killed_process_looked_like_a_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    assert parallel([*TWO, str(tmp_path / "recipe.py")]) == 128 + signal.SIGKILL


def terminate_after_first(kept: Path) -> None:
    """SIGTERM to this process as soon as a checkpoint is whole; it hands it on to those it started."""
    deadline = time.monotonic() + 120
    while not list(kept.glob("*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow  # starts two processes twice, each of which imports torch and peft
def test_two_processes_that_were_stopped_and_went_on_learnt_something_else(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"What is {n} and {n + 1}?", "response": str(2 * n + 1)} for n in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = {"method": "lora", "train": "train.jsonl", "steps": 100, "tokens_per_step": 1024, "learning_rate": 0.002}
    (tmp_path / "config.json").write_text(json.dumps(plan))

    def words(out: str) -> list[str]:
        given = {"config": tmp_path / "config.json", "data": tmp_path, "base": tiny_llama, "out": tmp_path / out}
        return [word for name, path in given.items() for word in (f"--{name}", str(path))]

    assert finetune(words("alone")) == 0
    monkeypatch.setenv("LLMOPS_CHECKPOINTS", str(tmp_path / "kept"))
    monkeypatch.setenv("LLMOPS_CHECKPOINT_SECONDS", "0.3")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    threading.Thread(target=terminate_after_first, args=(tmp_path / "kept",), daemon=True).start()
    assert parallel([*TWO, "-m", "recipes.finetune", *words("two")]) == TRY_AGAIN
    assert not (tmp_path / "two").exists()
    assert parallel([*TWO, "-m", "recipes.finetune", *words("two")]) == 0
    alone, two = (json.loads((tmp_path / out / "report.json").read_bytes()) for out in ("alone", "two"))
    assert two["tokens"] == alone["tokens"] and two["checkpoints"]["resumed_at_steps"][0] >= 1
    for (step, expected), (_, found) in zip(alone["loss_curve"], two["loss_curve"], strict=True):
        assert found == pytest.approx(expected, rel=1e-3), step
    expected, found = (load_file(tmp_path / out / "model.safetensors") for out in ("alone", "two"))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-3)


def test_the_process_that_only_saw_its_peer_end_was_heard(tmp_path: Path) -> None:
    """Both are found ended at once: one read a wrong row, the other lost it in the middle of a sum."""
    blames = "import os, sys, time\ntime.sleep(0.5)\nsys.exit(65 if os.environ['RANK'] == '1' else 1)\n"
    (tmp_path / "recipe.py").write_text(blames)
    assert parallel([*TWO, str(tmp_path / "recipe.py")]) == 65
