"""Ending a model for good: what serves it in production and staging goes, everything that proves what it was stays.

The `retired` fact comes first: it says who ends the model and why, and takes the next number of its requests, so that
a release that was asked for before refuses to go on (`Step.refuse_if_retired`). Then the routes go, then the servers,
then the registry's alias, and only then is written that nothing serves any more. Each step asks whether there is
anything left to do, so the same command again finishes what a killed one began, and changes nothing when all is done.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmops_assets.canary_end import decide_way_back
from llmops_assets.deploying import serving_now
from llmops_assets.release import head_of, open_release
from llmops_assets.repositories import doors_of, named
from llmops_core.errors import GateRefused, InputError, Problem, TransientError
from llmops_core.facts import Fact
from llmops_core.open_canary import open_canary
from llmops_core.routing import RouteTable
from llmops_core.status import ENVIRONMENTS
from resources.wiring import Platform

ATTEMPTS = 20


@dataclass(frozen=True)
class Retired:
    """`ended` maps environments to the version that served there; empty when nothing was left to end."""

    model: str
    by: str
    reason: str
    at: str
    ended: dict[str, str]


def retire(platform: Platform, model: str, by: str, reason: str, even_though_committed: bool = False) -> Retired:
    """Ends production and staging of a model. Raises GateRefused while its folder is committed, unless told to."""
    committed = _committed(platform, model)
    if committed and not even_though_committed:
        advice = "remove the folder and commit, so that nothing releases it again; or say --even-though-committed"
        raise GateRefused("retirement", f"models/{model} is still there at {committed}: {advice}")
    if not committed and not platform.ledger.facts(model):
        message = "nothing was ever done for a model of this name"
        raise InputError(Problem("command line", "model", model, "a model that was released", message))
    canary = open_canary(platform.ledger.facts(model))
    fact = _decided(platform, model, by, reason, _asked_by(platform, model) if committed else None)
    if canary is not None:
        with suppress(GateRefused):  # it was promoted before, and ends as what serves
            decide_way_back(platform, canary, "way_back", {"reason": f"{fact.body['by']} ended the model"})
    running = [one.name for one in platform.serving.running() if one.model == model]  # from now on none is begun
    ended = {name: now for name in ENVIRONMENTS if (now := serving_now(platform, model, name)) is not None}
    if any(platform.gateway.current().route(model, name) for name in ENVIRONMENTS):
        platform.gateway.revise(lambda table: _without(table, model))
    for name in running:
        platform.serving.retire(name)
    if "production" in ended:
        platform.registry.remove_alias(model, "production")
    for name, now in ended.items():
        body = {"deployment": None, "previous": now.body["deployment"], "why": f"retired by {fact.body['by']}"}
        platform.ledger.append("switched", model=model, subject=name, body=body)
    versions = {name: now.body["version"] for name, now in ended.items()}
    return Retired(model, fact.body["by"], fact.body["reason"], fact.at, versions)


def _committed(platform: Platform, model: str) -> str:
    """The newest commit of the model's repository, shortened, if its folder is in it; of a watched repository the one
    that was fetched last. A repository that is watched no more releases nothing."""
    view = doors_of(platform, model)
    if view.repository and view.repository not in {each.name for each in platform.settings.repositories}:
        return ""
    head = head_of(view)
    if view.source.read(head, f"models/{model}/model.yaml") is None:
        return ""
    return f"{head[:12]} of {named(view.repository)}"


def _asked_by(platform: Platform, model: str) -> str:
    """The fingerprint that the newest commit of a model asks for, whether a tick has seen it or not; empty where it
    cannot be released."""
    view = doors_of(platform, model)
    try:
        return open_release(view, model, head_of(view)).fingerprints["production"]
    except InputError:
        return ""


def _decided(platform: Platform, model: str, by: str, reason: str, asked: str | None) -> Fact:
    """The fact that ends the model: the one that holds already, else a new one with the next number. For a folder that
    is still there it names what the newest commit asks for, else what was asked for last, so that no tick asks for
    that."""
    for _ in range(ATTEMPTS):
        known = platform.ledger.newest(model, "requested", "retired")
        if known is not None and _ends(known):
            return known
        generation = known.body["generation"] + 1 if known else 1
        body: dict[str, Any] = {"generation": generation, "by": by, "reason": reason}
        once = f"requested:{model}:{generation}"
        fingerprint = "" if asked is None else asked or (known.fingerprint if known else "")
        fact = platform.ledger.append(
            "retired", model=model, subject="production", fingerprint=fingerprint, body=body, once=once
        )
        if _ends(fact):
            return fact  # else a tick took this number
    raise TransientError(f"{model}: releases are asked for faster than it can be ended; try again")


def _ends(fact: Fact) -> bool:
    return fact.kind == "retired" and fact.subject == "production"


def _without(table: RouteTable, model: str) -> RouteTable:
    for name in ENVIRONMENTS:
        table = table.without_route(model, name)
    return table
