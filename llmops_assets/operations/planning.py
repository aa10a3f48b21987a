"""Plans: what a release of each model would run, from one revision to another, or from nothing but what exists."""

from collections.abc import Iterator

from llmops_assets.deploying import production_weights
from llmops_assets.operations.changes import change_since
from llmops_assets.release import Release, models_at, open_release
from llmops_core.change_plan import Planned, plan_change, plan_removed, plan_stage, plan_untried
from llmops_core.errors import InputError
from llmops_core.plan import STAGES, ModelInputs
from llmops_core.promotion import PASSED, still_judged
from llmops_core.validation import lacks
from resources.wiring import Platform

DONE_AGAIN = {"staging_tests", "approval", "canary"}  # by each run until they pass


def plan_between(platform: Platform, base: str, head: str) -> list[Planned]:
    """What changes for each model of either revision. Raises InputError when a model of `head` is invalid."""
    touched = set(change_since(platform, base, head).models)
    names = sorted({*models_at(platform, base), *models_at(platform, head)})
    return [row for name in names for row in _model(platform, name, base, head, name in touched)]


def plan_release(platform: Platform, revision: str) -> list[Planned]:
    """What releases of this revision would run here, given all that exists."""
    names = models_at(platform, revision)
    return [row for name in names for row in _from_nothing(open_release(platform, name, revision))]


def _model(platform: Platform, model: str, base: str, head: str, touched: bool) -> list[Planned]:
    if platform.source.read(head, f"models/{model}/model.yaml") is None:
        return plan_removed(model)
    after = open_release(platform, model, head)
    if missing := lacks(after.spec, after.inputs.production):
        return plan_untried(model, platform.settings.name, missing)
    before, absent = _inputs_at(platform, model, base) if touched else (after.inputs, "")
    return plan_change(before, after.inputs, *_made(after), absent)


def _inputs_at(platform: Platform, model: str, base: str) -> tuple[ModelInputs | None, str]:
    """The model as it was; else None, and why."""
    if platform.source.tree_id(base, f"models/{model}/model.yaml") is None:
        return None, "the model is new"
    try:
        return open_release(platform, model, base).inputs, ""
    except InputError:
        return None, f"the model could not be released at {base[:12]}"


def _made(release: Release) -> tuple[dict[str, str], dict[str, str]]:
    """{stage: revision} of what a release would use again: what passed, and what failed and is not done again. An
    evaluation counts beside what serves now."""
    found = release.evidence()
    evaluated, own = found.get("evaluation"), found.get("weights")
    serving = production_weights(release.platform, release.model)
    if evaluated and own and not still_judged(evaluated, own.body["digest"], serving):
        found = {stage: fact for stage, fact in found.items() if STAGES.index(stage) < STAGES.index("evaluation")}
    at = {stage: str(fact.body["revision"]) for stage, fact in found.items()}
    passed = {stage for stage, fact in found.items() if fact.body["verdict"] == PASSED}
    made = {stage: revision for stage, revision in at.items() if stage in passed}
    return made, {stage: revision for stage, revision in at.items() if stage not in passed | DONE_AGAIN}


def _from_nothing(release: Release) -> Iterator[Planned]:
    made, failed = _made(release)
    missing = lacks(release.spec, release.inputs.production)
    if missing and not made:
        yield from plan_untried(release.model, release.platform.settings.name, missing)
        return
    for stage in STAGES:
        nothing = f"nothing exists for {release.fingerprints[stage][:12]}"
        yield plan_stage(release.model, stage, made, failed, nothing)
