"""How values and places of an input appear in an error: short, on one line, and never with a secret in it."""

import re

_SECRET_NAME = re.compile(r"passw|passphrase|secret|credential|private_?key|api_?key|access_?key|(^|_)token$")
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[0-9A-Z]{12,}|\bgh[pousr]_\w{16,}|\bgithub_pat_\w{16,}"
    r"|\bhf_\w{16,}|\bsk-[\w-]{16,}|\bxox[abeprs]-[\w-]{8,}|\bglpat-[\w-]{12,}|\beyJ[\w-]{8,}\.eyJ"
)
# of an address, also of git's short form; a user alone may be a token
_USERINFO = re.compile(r"(?<=//)[^/\s]*@|^[^/\s:@]+:[^/\s]*@")
_MASK = "(hidden)"
LIMIT_CHARACTERS = 80


def shown(value: object, field: str = "") -> str:
    """`value` for a person's eyes. Masked where the field's name or the value itself looks like a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return _counted("a mapping", len(value), "field")  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return _counted("a list", len(value), "item")  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, str):
        return _shown_text(value, field)
    return str(value)[:LIMIT_CHARACTERS]


def field_name(location: tuple[str | int, ...]) -> str:
    """`("evaluation", "suites", 0, "name")` as `evaluation.suites[0].name`; odd characters escaped, long keys cut."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            plain = part if part.isprintable() and part else repr(part)
            name += ("." if name else "") + _cut(plain)
    return name


def _shown_text(text: str, field: str) -> str:
    if _SECRET_VALUE.search(text) or any(_SECRET_NAME.search(part) for part in re.split(r"[.\[]", field.lower())):
        return _MASK
    return _cut(repr(_USERINFO.sub(f"{_MASK}@", text)))


def _cut(text: str) -> str:
    return text if len(text) <= LIMIT_CHARACTERS else text[: LIMIT_CHARACTERS - 1] + "…"


def _counted(what: str, count: int, of: str) -> str:
    return f"{what} of {count} {of}{'' if count == 1 else 's'}"
