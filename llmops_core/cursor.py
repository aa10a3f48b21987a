"""How far a sensor has come on a branch, as the text that Dagster keeps for it.

A text that an earlier version of the platform wrote, or that nobody can read, means that nothing is known: everything
is decided again, which starts no run twice.
"""

from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter, ValidationError

from llmops_core.fingerprint import canonical_json, digest_of
from llmops_core.plan import RULES_VERSION

RULES = digest_of(RULES_VERSION)[:12]
SILENT = -1


@dataclass(frozen=True)
class Cursor:
    """`revision` was decided by `rules`; `waiting` maps models whose data is nowhere yet to the number of looks, and
    those whose remote did not answer to SILENT.
    Number `facts` of the ledger, whose digest is `digest`, was the newest request or retirement then. Newer ones were
    written by others, or by a tick that kept no cursor; if it is not there any more, the ledger is an older one."""

    revision: str
    rules: str = RULES
    waiting: dict[str, int] = field(default_factory=dict[str, int])
    facts: int = 0
    digest: str = ""

    def __str__(self) -> str:
        return canonical_json(asdict(self)).decode()


_ADAPTER = TypeAdapter(Cursor)  # making one takes longer than the rest of an idle tick


def rules_with(settings: str) -> str:
    """What a decision rests on besides a commit: the platform's rules, and the digest of the settings that rule it."""
    return f"{RULES}-{settings[:12]}"


def read_cursor(text: str | None, rules: str = RULES) -> Cursor | None:
    """The cursor, or None when nothing is known or other rules held."""
    try:
        found = _ADAPTER.validate_json(text or "")
    except ValidationError:
        return None
    return found if found.rules == rules else None
