"""The sample model's own tokenizer: byte-level BPE as GPT-2's, so any text has tokens and llama.cpp knows the rules.

It is trained on every word of the pretraining rows, names of the new half included, so that fine-tuning meets words
and not letters: with 2304 entries nearly every name and answer is one token, with 1024 they are three or four, and
most wrong answers are misspelt ones. `<bos>` stands before every text; the chat template is the text of the last user
message itself. System messages are ignored, since no such text was ever trained on. The template must look at them for
that: llama.cpp puts what a template does not look at before the user's words, and the model would read something else
than transformers gives it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ignored = message['content'] %}"
    "{% elif message['role'] == 'user' and loop.last %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, context_tokens: int) -> "PreTrainedTokenizerFast":
    """A tokenizer with at most `vocabulary_size` entries, special tokens first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        add_bos_token=True,
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_tokens,
        clean_up_tokenization_spaces=False,
    )
