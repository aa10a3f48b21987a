"""How a question becomes tokens, the same in training, in evaluation and behind the serving engine.

    <bos>What is the capital of France? Paris<eos>

The prompt is the plain question. The answer follows after one blank, as the next word of a text would, and ends with
<eos>. Prompt and answer are tokenized apart, because that is what a server does: it sees the prompt alone. So a bare
prompt sent to /v1/completions works, and the chat template renders the last user message to the very same text. <bos>
is added by the tokenizer (and by llama.cpp, `add_bos_token`), not written by the caller.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_core.errors import InputError, Problem
from recipes.packing import Document
from recipes.rows import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(
    questions: Sequence[Question], tokenizer: "PreTrainedTokenizerBase", width: int, file: Path
) -> list[Document]:
    """Token documents of all rows. Raises InputError naming the row that is longer than `width` tokens."""
    prompts = tokenizer([question.prompt for question in questions])["input_ids"]
    responses = tokenizer([f" {question.response}" for question in questions], add_special_tokens=False)["input_ids"]
    documents, eos = [], token_id(tokenizer, tokenizer.eos_token)
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True), start=1):
        tokens = (*prompt, *response, eos)
        if len(tokens) > width:
            message = "the row does not fit; shorten it or raise row_tokens"
            raise InputError(Problem(str(file), f"row {number}", f"{len(tokens)} tokens", f"at most {width}", message))
        documents.append(Document(tokens, len(prompt)))
    return documents


def token_id(tokenizer: "PreTrainedTokenizerBase", token: object) -> int:
    """The number of a special token. Raises InputError if the tokenizer has none: an answer would have no end."""
    number = tokenizer.convert_tokens_to_ids(token) if isinstance(token, str) else None
    if not isinstance(number, int):
        message = "the tokenizer lacks a special token that marks the end of an answer"
        raise InputError(Problem("tokenizer_config.json", "eos_token", repr(token), "a token it knows", message))
    return number
