"""What a canary demands before a candidate may have more traffic, and what it counts.

**Two questions, asked of errors and of slowness alike.** Is harm proven (the rate is above its limit, or above the
baseline's by more than the margin)? Then back at once. Is safety proven (the rate is below the level that nobody
could tolerate)? Only then on. In between: hold, until the step's time is over.

**Only the current step counts.** A proof of safety at 10 % of the load says nothing about 50 %, and a candidate that
breaks under a new weight must not be shielded by its good past. Adding the earlier steps' requests to the search for
harm was tried and finds nothing sooner: a step is passed only with rates within the limits, so what it would add
speaks against harm.

**Alpha.** In each step four tests can roll a good candidate back: errors and slowness, each against its limit and
against the baseline. Each has alpha / (4 * steps) for all its looks together, so by the union bound the whole canary
rolls a candidate that keeps within both limits and both margins back for harm with probability at most alpha.
Safety needs proof in errors *and* in slowness, and nothing is gained by failing one of them: each has the whole alpha
(an intersection-union test, Berger 1982). A candidate with an intolerable rate passes a step with probability at most
alpha.

**How many requests a step needs** with none bad (`sequential.requests_needed`):

    intolerable rate     2 %    5 %    10 %    20 %
    alpha 0.05           188     74      36      17
    alpha 0.01           277    109      53      25
    alpha 0.001          400    158      77      36

With the defaults, steps of 10, 25 and 50 %, 100 requests/s and a tick every second, a candidate as good as its
baseline is through after these seconds (median of simulations), and a bad one beside a good baseline is back:

    errors 0 %, slow 0 %          19     errors 3 %              back after 38
    errors 0.2 %, slow 1 %        21     errors 5 %              back after 17
    errors 0.5 %, slow 3 %        36     errors 10 %, slow 15 %  back after  7

A rate between the limit and the intolerable one can go either way; that it also must not be *seen* above its limit in
the step keeps most of those out. A candidate whose true rate is close to its limit may run out of time.
"""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from llmops_core.fields import Violation, refuse

Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0, strict=True)]
Margin = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ArmCounts:
    """Requests of one arm since the canary began. A failed request counts as slow: it gave no answer in time."""

    requests: Count = 0
    failures: Count = 0
    slow: Count = 0

    @model_validator(mode="after")
    def _parts_fit_the_whole(self) -> Self:
        if not self.failures <= self.slow <= self.requests:
            raise ValueError(
                f"failures <= slow <= requests does not hold: {self.failures}, {self.slow}, {self.requests}"
            )
        return self

    def since(self, earlier: "ArmCounts") -> "ArmCounts":
        """What was added after `earlier`. Raises ValueError if that is not possible."""
        return ArmCounts(
            requests=self.requests - earlier.requests,
            failures=self.failures - earlier.failures,
            slow=self.slow - earlier.slow,
        )


class CanaryPolicy(BaseModel):
    """Limits are shares of requests (0.01 is 1 %), margins are differences of shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps_percent: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(default=(10, 25, 50), min_length=1)
    alpha: Rate = 0.01
    max_error_rate: Rate = 0.01
    immediate_error_rate: Rate = 0.05
    max_slow_rate: Rate = 0.05
    immediate_slow_rate: Rate = 0.10
    error_margin: Margin = 0.005
    slow_margin: Margin = 0.02
    min_requests_per_step: int = Field(default=100, ge=1)
    max_seconds_per_step: float = Field(default=300, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        refuse(_violations(self))
        return self


def _violations(policy: CanaryPolicy) -> Iterator[Violation]:
    steps = policy.steps_percent
    for index in range(1, len(steps)):
        if steps[index] <= steps[index - 1]:
            message = "the shares must rise from step to step; raise this one, or remove it"
            yield Violation(("steps_percent", index), steps[index], f"more than {steps[index - 1]}", message)
    for bad in ("error", "slow"):
        least, seen = getattr(policy, f"max_{bad}_rate"), getattr(policy, f"immediate_{bad}_rate")
        if seen <= least:
            message = f"what ends a canary at once must be above max_{bad}_rate; raise it"
            yield Violation((f"immediate_{bad}_rate",), seen, f"more than {least:g}", message)
