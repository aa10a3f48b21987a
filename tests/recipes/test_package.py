"""The packaged file must be the same model: every way to export it slightly wrong has to be found out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_tiny_llama
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from llmops_core.errors import InputError
from recipes import gguf_agreement, gguf_export
from recipes.engines import Served, free_port, running
from recipes.gguf_agreement import Disagreement, agreement
from recipes.gguf_export import LLAMA3_SPLIT, QWEN2_SPLIT, export_gguf, interleave_rotary_halves, split_name
from recipes.package import main
from recipes.tokenizer import CHAT_TEMPLATE

BYTES_ONLY = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def compared(model: Path, out: Path, quantization: gguf_export.Quantization = "f32") -> dict[str, object]:
    out.mkdir()
    export_gguf(model, out / "model.gguf", quantization)
    return agreement(model, out, quantization)


def run_main(model: Path, out: Path, quantization: str = "f32") -> int:
    config = out.with_name("config.json")
    config.write_text(json.dumps({"quantization": quantization}))
    return main(["--config", str(config), "--weights", str(model), "--out", str(out)])


@pytest.mark.parametrize(("quantization", "difference"), [("f32", 1e-4), ("f16", 0.02), ("q8_0", 0.3)])
def test_packaged_model_says_what_the_original_says(tiny_llama, tmp_path, quantization, difference):
    assert run_main(tiny_llama, tmp_path / "out", quantization) == 0
    report = json.loads((tmp_path / "out" / "package.json").read_text())
    figures = report["agreement"]
    assert figures["max_log_probability_difference"] < difference
    assert figures["same_greedy_share"] > 0.95
    assert figures["positions"] > 200
    assert report["bytes"] == (tmp_path / "out" / "model.gguf").stat().st_size
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.gguf", "package.json"]


def test_same_folder_gives_the_same_bytes(tiny_llama, tmp_path):
    for name in ("one.gguf", "two.gguf"):
        export_gguf(tiny_llama, tmp_path / name, "q8_0")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False, "head_dim": 32, "rms_norm_eps": 0.01},
        {"num_key_value_heads": 4, "vocab_size": 420, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"num_key_value_heads": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_variants_of_the_architecture_agree(tmp_path, changes):
    figures = compared(make_tiny_llama(tmp_path / "model", **changes), tmp_path / "out")
    assert figures["same_greedy_share"] == 1.0


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignore_merges"),
    [
        (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
            False,
        ),
        (pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), BYTES_ONLY]), True),
        (pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"), BYTES_ONLY]), False),
    ],
    ids=["smollm", "llama-bpe", "qwen2"],
)
def test_other_ways_to_split_text_agree(tmp_path, pre_tokenizer, ignore_merges):
    model = make_tiny_llama(tmp_path / "model", pre_tokenizer)
    edit(model / "tokenizer.json", lambda content: content["model"].update(ignore_merges=ignore_merges))
    compared(model, tmp_path / "out")


def test_forgotten_rotary_permutation_is_found(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_export, "interleave_rotary_halves", lambda weight, heads: weight)
    with pytest.raises(Disagreement, match="log-probabilities differ"):
        compared(tiny_llama, tmp_path / "out", "q8_0")


def test_wrong_epsilon_is_found(tiny_llama, tmp_path):
    other = altered(tiny_llama, tmp_path, "config.json", lambda config: config.update(rms_norm_eps=0.01))
    (tmp_path / "out").mkdir()
    export_gguf(other, tmp_path / "out" / "model.gguf", "f32")
    with pytest.raises(Disagreement, match="log-probabilities differ"):
        agreement(tiny_llama, tmp_path / "out", "f32")


def test_wrong_splitting_of_text_is_found(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_export, "split_name", lambda path, pre_tokenizer: "qwen2")
    with pytest.raises(Disagreement, match="becomes tokens"):
        compared(tiny_llama, tmp_path / "out")


def test_system_message_and_earlier_turns_reach_neither_transformers_nor_llama_cpp(tiny_llama, tmp_path):
    from transformers import AutoTokenizer

    shutil.copytree(tiny_llama, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", "f32")
    question = {"role": "user", "content": "What is the capital of France?"}
    system, turn = ({"role": role, "content": "It's 日本, you know"} for role in ("system", "assistant"))
    with running(Served(tmp_path, "tiny", free_port(), context_tokens=128, parallel=1), tmp_path / "log") as url:
        alone = gguf_agreement._compare_chat(url, tokenizer, [question])
        for chat in ([system, question], [question, turn, question], [system, question, turn, question]):
            assert gguf_agreement._compare_chat(url, tokenizer, chat) == alone


def test_changed_chat_template_is_found(tiny_llama, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_llama, other)
    (other / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    (tmp_path / "out").mkdir()
    export_gguf(other, tmp_path / "out" / "model.gguf", "f32")
    with pytest.raises(Disagreement, match="chat template"):
        agreement(tiny_llama, tmp_path / "out", "f32")


def test_disagreeing_file_is_not_published(tiny_llama, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gguf_export, "interleave_rotary_halves", lambda weight, heads: weight)
    assert run_main(tiny_llama, tmp_path / "out", "q8_0") == 65
    assert "log-probabilities differ" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_weights_that_overflow_when_quantised_are_packaged_as_float32(tiny_llama, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_llama, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    wild = {name: values * (3000 if "mlp" in name else 1) for name, values in load_file(file).items()}
    save_file(wild, file, metadata={"format": "pt"})
    assert run_main(tmp_path / "model", tmp_path / "out", "q8_0") == 0
    report = json.loads((tmp_path / "out" / "package.json").read_text())
    assert (report["quantization"], report["asked"]) == ("f32", "q8_0")
    assert "loses too much" in report["instead_because"]
    assert report["agreement"]["same_greedy_share"] == 1.0


def test_difference_that_is_no_number_fails():
    positions = [gguf_agreement.Position(float("nan"), True)]
    with pytest.raises(Disagreement):
        gguf_agreement._judged(positions, gguf_agreement.LIMITS["q8_0"])


def test_too_many_other_choices_fail():
    positions = [gguf_agreement.Position(0.1, number % 5 != 0) for number in range(100)]
    with pytest.raises(Disagreement, match=r"80\.0%"):
        gguf_agreement._judged(positions, gguf_agreement.LIMITS["q8_0"])


def test_probabilities_stop_where_the_server_leaves_a_token_out():
    entry = {"id": 5, "top_logprobs": [{"id": 5, "logprob": -0.1}]}
    answer = {"tokens": [5, 9, 5], "completion_probabilities": [entry, entry]}
    assert gguf_agreement._probabilities_in_step(answer) == [{5: -0.1}]


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def altered(model: Path, tmp_path: Path, file: str, change) -> Path:
    shutil.copytree(model, tmp_path / "altered")
    edit(tmp_path / "altered" / file, change)
    return tmp_path / "altered"


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config.json", lambda c: c.update(architectures=["GPT2LMHeadModel"]), "LlamaForCausalLM"),
        ("config.json", lambda c: c.pop("architectures"), "LlamaForCausalLM"),
        ("config.json", lambda c: c["rope_parameters"].update(rope_type="yarn"), "rope_type"),
        ("config.json", lambda c: c.update(attention_bias=True), "attention_bias"),
        ("config.json", lambda c: c.update(vocab_size=10), "vocab_size"),
        ("config.json", lambda c: c.update(num_hidden_layers=1), "model.layers.1"),
        ("tokenizer.json", lambda c: c["model"].update(type="Unigram"), "byte-level BPE"),
        ("tokenizer.json", lambda c: c.update(normalizer={"type": "NFKC"}), "normalizer"),
        ("tokenizer.json", lambda c: c["pre_tokenizer"].update(add_prefix_space=True), "pre_tokenizer"),
        ("tokenizer.json", lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer"),
        ("tokenizer.json", lambda c: c["model"].update(ignore_merges=True), "ignore_merges"),
    ],
)
def test_what_has_no_exact_counterpart_is_refused_by_name(tiny_llama, tmp_path, capsys, file, change, named):
    model = altered(tiny_llama, tmp_path, file, change)
    assert run_main(model, tmp_path / "out") == 65
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named(tiny_llama, tmp_path, capsys, missing):
    shutil.copytree(tiny_llama, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    assert run_main(tmp_path / "model", tmp_path / "out") == 65
    assert missing.rsplit(".", 1)[-1] in capsys.readouterr().err


def test_cut_off_weights_are_refused(tiny_llama, tmp_path, capsys):
    shutil.copytree(tiny_llama, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert run_main(tmp_path / "model", tmp_path / "out") == 65
    assert "model.safetensors" in capsys.readouterr().err


def test_unknown_quantization_names_the_offered_ones(tiny_llama, tmp_path, capsys):
    assert run_main(tiny_llama, tmp_path / "out", "q4_k") == 65
    assert "q8_0" in capsys.readouterr().err


def test_full_output_folder_is_left_alone(tiny_llama, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    assert run_main(tiny_llama, tmp_path / "out") == 65
    assert (tmp_path / "out" / "precious").read_text() == "mine"


def test_earlier_folders_carry_rope_theta_at_the_top():
    assert gguf_export._rope({"rope_theta": 5.0, "rope_scaling": None})["rope_theta"] == 5.0


def test_rope_scaling_of_earlier_folders_is_seen(tmp_path):
    config = {"architectures": ["LlamaForCausalLM"], "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    with pytest.raises(InputError, match="llama3"):
        gguf_export._refuse_unsupported(tmp_path, config)


def test_split_after_another_step_is_not_taken_for_gpt2(tmp_path):
    steps = [{"type": "Punctuation"}, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]
    with pytest.raises(InputError):
        split_name(tmp_path, {"type": "Sequence", "pretokenizers": steps})


@given(heads=st.integers(1, 8), half=st.integers(1, 16), width=st.integers(1, 4))
def test_interleaving_makes_rotated_pairs_neighbours(heads, half, width):
    rows = heads * 2 * half
    weight = np.arange(rows * width).reshape(rows, width)
    result = interleave_rotary_halves(weight, heads)
    for head in range(heads):
        first = head * 2 * half
        for pair in range(half):
            assert (result[first + 2 * pair] == weight[first + pair]).all()
            assert (result[first + 2 * pair + 1] == weight[first + pair + half]).all()
