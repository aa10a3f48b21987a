"""Verdicts: what a measurement means. The worst of several wins, and none at all is an error, never a pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Verdict(IntEnum):
    """Ordered from best to worst."""

    PASSED = 0
    INCONCLUSIVE = 1
    ERROR = 2
    FAILED = 3

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One judged measurement. `value` is None where nothing could be measured; such a finding cannot pass."""

    name: str
    verdict: Verdict
    reason: str
    value: float | None = None
    limit: float | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "verdict": self.verdict.label,
            "reason": self.reason,
            "value": self.value,
            "limit": self.limit,
        }


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst verdict; ERROR for none, because nothing measured is nothing known."""
    return max(verdicts, default=Verdict.ERROR)


def overall(findings: Iterable[Finding]) -> Verdict:
    return worst(finding.verdict for finding in findings)


def reasons(findings: Iterable[Finding]) -> str:
    """The reasons of every finding that did not pass, worst first, as one sentence for people."""
    bad = sorted((f for f in findings if f.verdict is not Verdict.PASSED), key=lambda f: -f.verdict)
    return "; ".join(f"{f.name}: {f.reason}" for f in bad)
