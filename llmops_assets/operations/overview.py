"""Where every model stands: the ledger's fold, what answers now, and what the environment lacks for models that were
never tried."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from llmops_assets.deploying import public_url
from llmops_assets.operations.endpoint import status_of
from llmops_assets.operations.watching import heads, own_models
from llmops_assets.release import open_release, spec_at
from llmops_assets.repositories import doors_of, named
from llmops_core.errors import EnvironmentLacks, InputError, Problem
from llmops_core.names import shown, why_no_model
from llmops_core.routing import Environment
from llmops_core.status import ENVIRONMENTS, SILENT, Blocked, ModelStatus, Retirement, Serving, fold
from llmops_core.validation import lacks
from llmops_core.verdict import Verdict
from resources.wiring import Platform

READY_LIMIT_SECONDS = 6.0  # the gateway itself waits 5 s for a server


def overview(platform: Platform) -> list[ModelStatus]:
    """One status a model: those of the head of each repository's branch, and those that still serve without one."""
    facts = platform.ledger.facts()
    known = list(heads(platform))
    committed = {model: (view, head) for view, head in known for model in own_models(view, head)}
    readable = {view.repository for view, _ in known}
    removed = sorted({fact.model for fact in facts} - set(committed))
    found = [_with_lacks(*at, _back(fold(model, facts))) for model, at in sorted(committed.items())]
    return [
        _looked_at(platform, status)
        for status in (*found, *(_removed(platform, fold(model, facts), readable) for model in removed))
    ]


def known_models(platform: Platform) -> list[str]:
    """Those of the head of each repository's branch, and those that anything was ever done for."""
    committed = {model for view, head in heads(platform) for model in own_models(view, head)}
    return sorted(committed | {fact.model for fact in platform.ledger.facts()})


def no_such(models: Collection[str], known: Collection[str], argument: str) -> InputError:
    """The error for names that are no model's."""
    expected = f"one of: {', '.join(known) or 'none'}"
    return InputError(Problem("models", argument, ", ".join(sorted(models)), expected, "there is no such model"))


def _removed(platform: Platform, status: ModelStatus, readable: Collection[str]) -> ModelStatus:
    """A model that no head has: its folder was removed, whether a tick has seen it already or not. Nothing is known of
    that where its repository is not here."""
    repository = doors_of(platform, status.model).repository
    if repository not in readable:
        reason = f"{named(repository)} is not watched any more, or was not fetched here yet"
        return replace(status, blocked=(Blocked("repository", reason), *status.blocked))
    return replace(status, retired=status.retired or Retirement("folder"))


def _back(status: ModelStatus) -> ModelStatus:
    """A folder that is there again, before a tick has seen it."""
    return replace(status, retired=None) if status.retired and status.retired.state == "folder" else status


def why_silent(platform: Platform, model: str, environment: Environment, deployment: str) -> str:
    """Why users get no answer from this deployment of a model; empty when they do. It must be alive itself, and the
    gateway must have a way to it."""
    try:
        health = platform.serving.health(deployment)
    except EnvironmentLacks as error:
        return str(error)
    if health.verdict is not Verdict.PASSED:
        return health.reason
    page = f"{public_url(platform, model, environment)}/ready"
    status = status_of(page, READY_LIMIT_SECONDS)
    return "" if status == 200 else f"{page} answers {status or 'nothing'}"


def _looked_at(platform: Platform, status: ModelStatus) -> ModelStatus:
    """The ledger says what should serve; whether it does is asked."""

    def seen(environment: Environment) -> Serving:
        serving = status.environments[environment]
        trouble = why_silent(platform, status.model, environment, serving.deployment)
        url = public_url(platform, status.model, environment)
        return replace(serving, url=url, state=SILENT if trouble else serving.state, trouble=trouble)

    return replace(status, environments={name: seen(name) for name in ENVIRONMENTS if name in status.environments})


def _with_lacks(platform: Platform, head: str, status: ModelStatus) -> ModelStatus:
    """Adds what stands in the way of any release here, tried or not: a broken spec, a missing GPU or cluster."""
    if fault := why_no_model(status.model):
        return ModelStatus(shown(status.model), blocked=(Blocked("model.yaml", fault),))
    status = replace(status, blocked=tuple(_still_so(platform, head, status)))
    try:
        missing = lacks(spec_at(platform, head, status.model), platform.settings)
        if not missing:
            return status
        found = Blocked("environment", f"{platform.settings.name} cannot run it: {'; '.join(missing)}")
    except InputError as error:
        found = Blocked("model.yaml", str(error))
    others = tuple(blocked for blocked in status.blocked if blocked.stage != found.stage)
    return replace(status, blocked=(found, *others))


def _still_so(platform: Platform, head: str, status: ModelStatus) -> Iterator[Blocked]:
    """Without what was wrong with an earlier commit and is mended in the newest one. Nothing was written then if that
    asks for what was asked for before."""
    for blocked in status.blocked:
        if not blocked.commit or not _is_mended(platform, head, status.model, blocked.stage):
            yield blocked


def _is_mended(platform: Platform, head: str, model: str, stage: str) -> bool:
    try:
        release = open_release(platform, model, head)
    except InputError:
        return False
    asked = platform.ledger.newest(model, "requested", "retired")
    return stage == "model.yaml" or (asked is not None and asked.fingerprint == release.fingerprints["production"])
