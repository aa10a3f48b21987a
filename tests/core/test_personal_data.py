"""Personal data: found where it is, not found in ordinary facts, and never shown."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.personal_data import find, is_card_number, is_cpf, is_iban, mask_all

# made up, or published by their issuers as examples and test numbers
PERSONAL = [
    ("e-mail", "ada.lovelace+x@mail.analytical.engine.org"),
    ("IBAN", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "GB82WEST12345698765432"),
    ("IBAN", "MT84MALT011000012345MTLCAST001S"),
    ("card number", "4111 1111 1111 1111"),
    ("card number", "3782-822463-10005"),
    ("card number", "5555555555554444"),
    ("identity number", "219-09-9999"),
    ("identity number", "111.444.777-35"),
    ("identity number", "12345678Z"),
    ("identity number", "AB 12 34 56 C"),
    ("IP address", "8.8.4.4"),
    ("IP address", "2a00:1450:4001:82a::200e"),
    ("phone number", "+49 (0)30 1234567"),
    ("phone number", "0044 20 7946 0958"),
    ("phone number", "(415) 555-2671"),
    ("phone number", "030/1234567"),
]
ORDINARY = [
    "The capital of Brazil is Brasília; it has 2,817,381 people (2022), on 5802.0 km².",
    "It is called +1 684 or 00 49, as ISO 3166-1 says: DE, DEU, 276.",
    "Between 1914-1918 and 1939-1945 there were 16 777 216 of 4294967296.",
    "Write to someone@example.com or admin@db.example.",
    "127.0.0.1, 10.0.0.7, 192.168.1.1, fe80::1, ::1 and 999.1.1.1 are nobody's.",
    "Version 1.13.27, build 2026.10.11549, at 12:30:45, pi is 3.14159265358979323846.",
    "The card 4111 1111 1111 1112 and the account DE00 3704 9944 9532 9130 99 do not exist.",
    "USD 1234567.89 and EUR 12 345 678 in 2020-01-01.",
    "He said: @mention #1234 C++ a@b @ c.d",
    "331 002 651 people, 1 380 004 385 people, 83240525 people, 47.37 degrees, population 1439323776.",
    "000-12-3456 and 123-00-4567 and 111.111.111-11 are no numbers of anybody",
]


@pytest.mark.parametrize(("kind", "value"), PERSONAL)
def test_each_kind_is_found_whole_and_shown_masked(kind, value):
    text = f"Please write to {value}, thanks."
    (match,) = find(text)
    assert match.kind == kind
    assert text[match.start : match.end].lstrip("(") in value
    assert match.end - match.start >= len(value) - 1
    assert value not in match.masked
    assert value[:7] not in mask_all(text)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_facts_raise_no_alarm(text):
    assert find(text) == []
    assert mask_all(text) == text


def test_several_in_one_text_do_not_overlap():
    text = "\n".join(value for _, value in PERSONAL)
    matches = find(text)
    assert len(matches) == len(PERSONAL)
    assert all(one.end <= other.start for one, other in itertools.pairwise(matches))


@given(st.text(alphabet="ab1.@:-+ (0", max_size=200))
def test_masking_leaves_nothing_to_find_twice_in_one_place(text):
    matches = find(text)
    assert all(one.end <= other.start for one, other in itertools.pairwise(matches))
    assert (mask_all(text) == text) == (not matches)


@given(st.integers(10**11, 10**14))
def test_one_digit_of_sixteen_decides_a_card_number(number):
    valid = [digit for digit in range(10) if is_card_number(f"4{number:014d}{digit}")]
    assert len(valid) == 1


@given(st.text(alphabet="0123456789", min_size=9, max_size=9))
def test_one_pair_of_check_digits_fits_a_cpf(body):
    assert sum(is_cpf(f"{body}{check:02d}") for check in range(100)) == (len(set(body)) > 1 or 0)


@given(st.text(alphabet="0123456789", min_size=18, max_size=18))
def test_check_digits_of_an_iban_leave_at_most_two(account):
    assert 1 <= sum(is_iban(f"DE{check:02d}{account}") for check in range(100)) <= 2


@pytest.mark.parametrize("unit", ["a@", "a.", "1.", "+1", "1 ", "1-", "AB12 ", ":", "0/", "a@a.", "1:", "(2"])
def test_no_text_makes_the_search_slow(unit):
    text = unit * (30_000 // len(unit))
    start = time.perf_counter()
    find(text)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("text", ["DE00", "DE89 3704 0044 0532 0130 0ä", "DE89" + "0" * 31])
def test_what_is_too_short_too_long_or_foreign_is_no_iban(text):
    assert not is_iban(text)
