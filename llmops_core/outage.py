"""What is known of something outside that is asked again and again: how long it has failed, and when to ask next.

After each failure the pause doubles, from the usual interval to LONGEST_SECONDS: an outage of a night costs its host a
hundred questions and not thousands, and its end is seen within a quarter of an hour.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

LONGEST_SECONDS = 900.0


@dataclass(frozen=True)
class Reach:
    """`why` it cannot be used, empty when it can; `since` when (seconds since 1970). `failures` in a row; after one,
    nothing is asked before `next_try`."""

    why: str = ""
    since: float = 0
    failures: int = 0
    next_try: float = 0

    def failed(self, now: float, why: str, interval_seconds: float) -> "Reach":
        pause = min(interval_seconds * 2 ** min(self.failures, 30), LONGEST_SECONDS)
        return Reach(why, self.since if self.failures else now, self.failures + 1, now + pause)

    def answered(self, now: float, why: str = "") -> "Reach":
        """It was reached, but lacks what was looked for if `why` says so."""
        return Reach(why, self.since if why and self.why == why and not self.failures else now if why else 0)

    def pauses(self, now: float) -> bool:
        """Must it be left alone now? A clock that was set back does not prolong a pause."""
        return 0 < self.next_try - now <= LONGEST_SECONDS

    @property
    def told(self) -> str:
        """For people; empty when there is nothing to say."""
        if not self.why:
            return ""
        tried = f"; tried {self.failures} times, next at {_clock(self.next_try)}" if self.failures else ""
        return f"{self.why}; since {_clock(self.since)}{tried}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_ADAPTER = TypeAdapter(Reach)


def read_reach(document: object) -> Reach:
    """What was kept; nothing is known where it cannot be read."""
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError:
        return Reach()


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
