"""Errors that say who acts: the system (retry), the author of an input (fix) or a person on call (stop).

Every door turns its vendor's exceptions into one of these, so that callers never match on a vendor's type. A gate's
refusal is not a fault: it is an answer, and carries the stage and the reason that a person will read.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input, in the words of the person who must mend it."""

    file: str
    field: str
    found: str
    expected: str
    message: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return f"{where}: {self.message} (found {self.found}; expected {self.expected})"


class LlmopsError(Exception):
    """Root of all errors this project raises on purpose."""

    exit_code = 1  # of `llmops`; jobs say more (llmops_core/exit_codes.py)


class TransientError(LlmopsError):
    """Retry: the same call may succeed later (a service restarts, a network drops)."""


class Interrupted(LlmopsError):
    """Start again: a program was asked to end before it was done, and kept what it had so far."""


class InputError(LlmopsError):
    """Fix: the author of an input must change it. Carries every problem found, not only the first."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class IntegrityError(LlmopsError):
    """Stop: bytes, signatures or records are not what they were; a person must look before anything goes on."""


class UnknownSigner(IntegrityError):
    """Stop: a signature was made with a key that no allowed signer has (any more)."""


class EnvironmentLacks(LlmopsError):
    """Fix: this environment has no such thing (a GPU, a cluster, a program, a free port). Says what, and what to do."""


class GateRefused(LlmopsError):
    """A gate's answer is no: `stage` names the gate, `reason` is the sentence shown to people."""

    def __init__(self, stage: str, reason: str) -> None:
        self.stage = stage
        self.reason = reason
        super().__init__(f"{stage}: {reason}")
