"""Questions to ask a served model: the held-out rows that its evaluation asks too."""

import json
from dataclasses import dataclass
from typing import Any

from llmops_assets.step import Step
from llmops_core.errors import IntegrityError

MAX_TOKENS = 48


@dataclass(frozen=True)
class Asked:
    """A question and the request that asks it, in OpenAI's shape."""

    question: str
    body: dict[str, Any]


def held_out(step: Step, limit: int = 200) -> list[Asked]:
    """The first rows of the first evaluation suite. Raises IntegrityError when there is none."""
    suite = step.release.spec.evaluation.suites[0]
    lines = (step.artifact("dataset").path / suite.data).read_text(encoding="utf-8").splitlines()[:limit]
    if not lines:
        raise IntegrityError(f"{suite.data} has no rows to ask")
    return [_asked(json.loads(line)) for line in lines]


def _asked(row: dict[str, str]) -> Asked:
    messages = [{"role": "user", "content": row["prompt"]}]
    return Asked(row["prompt"], {"messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0})
