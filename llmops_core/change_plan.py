"""What a change really changes: for each asset of a model, whether it will run and why.

Two revisions are compared by what each asset is made of (plan.ingredients), so a reason names the very field, file or
package that differs, and an asset whose ingredients and upstream are equal has none. Work that exists for the new
fingerprint already, at whatever commit it was done, is used again; so is a verdict against it, and then no asset after
it runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from llmops_core.fingerprint import is_digest
from llmops_core.plan import STAGES, UPSTREAM, ModelInputs, fingerprints, ingredients

SHOWN_CHANGES = 3
_ABSENT = object()


@dataclass(frozen=True)
class Planned:
    """One line of a plan."""

    model: str
    asset: str
    action: Literal["run", "skip"]
    reason: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def plan_change(
    before: ModelInputs | None,
    after: ModelInputs,
    made: Mapping[str, str],
    failed: Mapping[str, str] = MappingProxyType({}),
    absent: str = "the model is new",
) -> list[Planned]:
    """The plan of a model from one revision (None: it was not there, or could not be released; `absent` says which) to
    another.

    `made` is {stage: revision at which it was made} of what exists for the new fingerprints, `failed` the same of what
    did not pass there and is not done again.
    """
    old, new = fingerprints(before) if before else {}, fingerprints(after)
    differences = _differences(before, after)
    rows: list[Planned] = []
    for stage in STAGES:
        upstream = [name for name in UPSTREAM[stage] if old.get(name) != new[name]]
        why = absent if before is None else _reason(differences[stage], upstream)
        if old.get(stage) == new[stage]:
            rows.append(Planned(after.model, stage, "skip", "nothing it depends on changed"))
        else:
            rows.append(plan_stage(after.model, stage, made, failed, why))
    return rows


def plan_stage(model: str, stage: str, made: Mapping[str, str], failed: Mapping[str, str], why: str) -> Planned:
    """One asset of a release: it runs for this reason, unless it exists, or it or one before it failed already."""
    stopped = next((name for name in STAGES[: STAGES.index(stage)] if name in failed), None)
    if stage in made:
        return Planned(model, stage, "skip", f"made at {made[stage][:12]} from the same inputs")
    if stage in failed:
        return Planned(model, stage, "skip", f"it failed at {failed[stage][:12]} from the same inputs: nothing is new")
    if stopped:
        return Planned(model, stage, "skip", f"no run gets there: {stopped} failed")
    return Planned(model, stage, "run", why)


def plan_removed(model: str) -> list[Planned]:
    reason = f"models/{model} was removed: retired, and production keeps serving until `llmops retire {model}`"
    return [Planned(model, stage, "skip", reason) for stage in STAGES]


def plan_untried(model: str, environment: str, missing: Sequence[str]) -> list[Planned]:
    reason = f"{environment} cannot run it: {'; '.join(missing)}"
    return [Planned(model, stage, "skip", reason) for stage in STAGES]


def something_runs(rows: Sequence[Planned]) -> bool:
    return any(row.action == "run" for row in rows)


def as_markdown(title: str, rows: Sequence[Planned]) -> str:
    """A table for a pull request. Texts of a commit cannot break out of their cells."""
    lines = [f"### {_cell(title)}", "", "| model | asset | action | why |", "|---|---|---|---|"]
    lines += [f"| {_cell(r.model)} | {r.asset} | {r.action} | {_cell(r.reason)} |" for r in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    escaped = "".join(f"\\{sign}" if sign in "\\|`*_[]<>#~@!" else sign for sign in text)
    return " ".join(escaped.split())


def _differences(before: ModelInputs | None, after: ModelInputs) -> dict[str, list[str]]:
    """{stage: one text for each ingredient that was added, removed or changed}."""
    if before is None:
        return {}
    old, new = ingredients(before), ingredients(after)
    return {
        stage: [
            _difference(name, old[stage].get(name, _ABSENT), new[stage].get(name, _ABSENT))
            for name in sorted(old[stage].keys() | new[stage].keys())
            if old[stage].get(name, _ABSENT) != new[stage].get(name, _ABSENT)
        ]
        for stage in STAGES
    }


def _difference(name: str, old: Any, new: Any) -> str:
    if old is _ABSENT:
        return f"{name} added"
    if new is _ABSENT:
        return f"{name} removed"
    return f"{name} changed {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    is_md5 = len(text.removesuffix(".dir")) == 32 and set(text.removesuffix(".dir")) <= set("0123456789abcdef")
    if is_digest(value) or is_md5:
        return f"{text[:4]}…"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _reason(changes: Sequence[str], upstream: Sequence[str]) -> str:
    if not changes:
        return f"follows {', '.join(upstream)}"
    more = f" and {len(changes) - SHOWN_CHANGES} more" if len(changes) > SHOWN_CHANGES else ""
    return "; ".join(changes[:SHOWN_CHANGES]) + more
