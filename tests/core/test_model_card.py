"""The model card: complete, honest about what is not known, and deaf to markup in other people's text."""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from llmops_core.model_card import CardFacts, DataFacts, Measured, TrainingFacts, escaped, render
from llmops_core.registration import VersionFacts

CARD = CardFacts(
    version=VersionFacts(
        model="llama-3.1-8b",
        semver="1.2.0-rc.1",
        revision="a" * 40,
        data_digest="1" * 64,
        data_hash="0" * 32 + ".dir",
        base_digest="2" * 64,
        weights_digest="3" * 64,
        evaluation_digest="4" * 64,
        fingerprint="5" * 64,
    ),
    description="Answers questions about countries.\n\nEnglish only.",
    owners=("team:atlas", "ada@example.com"),
    base="pretrained here",
    data=DataFacts({"train": 1200, "test": 300}, "public", "no personal data found in 1500 rows"),
    training=TrainingFacts("lora", {"rank": 16, "learning_rate": 0.003}, 4.25, 0.125),
    evaluation=(
        Measured("new_facts", 0.9725, 0.954, 0.985, 0.95, "passed"),
        Measured("toxicity", None, None, None, 0.1, "inconclusive"),
    ),
    limits=("Knows 220 countries and territories.",),
)
MARKDOWN = MarkdownIt("commonmark").enable("table")
HARMLESS = {"inline", "text", "softbreak", "text_special", "code_inline"}


def tokens(text: str) -> list[Token]:
    """Every token of the rendered text, inner ones too."""
    outer = MARKDOWN.parse(text)
    return [*outer, *(inner for token in outer for inner in token.children or ())]


def shown(text: str) -> str:
    """What a reader sees."""
    return "".join(token.content for token in tokens(text) if token.type in HARMLESS - {"inline"})


def test_every_fact_of_the_origin_is_on_the_card() -> None:
    card = render(CARD)
    for digest in CARD.version.model_dump(exclude={"model", "semver", "fingerprint"}).values():
        assert f"`{digest}`" in card
    text = shown(card)
    for fact in ("llama-3.1-8b 1.2.0-rc.1", "English only.", "team:atlas, ada@example.com", "pretrained here"):
        assert fact in text
    for fact in ("1200", "public", "no personal data found", "lora", "learning_rate", "0.003", "4.25", "0.125"):
        assert fact in text
    for fact in ("0.9725", "0.954 to 0.985", "0.95", "passed", "Knows 220 countries"):
        assert fact in text


def test_what_is_not_known_is_said_and_never_left_out() -> None:
    bare = replace(
        CARD,
        description=" ",
        owners=(),
        base="",
        data=DataFacts({}, None, None),
        training=TrainingFacts("none", {}, None, None),
        evaluation=(),
        limits=(),
    )
    text = shown(render(bare))
    for sentence in ("The intended use is not known.", "Nothing was measured.", "Limits are not known."):
        assert sentence in text
    assert text.count("not known") >= 8
    assert "| toxicity | not known | not known | 0.1 | inconclusive |" in render(CARD)


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[approved](javascript:alert(1))",
        "![x](https://example.com/pixel.png)",
        "<https://example.com>",
        "| verdict | passed |",
        "x\n\n## Evaluation\n\n| all | passed |",
        "x\r\n# Title",
        "`code` **bold** _it_ ~~gone~~",
        "&lt;b&gt; &#x41;",
        "1. one\n- two\n+ three\n=====",
        "    indented code",
        "\\<b>",
        "\u202egnihton\u2066",
    ],
)
def test_no_text_of_others_becomes_markup(attack: str) -> None:
    hostile = replace(
        CARD,
        description=attack,
        owners=(attack,),
        base=attack,
        data=DataFacts({attack: 1}, attack, attack),
        training=TrainingFacts(attack, {attack: attack}, 1.0, 0.5),
        evaluation=(replace(CARD.evaluation[0], name=attack, verdict=attack),),
        limits=(attack,),
    )
    card = render(hostile)
    kinds = {token.type for token in tokens(card)}
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "em_open", "strong_open", "code_block"}
    headings = [after for token, after in zip(tokens(card), tokens(card)[1:], strict=False) if token.tag == "h2"]
    titles = [token.content for token in headings if token.type == "inline"]
    assert titles == ["Origin", "Data", "Training", "Evaluation", "Limits"]
    assert sum(token.type == "tr_open" for token in tokens(card)) == 5 + 1 + 5 + 1 + 3 + 1 + 1 + 1
    assert not any(c in card for c in "\u202e\u2066\r")


def test_ordinary_text_stays_readable_in_the_source() -> None:
    text = "Answers (in English) about 220 countries: capital, currency, ... e.g. Peru's - or mail ada@example.com!"
    assert escaped(text) == text


@given(st.text(max_size=200) | st.text("ab1.)(#-+=*_`~[]!<>&;|\\$: \n\t", max_size=40))
def test_a_reader_sees_the_text_itself(text: str) -> None:
    assert {token.type for token in tokens(escaped(text))} <= HARMLESS | {"paragraph_open", "paragraph_close"}
    kept = "".join(c for c in text if not c.isspace() and not unicodedata.category(c).startswith("C"))
    assert "".join(shown(escaped(text)).split()) == kept


@given(st.text(max_size=300) | st.text("ab1.)(#-+=*_`~[]!<>&;|\\$: \n\t", max_size=40))
def test_a_description_never_adds_a_block_of_another_kind(text: str) -> None:
    plain = {t.type for t in MARKDOWN.parse(render(CARD))}
    assert {t.type for t in MARKDOWN.parse(render(replace(CARD, description=text, limits=(text,))))} <= plain
