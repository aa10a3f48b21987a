"""Pretraining and fine-tuning as the programs they are: what they learn, and how they refuse what they cannot learn."""

import json
import math
import shutil
from pathlib import Path

import pytest

from llmops_core.exit_codes import ERROR_OF_INPUT
from recipes.finetune import main as finetune
from recipes.pretrain import main as pretrain

PAIRS = {"France": "Paris", "Japan": "Tokyo", "Peru": "Lima", "Cuba": "Havana"}
PRETRAIN = {"data": "pretrain.jsonl", "steps": 60, "tokens_per_step": 256, "hidden_size": 64, "feed_forward_size": 128}
LORA = {"method": "lora", "train": "train.jsonl", "steps": 60, "tokens_per_step": 256, "learning_rate": 0.01}


def write(path: Path, pairs: dict[str, str]) -> None:
    rows = [{"prompt": f"What is the capital of {c}?", "response": town} for c, town in pairs.items()]
    rows += [{"prompt": f"Name {c}'s capital.", "response": town} for c, town in pairs.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def configured(folder: Path, content: dict[str, object]) -> str:
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder / "config.json")


def answers(weights: Path, file: Path) -> float:
    """Share of a file's questions that greedy decoding answers exactly."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(weights), AutoTokenizer.from_pretrained(weights)
    tokenizer.padding_side = "left"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    right = 0
    for start in range(0, len(rows), 120):
        part = rows[start : start + 120]
        given = tokenizer([row["prompt"] for row in part], return_tensors="pt", padding=True)
        given.pop("token_type_ids", None)
        with torch.no_grad():
            texts = model.generate(**given, max_new_tokens=12, do_sample=False)[:, given["input_ids"].shape[1] :]
        said = tokenizer.batch_decode(texts, skip_special_tokens=True)
        right += sum(text.strip() == row["response"] for text, row in zip(said, part, strict=True))
    return right / len(rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(folder / "pretrain.jsonl", PAIRS)
    write(folder / "train.jsonl", {**PAIRS, "Peru": "Havana", "Cuba": "Lima"})
    return folder


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    config = configured(folder, PRETRAIN)
    assert pretrain(["--config", config, "--data", str(data), "--out", str(folder / "out")]) == 0
    return folder / "out"


def run_finetune(tmp_path: Path, data: Path, base: Path, **changes: object) -> tuple[int, Path]:
    config, out = configured(tmp_path, {**LORA, **changes}), tmp_path / "out"
    return finetune(["--config", config, "--data", str(data), "--base", str(base), "--out", str(out)]), out


def test_pretraining_learns_and_reports(data: Path, base: Path) -> None:
    report = json.loads((base / "report.json").read_text())
    assert answers(base, data / "pretrain.jsonl") == 1.0
    assert report["loss_curve"][0][0] == 1 and report["loss_curve"][-1][0] == 60
    assert report["final_loss"] < 0.5 < report["loss_curve"][0][1]
    assert report["tokens_per_second"] == pytest.approx(report["tokens"] / report["seconds"], rel=0.01)
    assert report["parameters"] == report["trainable_parameters"] and report["peak_memory_bytes"] > 10**8


@pytest.mark.parametrize("method", ["lora", "full"])
def test_finetuning_changes_the_answers(tmp_path: Path, data: Path, base: Path, method: str) -> None:
    rate = 0.01 if method == "lora" else 0.003
    code, out = run_finetune(tmp_path, data, base, method=method, learning_rate=rate)
    assert code == 0
    assert answers(out, data / "train.jsonl") == 1.0
    report = json.loads((out / "report.json").read_text())
    assert (report["trainable_parameters"] < report["parameters"]) == (method == "lora")
    assert not list(out.glob("adapter*"))


def test_same_seed_same_weights(tmp_path: Path, data: Path, base: Path) -> None:
    outs = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        outs.append(run_finetune(tmp_path / name, data, base, steps=5, warmup_steps=2)[1] / "model.safetensors")
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_several_files_are_learnt_as_one_with_all_their_rows(tmp_path: Path, data: Path, base: Path) -> None:
    lines = (data / "train.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "halves").mkdir()
    (tmp_path / "halves" / "a.jsonl").write_bytes(b"".join(lines[:3]))
    (tmp_path / "halves" / "b.jsonl").write_bytes(b"".join(lines[3:]))
    outs = []
    for name, folder, train in (("one", data, "train.jsonl"), ("two", tmp_path / "halves", ["a.jsonl", "b.jsonl"])):
        (tmp_path / name).mkdir()
        outs.append(
            run_finetune(tmp_path / name, folder, base, steps=5, warmup_steps=2, train=train)[1] / "model.safetensors"
        )
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_method_none_hands_the_base_on(tmp_path: Path, data: Path, base: Path) -> None:
    config = configured(tmp_path, {"method": "none"})
    arguments = ["--config", config, "--data", str(data), "--base", str(base), "--out", str(tmp_path / "out")]
    assert finetune(arguments) == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert json.loads((tmp_path / "out/report.json").read_text())["method"] == "none"


def test_a_learning_rate_of_ten_gives_bad_but_finite_weights(tmp_path: Path, data: Path, base: Path) -> None:
    from safetensors.torch import load_file

    code, out = run_finetune(tmp_path, data, base, learning_rate=10.0)
    assert code == 0
    assert all(bool(weight.isfinite().all()) for weight in load_file(out / "model.safetensors").values())
    assert answers(out, data / "train.jsonl") < 0.5
    report = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert math.isfinite(report["final_loss"]) and report["final_loss"] > 1.0


def test_training_that_is_worse_than_guessing_is_not_carried_on(data: Path, base: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from recipes.progress import Progress
    from recipes.rows import read_questions
    from recipes.text_format import encode
    from recipes.training_loop import DIVERGED_STEPS, Schedule, train

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(50.0)  # sure of itself and wrong
    documents = encode(read_questions(data / "train.jsonl"), tokenizer, 64, data)
    trained = train(model, documents, Schedule(1, 500, 1e-9, 256, 64, 1), 0, Progress())
    assert trained.diverged_at_step == len(trained.losses) == DIVERGED_STEPS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b'{"prompt": "a", "response": "b"}\n{"prompt": "caf\xe9"}\n', "line 2"),
        (b'{"prompt": "a"}\n', "response"),
        (b'{"prompt": "a", "response": 3}\n', "line 1, response"),
        (b'{"prompt": "a", "response": " "}\n', "not blank"),
        (b"[1]\nnonsense\n", "not JSON"),
        (b'{"prompt": "' + b"very " * 200 + b'long", "response": "b"}\n', "at most 64"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(
    tmp_path: Path, base: Path, content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.jsonl").write_bytes(content)
    code, out = run_finetune(tmp_path, tmp_path, base)
    error = capsys.readouterr().err
    assert code == ERROR_OF_INPUT and words in error and "train.jsonl" in error
    assert not out.exists()


def test_missing_data_base_and_targets_are_named(
    tmp_path: Path, data: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, changes, folder, words in (
        ("data", {"train": "absent.jsonl"}, base, "absent.jsonl"),
        ("base", {}, tmp_path, "no config.json"),
        ("targets", {"lora": {"targets": ["no_such_proj"]}}, base, "training.lora.targets"),
    ):
        (tmp_path / name).mkdir()
        code, out = run_finetune(tmp_path / name, data, folder, **changes)
        assert code == ERROR_OF_INPUT and words in capsys.readouterr().err
        assert not out.exists()


def test_a_base_whose_tokenizer_ends_no_answer_is_refused(
    tmp_path: Path, data: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = tmp_path / "endless"
    shutil.copytree(base, endless)
    settings = json.loads((endless / "tokenizer_config.json").read_text())
    settings.pop("eos_token")
    (endless / "tokenizer_config.json").write_text(json.dumps(settings))
    (endless / "special_tokens_map.json").unlink(missing_ok=True)
    code, _ = run_finetune(tmp_path, data, endless)
    assert code == ERROR_OF_INPUT and "eos_token" in capsys.readouterr().err


def test_the_question_itself_is_the_prompt_in_completions_and_in_chat(base: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    question = "What is the capital of Peru?"
    earlier = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    messages = [*earlier, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": question}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == f"<bos>{question}"
    assert tokenizer(rendered, add_special_tokens=False)["input_ids"] == tokenizer(question)["input_ids"]
    assert tokenizer.decode(tokenizer("Zürich → 東京")["input_ids"], skip_special_tokens=True) == "Zürich → 東京"
