"""`python -m recipes.pretrain --config config.json --data DIR --out DIR`: the sample's base model from nothing.

A Llama architecture of about a million weights with its own tokenizer (recipes/tokenizer.py; the text format is in
recipes/text_format.py), trained on the questions of pretrain.jsonl. Saved as a Hugging Face folder (safetensors) with
report.json. config.json is the `source.pretrain` mapping of model.yaml.
"""

import argparse
import json
import sys
from pathlib import Path

from llmops_core.errors import LlmopsError
from llmops_core.exit_codes import exit_code_of
from llmops_core.training_spec import Pretrain
from recipes.checkpoints import open_checkpoints
from recipes.configuration import read_configuration
from recipes.process import be_a_good_neighbour
from recipes.progress import open_progress
from recipes.publishing import publishing
from recipes.rows import read_questions
from recipes.training_identity import identity_of

# Three times the usual 0.02: at a width of about a hundred that start is so small that the first hundred steps only
# make weights larger (after 350 steps: loss 0.62 instead of 0.01).
INITIAL_DEVIATION = 0.06


def pretrain(plan: Pretrain, data: Path, out: Path) -> dict[str, object]:
    """Train and publish the base model; returns its report. Raises InputError for data that cannot be learned."""
    file = data / plan.data
    questions = read_questions(file)

    from transformers import LlamaConfig, LlamaForCausalLM

    from recipes.devices import choose_device, fit_into_memory, gauges, prepare_torch
    from recipes.ranks import open_ranks
    from recipes.text_format import encode, token_id
    from recipes.tokenizer import BOS, EOS, PAD, train_tokenizer
    from recipes.training_loop import Schedule, train

    device = choose_device()
    prepare_torch(plan.seed)
    texts = [text for each in questions for text in (each.prompt, f" {each.response}")]
    tokenizer = train_tokenizer(texts, plan.vocabulary_size, plan.context_tokens)
    documents = encode(questions, tokenizer, plan.row_tokens, file)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=plan.hidden_size,
            intermediate_size=plan.feed_forward_size,
            num_hidden_layers=plan.layers,
            num_attention_heads=plan.heads,
            num_key_value_heads=plan.heads,
            max_position_embeddings=plan.context_tokens,
            tie_word_embeddings=True,
            initializer_range=INITIAL_DEVIATION,
            pad_token_id=token_id(tokenizer, PAD),
            bos_token_id=token_id(tokenizer, BOS),
            eos_token_id=token_id(tokenizer, EOS),
        )
    )
    schedule = Schedule(
        plan.seed, plan.steps, plan.learning_rate, plan.tokens_per_step, plan.row_tokens, plan.warmup_steps
    )
    model.to(device)  # type: ignore[arg-type] - a device is what it takes
    with open_ranks() as ranks, open_progress(ranks.first) as progress, publishing(out, ranks.first) as folder:
        checkpoints = open_checkpoints(lambda: identity_of("pretrain", plan, [file], None), ranks.first)
        fit_into_memory(model, plan.tokens_per_step // ranks.world)
        progress.gauges = lambda: gauges(device)
        trained = train(model, documents, schedule, token_id(tokenizer, PAD), progress, checkpoints, ranks)
        report = trained.as_report(model, plan.seed, checkpoints, ranks)
        if ranks.first:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.pretrain")
    for name in ("config", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args(arguments)
    be_a_good_neighbour()
    try:
        pretrain(read_configuration(options.config, Pretrain), options.data, options.out)
    except LlmopsError as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
