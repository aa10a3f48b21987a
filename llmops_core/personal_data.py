"""Finding personal data in text by shape and, where the kind has one, by checksum.

Shapes alone would drown people in false alarms (every population figure looks like a phone number), so each kind is
held to what makes it that kind: IBANs to ISO 13616's modulo 97, card numbers to Luhn's sum (ISO/IEC 7812) and an
issuer's prefix, identity numbers to their check digits or reserved ranges, addresses to being routable. Names are not
found this way; no regular expression can. Values are only ever shown masked.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Domains that RFC 2606 and 6761 reserve for examples; an address there is nobody's.
_NOBODYS = re.compile(r"(?:^|[.@])(?:example\.(?:com|net|org)|example|invalid|test|localhost)$", re.IGNORECASE)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_DIGITS = "0123456789"


@dataclass(frozen=True)
class Match:
    """Personal data in a text, from `start` to `end`. `masked` may be shown."""

    kind: str
    start: int
    end: int
    masked: str


def find(text: str) -> list[Match]:
    """All personal data in a text, by position. Where two kinds claim the same characters, the surer one wins."""
    digits = sum(map(text.count, _DIGITS))  # counting is thirty times faster than a search that finds nothing
    found: list[Match] = []
    for kind in _KINDS:
        if digits < kind.digits or kind.mark not in text:
            continue
        for match in kind.pattern.finditer(text):
            start, end = match.span()
            if kind.holds(match.group()) and not any(start < other.end and other.start < end for other in found):
                found.append(Match(kind.name, start, end, masked(match.group())))
    return sorted(found, key=lambda match: match.start)


def masked(value: str) -> str:
    """Enough of a value to find it again in the data, too little to use it."""
    return f"{value[:2]}… ({len(value)} characters)"


def mask_all(text: str) -> str:
    """The text with all personal data masked, for display."""
    pieces: list[str] = []
    last = 0
    for match in find(text):
        pieces += [text[last : match.start], f"[{match.kind} {match.masked}]"]
        last = match.end
    return "".join([*pieces, text[last:]])


def is_iban(text: str) -> bool:
    """ISO 13616: the first four characters moved behind, letters as 10 to 35, the number leaves 1 modulo 97."""
    compact = text.replace(" ", "").upper()
    if not 15 <= len(compact) <= 34 or not compact.isalnum() or not compact.isascii():
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def is_card_number(text: str) -> bool:
    """Luhn's sum over 13 to 19 digits that begin as an issuer's numbers do."""
    digits = "".join(_digits(text))
    if not 13 <= len(digits) <= 19 or not re.match(r"4|5[1-5]|2[2-7]|3[0-9]|6(?:011|5|2|4)|50|5[6-8]|6[37]", digits):
        return False
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(value - 9 * (value > 9) for value in doubled)) % 10 == 0


def is_cpf(text: str) -> bool:
    """Brazil's number: two check digits, each a weighted sum modulo 11."""
    digits = [int(digit) for digit in _digits(text)]
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    for length in (9, 10):
        rest = sum(digit * (length + 1 - place) for place, digit in enumerate(digits[:length])) * 10 % 11 % 10
        if rest != digits[length]:
            return False
    return True


def is_dni(text: str) -> bool:
    """Spain's number: the letter is the number modulo 23, from a table."""
    return _DNI_LETTERS[int(text[:8]) % 23] == text[-1].upper()


def _digits(text: str) -> Iterator[str]:
    return (character for character in text if character in _DIGITS)


def _is_routable(text: str) -> bool:
    """A public address points at somebody's line; private, documentation and loopback ones at nobody's."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_somebodys(address: str) -> bool:
    return not _NOBODYS.search(address)


def _always(_: str) -> bool:
    return True


class _Kind(NamedTuple):
    """A pattern, tried only on texts with so many digits and with the mark, and the proof that a match needs."""

    name: str
    digits: int
    mark: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = _always


# Surest first. ASCII digits only: \d would also take digits of other scripts, which the checksums do not mean.
_KINDS = (
    _Kind(
        "e-mail",
        0,
        "@",
        re.compile(r"(?<![\w.+-])[A-Za-z0-9_%+-][\w.%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"),
        _is_somebodys,
    ),
    _Kind("IBAN", 6, "", re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), is_iban),
    _Kind("card number", 13, "", re.compile(r"(?<![\w.,+-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-])"), is_card_number),
    _Kind(  # United States, social security
        "identity number",
        9,
        "-",
        re.compile(r"(?<![\w-])(?!000|666|9[0-9]{2})[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])"),
    ),
    _Kind("identity number", 11, ".", re.compile(r"(?<![\w.])(?:[0-9]{3}\.){2}[0-9]{3}-[0-9]{2}(?!\w)"), is_cpf),
    _Kind("identity number", 8, "", re.compile(r"\b[0-9]{8}-?[A-HJ-NP-TV-Z]\b"), is_dni),
    _Kind(  # United Kingdom, national insurance
        "identity number",
        6,
        "",
        re.compile(r"\b(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?(?:[0-9]{2} ?){3}[A-D]\b"),
    ),
    _Kind("IP address", 4, ".", re.compile(r"(?<![\w.:])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w:]|\.[0-9])"), _is_routable),
    _Kind(
        "IP address",
        1,
        ":",
        re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}(?![\w:])"),
        _is_routable,
    ),
    _Kind(
        "phone number", 9, "", re.compile(r"(?<![\w+])(?:\+|00)[1-9][0-9]{0,2}(?:[ ./()-]{0,3}[0-9]){7,12}(?![0-9])")
    ),
    _Kind("phone number", 10, "", re.compile(r"(?<![\w.,-])\(?[2-9][0-9]{2}\)?[ .-][0-9]{3}[ .-][0-9]{4}(?![\w-])")),
    _Kind(
        "phone number",
        8,
        "",
        re.compile(r"(?<![\w.,-])\(?0[1-9][0-9]{1,4}\)?[ /-][0-9]{3,4}[ -]?[0-9]{3,5}(?![\w-])"),
    ),
)
