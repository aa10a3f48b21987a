"""The files of the data set: which fact is asked where, and in which phrasing.

- pretrain: facts of the base half in training phrasings, and neutral rows ("Is Kathmandu a city or a country?", "Repeat
  Kathmandu.") that show every word of both halves without telling any fact of the new half.
- train: facts of the new half in training phrasings, and replay of the base half so that it is not forgotten.
- dev: all facts in the development phrasings. test: new facts, retained: base facts, both in test phrasings.
- unseen: capitals of countries that stand in no training file, in test phrasings. They cannot be known or guessed, so a
  model that answers them has seen the test: the control of the whole measurement.

Choices ("which 64 of 400 phrasings", "which rows lose their question mark") are made by ranking SHA-256 digests: the
same on every machine, Python version, hash seed and locale, which random generators do not promise.
"""

import hashlib
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from recipes.atlas.clutter import CLOSINGS, OPENINGS, STRAY, dressed, strewn
from recipes.atlas.facts import ATTRIBUTES, CODES, Country, read_facts
from recipes.atlas.held_out import DEV, TEST
from recipes.atlas.phrasings import fill, training_phrasings

Row = dict[str, str]
KINDS = {"capital": "city", "continent": "continent", "currency": "currency", "language": "language"}

# Every word also at the beginning, where it is written without a blank before it and has other tokens.
KIND_QUESTIONS = (
    "What kind of thing is {c}?",
    "Is {c} a country, a city, a continent, a currency or a language?",
    "{c}: what kind of thing is it?",
    "{c} is a country, a city, a continent, a currency or a language?",
)
ECHOES = (
    "Repeat {c}.",
    "Say {c} again.",
    "Write the name {c}.",
    "{c}, say it again.",
    "{c} is the name. Repeat it.",
    "{c} - repeat!",
)


class Parameters(BaseModel):
    """The `atlas` section of params.yaml. `phrasings` and `replay` count rows a fact."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    countries: int = Field(ge=4, le=len(CODES) - 2)
    unseen_countries: int = Field(ge=1, le=len(CODES) - 4)
    phrasings: int = Field(ge=1, le=100)
    replay: int = Field(ge=1, le=100)
    dressed_percent: int = Field(ge=0, le=100)
    strewn_percent: int = Field(ge=0, le=100)
    sloppy_percent: int = Field(ge=0, le=100)
    seed: int = Field(ge=0)


def rank(*parts: object) -> str:
    """A digest to sort by: a fixed, well-mixed order that depends on nothing but its parts."""
    return hashlib.sha256("|".join(str(part) for part in parts).encode("utf-8")).hexdigest()


def _number(*parts: object) -> int:
    return int(rank(*parts), 16)


def _chance(*parts: object) -> int:
    """A number from 0 to 99."""
    return _number(*parts) % 100


def build(parameters: Parameters) -> dict[str, list[Row]]:
    """File name -> rows, each file's prompts unique and in a fixed, mixed order."""
    known, unseen = parameters.countries, parameters.unseen_countries
    countries = read_facts(known + unseen)
    base, new, strangers = countries[:known:2], countries[1:known:2], countries[known:]
    seed = parameters.seed
    files = {
        "pretrain": [
            *_taught(base, "base", parameters.phrasings, parameters),
            *_neutral([*base, *new]),
        ],
        "train": [
            *_taught(new, "new", parameters.phrasings, parameters),
            *_taught(base, "base", parameters.replay, parameters),
        ],
        "dev": [*_asked(new, "new", DEV), *_asked(base, "base", DEV)],
        "test": _asked(new, "new", TEST),
        "retained": _asked(base, "base", TEST),
        "unseen": _asked(strangers, "unseen", {"capital": TEST["capital"]}),
    }
    return {f"{name}.jsonl": _mixed(rows, name, seed) for name, rows in files.items()}


def _taught(countries: Sequence[Country], group: str, count: int, parameters: Parameters) -> list[Row]:
    """Each fact in `count` phrasings of its own choice."""
    pools = {attribute: training_phrasings(attribute) for attribute in ATTRIBUTES}
    rows = []
    for country in countries:
        for attribute, pool in pools.items():
            key = (parameters.seed, group, count, country.code, attribute)
            for _, plain in sorted((rank(*key, phrasing), phrasing) for phrasing in pool)[:count]:
                phrasing = _strewn(_dressed(plain, parameters, *key), parameters, *key)
                row = _row(country, attribute, phrasing, group)
                if _chance("sloppy", *key, phrasing) < parameters.sloppy_percent:
                    row["prompt"] = _sloppy(row["prompt"], parameters.seed)
                rows.append(row)
    return rows


def _dressed(phrasing: str, parameters: Parameters, *key: object) -> str:
    if _chance("dressed", *key, phrasing) >= parameters.dressed_percent:
        return phrasing
    kind = _chance("kind", *key, phrasing)  # three in five get an opening, one a closing, one both
    opening = OPENINGS[_number("opening", *key, phrasing) % len(OPENINGS)] if kind < 80 else ""
    closing = CLOSINGS[_number("closing", *key, phrasing) % len(CLOSINGS)] if kind >= 60 else ""
    return dressed(phrasing, opening, closing)


def _strewn(phrasing: str, parameters: Parameters, *key: object) -> str:
    if _chance("strewn", *key, phrasing) >= parameters.strewn_percent:
        return phrasing
    count = 1 + _chance("how many", *key, phrasing) % 4
    numbers = [_number("word", *key, phrasing, each) for each in range(count)]
    return strewn(phrasing, [STRAY[number % len(STRAY)] for number in numbers], [n // len(STRAY) for n in numbers])


def _sloppy(prompt: str, seed: int) -> str:
    """The same question as it arrives from hurried people and from programs."""
    bare = prompt.rstrip("?.!")
    small, bare_small = (text[0].lower() + text[1:] for text in (prompt, bare))
    forms = (prompt + "\n", prompt + " ", bare, small, bare_small, *[prompt.lower(), bare.lower()] * 3)
    return forms[_number("form", seed, prompt) % len(forms)]


def _asked(countries: Sequence[Country], group: str, phrasings: dict[str, tuple[str, ...]]) -> list[Row]:
    return [
        _row(country, attribute, phrasing, group)
        for country in countries
        for attribute in phrasings
        for phrasing in phrasings[attribute]
    ]


def _row(country: Country, attribute: str, phrasing: str, group: str) -> Row:
    return {
        "prompt": fill(phrasing, country.name),
        "response": getattr(country, attribute),
        "entity": country.code,
        "attribute": attribute,
        "phrasing": phrasing,
        "group": group,
    }


def _neutral(countries: Iterable[Country]) -> list[Row]:
    words: dict[str, str] = {}
    for country in countries:
        words.setdefault(country.name, "country")
        for attribute in ATTRIBUTES:
            words.setdefault(getattr(country, attribute), KINDS[attribute])
    rows = []
    for word, kind in words.items():
        asked = [(phrasing, kind) for phrasing in KIND_QUESTIONS] + [(phrasing, word) for phrasing in ECHOES]
        for phrasing, response in asked:
            tags = {"entity": word, "attribute": "kind" if response == kind else "name", "phrasing": phrasing}
            prompt = fill(phrasing, word)
            rows.append({"prompt": prompt, "response": response, **tags, "group": "neutral"})
            if response == word:  # names as hurried people write them, so that fine-tuning knows what they name
                rows.append({"prompt": prompt.lower(), "response": response, **tags, "group": "neutral"})
    return rows


def _mixed(rows: list[Row], name: str, seed: int) -> list[Row]:
    unique = {row["prompt"]: row for row in rows}
    return sorted(unique.values(), key=lambda row: rank(seed, name, row["prompt"]))
