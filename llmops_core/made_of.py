"""What a fingerprint is made of, kept beside it: the digest of each ingredient by its name, stage by stage.

A fingerprint alone says that something differs, not what. With these, a release can be compared later, by a platform
whose own rules have changed meanwhile: an ingredient that nobody knew then is no contradiction, one with another value
is. Nobody can edit what is kept, since the fingerprint follows from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from llmops_core.fingerprint import digest_of

RULES = "the platform's rules"  # the ingredient that is raised by hand when a stage's own meaning changes


class StageMadeOf(BaseModel):
    """`ingredients` maps names to digests of their values; `upstream` names the stages before."""

    upstream: tuple[str, ...]
    ingredients: dict[str, str]


MadeOf = dict[str, StageMadeOf]
_READER = TypeAdapter(MadeOf)


@dataclass(frozen=True)
class Differences:
    """Ingredients as `stage: name`: with another value, of rules that do not hold any more, and not known then."""

    other: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def made_of(parts: Mapping[str, Mapping[str, Any]], upstream: Mapping[str, tuple[str, ...]]) -> MadeOf:
    """{stage: what it is made of} in the order of the story. Raises TypeError for a value without a stable form."""
    return {
        stage: StageMadeOf(
            upstream=upstream[stage], ingredients={name: digest_of(value) for name, value in named.items()}
        )
        for stage, named in parts.items()
    }


def fingerprints_of(model: str, parts: MadeOf) -> dict[str, str]:
    """{stage: 64 hexadecimal digits}. Raises KeyError for a stage that comes before one of its own upstream."""
    found: dict[str, str] = {}
    for stage, part in parts.items():
        before = {name: found[name] for name in part.upstream}
        found[stage] = digest_of({"model": model, "ingredients": part.ingredients, "upstream": before})
    return found


def kept(parts: MadeOf) -> dict[str, Any]:
    """Plain JSON, in which the order of stages counts."""
    return {"stages": [{"stage": stage, **part.model_dump(mode="json")} for stage, part in parts.items()]}


def read_kept(document: object) -> MadeOf | None:
    """What was kept; None for what nobody here wrote."""
    try:
        stages = cast("dict[str, list[dict[str, Any]]]", document)["stages"]
        return _READER.validate_python({each["stage"]: each for each in stages})
    except (KeyError, TypeError, ValidationError):
        return None


def compare(then: MadeOf, now: MadeOf) -> Differences:
    """How what was kept differs from what the same commit gives by today's rules."""
    old, new = _flat(then), _flat(now)
    other = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    rules = {name for name in other if name.endswith(f": {RULES}")}
    gone = (old.keys() - new.keys()) | rules
    return Differences(*(tuple(sorted(names)) for names in (other - rules, gone, new.keys() - old.keys())))


def _flat(parts: MadeOf) -> dict[str, str]:
    return {f"{stage}: {name}": value for stage, part in parts.items() for name, value in part.ingredients.items()}
