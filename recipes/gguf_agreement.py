"""Does the packaged GGUF file say what the Hugging Face model says? Token by token, through the server that will serve.

Two questions, because each can go wrong alone:

- Are texts cut into the same tokens, and chats written with the same template? Checked exactly, on awkward texts
  (digits, spaces, accents, other scripts, emoji, the marks themselves) and on pieces drawn from the whole vocabulary.
- Are the next-token probabilities the same? The server continues each prompt greedily and hands out log-probabilities;
  the Hugging Face model, in float32, is led along the same tokens. Compared are its TOP most likely tokens at each
  position (the largest absolute difference), and whether the most likely token is the same.

The server computes attention in float32 here (--exact), so that float32 weights agree to rounding and what remains for
the others is quantisation alone. Correct exports of small models differed by 2e-5 (f32), 0.014 (f16) and 0.16 nats
(q8_0, which chose the same token at 98 % of positions); LIMITS leave three times that. A wrong rotary layout, epsilon
or theta lies far outside.
"""

import json
import math
import random
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recipes.engines import Served, free_port, running
from recipes.gguf_export import Quantization

TOP = 20  # tokens compared at each position
LISTED = 100  # tokens whose log-probabilities the server hands out
CONTINUED = 16  # tokens generated after each prompt
BATCH = 16  # texts the Hugging Face model reads at once
CONTEXT = 256  # tokens of context while comparing; less where the model holds less

PROMPTS = (
    "What is the capital of France?",
    "Which currency is used in Côte d'Ivoire?",
    "Tell me the languages of Switzerland",
    "The quick brown fox jumps over the lazy dog.",
    "x",
)
AWKWARD_TEXTS = (
    "",
    " ",
    "  two  spaces\tand\ttabs \n\n and lines\r\n",
    "I'm you're they've we'll he'd it's WE'LL don't",
    "0 1 12 123 1234 12345 3.14159 1e-5 ½ ²",
    "naïve Côte d'Ivoire São Tomé Åland Türkiye Việt Nam",
    "日本語 Ελλάδα Россия العربية हिन्दी ไทย 한국",
    "🙂🇫🇷👩‍👩‍👧 \u200b\ufeff",
    "a_b-c/d\\e (f) [g] {h} <i> | & %% $$ ## @@ !!! ??? ...",
    "CamelCaseWord ALLCAPS mixedCASE123abc",
    'e\u0301 combining, \u00a0non-breaking, “quotes”, "straight"',
)


@dataclass(frozen=True)
class Limits:
    """The largest difference of a log-probability (nats), and the least share of equal most likely tokens."""

    log_probability_difference: float
    same_greedy_share: float


LIMITS: dict[Quantization, Limits] = {
    "f32": Limits(log_probability_difference=0.001, same_greedy_share=0.99),
    "f16": Limits(log_probability_difference=0.05, same_greedy_share=0.97),
    "q8_0": Limits(log_probability_difference=0.5, same_greedy_share=0.9),
}


class Disagreement(Exception):
    """The packaged file is not the model it was made from; says where they differ."""


def agreement(hf_folder: Path, gguf_folder: Path, quantization: Quantization) -> dict[str, object]:
    """Figures of the comparison of `gguf_folder`/model.gguf with `hf_folder`. Raises Disagreement beyond LIMITS."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(hf_folder)
    model: Any = AutoModelForCausalLM.from_pretrained(hf_folder, dtype=torch.float32).eval()
    context_tokens = min(model.config.max_position_embeddings, CONTEXT)
    served = Served(gguf_folder, "candidate", free_port(), context_tokens=context_tokens, parallel=1)
    with TemporaryDirectory() as logs, running(served, Path(logs) / "serve.log", options=("--exact",)) as url:
        texts = [*AWKWARD_TEXTS, *PROMPTS, *_pieces_of_vocabulary(tokenizer)]
        starts = [_compare_tokens(url, tokenizer, text) for text in texts]
        if tokenizer.chat_template:
            starts += [_compare_chat(url, tokenizer, [{"role": "user", "content": prompt}]) for prompt in PROMPTS]
        fitting = [start for start in starts if 0 < len(start) <= context_tokens - CONTINUED]
        continuations = [_continued(url, start) for start in fitting]
    positions = _compared_with(model, continuations)
    if not positions:
        raise Disagreement("no position could be compared: the model answers nothing to every prompt")
    return _judged(positions, LIMITS[quantization]) | {"texts_tokenized": len(starts)}


@dataclass(frozen=True)
class Position:
    """One generated token: the largest difference among the likely tokens, and whether the likeliest is the same."""

    difference: float
    same_greedy: bool


def _judged(positions: list[Position], limits: Limits) -> dict[str, object]:
    difference = max(position.difference for position in positions)
    share = sum(position.same_greedy for position in positions) / len(positions)
    if math.isinf(difference):
        raise Disagreement("llama.cpp's log-probabilities are not finite: its numbers overflow")
    # Written so that a difference that is not a number fails.
    if not difference <= limits.log_probability_difference:
        raise Disagreement(
            f"log-probabilities differ by up to {difference:.4g} over {len(positions)} positions "
            f"(allowed: {limits.log_probability_difference})"
        )
    if share < limits.same_greedy_share:
        raise Disagreement(f"the most likely token is the same at {share:.1%} of positions only ({limits=})")
    figures: dict[str, object] = {
        "max_log_probability_difference": difference,
        "same_greedy_share": share,
        "positions": len(positions),
    }
    return {**figures, "limits": asdict(limits)}


def _pieces_of_vocabulary(tokenizer: Any, texts: int = 60, pieces: int = 24) -> list[str]:
    """Texts glued together from random vocabulary pieces, the same ones every time."""
    draw = random.Random(0)  # noqa: S311 - a sample, not a secret
    size = len(tokenizer)
    chosen = [[draw.randrange(size) for _ in range(pieces)] for _ in range(texts)]
    # Pieces may be parts of a UTF-8 character; what cannot be decoded comes back as a replacement character.
    return [tokenizer.decode(numbers) for numbers in chosen]


def _compare_tokens(url: str, tokenizer: Any, text: str) -> list[int]:
    expected = tokenizer(text)["input_ids"]
    found = _tokens(url, text)
    if found != expected:
        raise Disagreement(f"{text!r} becomes tokens {found} in llama.cpp, {expected} in the tokenizer")
    return expected


def _compare_chat(url: str, tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """The template's tokens. Asked of the server twice: as the template route shows them, and as a chat counts them."""
    written = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    expected = tokenizer(written, add_special_tokens=False)["input_ids"]
    found = _tokens(url, _post(url + "/apply-template", {"messages": messages})["prompt"])
    counted = _post(url + "/v1/chat/completions", {"messages": messages, "max_tokens": 1})["usage"]["prompt_tokens"]
    if found != expected or counted != len(expected):
        difference = f"{found} ({counted} counted) in llama.cpp, {expected} in the tokenizer"
        raise Disagreement(f"the chat template turns {messages!r} into tokens {difference}")
    return expected


def _tokens(url: str, text: str) -> list[int]:
    return _post(url + "/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]


@dataclass(frozen=True)
class Continuation:
    """What the server added to `start`, and its log-probabilities {token: nats} for each added token it listed."""

    start: list[int]
    added: list[int]
    listed: list[dict[int, float | None]]


def _continued(url: str, start: list[int]) -> Continuation:
    question = {"prompt": start, "n_predict": CONTINUED, "n_probs": LISTED, "temperature": 0.0}
    answer = _post(url + "/completion", question | {"cache_prompt": False, "return_tokens": True})
    return Continuation(start, answer["tokens"], _probabilities_in_step(answer))


def _compared_with(model: Any, continuations: list[Continuation]) -> list[Position]:
    """Every listed token, judged by the Hugging Face model. Padding comes last, where causal attention ignores it."""
    import torch

    positions = []
    for first in range(0, len(continuations), BATCH):
        batch = continuations[first : first + BATCH]
        rows = [each.start + each.added for each in batch]
        width = max(map(len, rows))
        with torch.no_grad():
            logits = model(torch.tensor([row + [0] * (width - len(row)) for row in rows])).logits.float()
        for row, each in zip(logits, batch, strict=True):
            place = len(each.start) - 1
            expected = torch.log_softmax(row[place : place + len(each.listed)], dim=-1)
            positions += [_compared(*pair) for pair in zip(expected, each.listed, strict=True)]
    return positions


def _probabilities_in_step(answer: dict[str, Any]) -> list[dict[int, float | None]]:
    """Token number to log-probability, for each generated token up to the first one the server leaves out.

    It lists nothing for a token that ends inside a UTF-8 character, so positions after such a one are out of step.
    """
    steps = []
    for token, entry in zip(answer["tokens"], answer.get("completion_probabilities", []), strict=False):
        if entry["id"] != token:
            break
        steps.append({other["id"]: other["logprob"] for other in entry["top_logprobs"]})
    return steps


def _compared(expected: Any, found: dict[int, Any]) -> Position:
    """A likely token the server does not list is at most as likely as the last one it lists.

    Where llama.cpp's numbers overflow (float16 scales, weights of a diverged training) it lists null.
    """
    if None in found.values():
        return Position(math.inf, same_greedy=False)
    best = expected.topk(min(TOP, len(expected)))
    least = min(found.values())
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    differences = [abs(value - found.get(token, least)) for value, token in pairs]
    return Position(max(differences), int(best.indices[0]) == max(found, key=found.__getitem__))


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - our own server
        return json.load(answer)
