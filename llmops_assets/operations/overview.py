"""Where every model stands: the ledger's fold, and what the environment lacks for models that were never tried."""

from dataclasses import replace

from llmops_assets.release import head_of, models_at, spec_at
from llmops_core.errors import InputError
from llmops_core.status import Blocked, ModelStatus, fold
from llmops_core.validation import lacks
from resources.wiring import Platform


def overview(platform: Platform) -> list[ModelStatus]:
    """One status a model: those of the head of the environment's branch, and those that still serve without one."""
    head = head_of(platform)
    facts = platform.ledger.facts()
    committed = models_at(platform, head)
    retired = sorted({fact.model for fact in facts} - set(committed))
    found = [_with_lacks(platform, head, fold(model, facts)) for model in committed]
    return found + [fold(model, facts) for model in retired]


def _with_lacks(platform: Platform, head: str, status: ModelStatus) -> ModelStatus:
    """Adds what stands in the way of any release here, tried or not: a broken spec, a missing GPU or cluster."""
    try:
        missing = lacks(spec_at(platform, head, status.model), platform.settings)
        reason = f"{platform.settings.name} cannot run it: {'; '.join(missing)}" if missing else ""
    except InputError as error:
        reason = str(error)
    if not reason:
        return status
    others = tuple(blocked for blocked in status.blocked if blocked.stage != "environment")
    return replace(status, blocked=(Blocked("environment", reason), *others))
