"""What each asset of a model depends on, as one fingerprint an asset; equal fingerprints need no new work.

A fingerprint covers exactly what can change the result: the relevant part of model.yaml in canonical form (so comments
and key order do not count), content hashes of the data it reads, the code of the recipe that makes it and that code's
locked packages, and the fingerprints before it. A serving limit therefore redeploys without retraining, and without
evaluating again unless it is the context, which can cut an answer off; a threshold judges again without retraining.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_core.fingerprint import digest_of
from llmops_core.model_spec import ModelSpec
from llmops_core.settings import Settings

# In the order of the story; each asset's fingerprint may use those before it.
STAGES = (
    "dataset",
    "base_weights",
    "weights",
    "evaluation",
    "registered_version",
    "staging_deployment",
    "staging_tests",
    "approval",
    "canary",
    "production",
)

# The platform's own code that makes or judges an asset: raised by hand when its meaning changes.
RULES_VERSION = dict.fromkeys(STAGES, 1)

RECIPES = {"base_weights": ("pretrain",), "weights": ("finetune", "package"), "evaluation": ("evaluate",)}


@dataclass(frozen=True)
class ModelInputs:
    """All that a model is at one revision. `data` maps file names under data.path to content hashes; `code` maps a
    recipe to {path or package: digest or version}."""

    model: str
    revision: str
    spec: ModelSpec
    data: Mapping[str, str]
    code: Mapping[str, Mapping[str, str]]
    staging: Settings
    production: Settings


def fingerprints(inputs: ModelInputs) -> dict[str, str]:
    """{asset: 64 hexadecimal digits} for every stage."""
    spec = inputs.spec
    parts: dict[str, dict[str, Any]] = {
        "dataset": {"data": _plain(spec.data), "files": dict(inputs.data)},
        "base_weights": {"source": _plain(spec.source), "files": _files_read_by_source(inputs)},
        "weights": {
            "training": _plain(spec.training),
            "packaging": {"engine": spec.serving.engine, "quantization": spec.serving.quantization},
            "files": _selected(inputs, getattr(spec.training, "train", None)),
        },
        "evaluation": {
            "evaluation": _plain(spec.evaluation),
            "context_tokens": spec.serving.context_tokens,  # where it ends, a question is refused and an answer cut off
            "files": _selected(inputs, *(suite.data for suite in spec.evaluation.suites)),
        },
        "registered_version": {"version": spec.version, "card": [spec.description, list(spec.owners)]},
        "staging_deployment": {"serving": _plain(spec.serving), "environment": _deployed_with(inputs.staging)},
        "staging_tests": {"tests": _plain(inputs.staging.staging_tests)},
        "approval": {"approvals": _plain(inputs.production.approvals)},
        "canary": {
            "serving": _plain(spec.serving),
            "environment": _deployed_with(inputs.production),
            "canary": _plain(inputs.production.canary),
        },
        "production": {},
    }
    result: dict[str, str] = {}
    for stage in STAGES:
        code = {recipe: dict(inputs.code[recipe]) for recipe in _recipes(stage, spec)}
        upstream = {name: result[name] for name in UPSTREAM[stage]}
        result[stage] = digest_of(
            {"model": inputs.model, "rules": RULES_VERSION[stage], "code": code, "upstream": upstream, **parts[stage]}
        )
    return result


# Whose fingerprints count. Weights and evaluation name the data files they read, so they do not follow `dataset`:
# a new test row must not retrain, a new training row must not retrain the base.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "base_weights": (),
    "weights": ("base_weights",),
    "evaluation": ("weights",),
    "registered_version": ("evaluation",),
    "staging_deployment": ("registered_version",),
    "staging_tests": ("staging_deployment",),
    "approval": ("staging_tests",),
    "canary": ("approval",),
    "production": ("canary",),
}


def _recipes(stage: str, spec: ModelSpec) -> tuple[str, ...]:
    if stage == "base_weights" and _pretrain(spec) is None:
        return ()
    return RECIPES.get(stage, ())


def recipes_of(spec: ModelSpec) -> tuple[str, ...]:
    """Every recipe that this model runs, for reading their code."""
    return tuple(recipe for stage in STAGES for recipe in _recipes(stage, spec))


def _pretrain(spec: ModelSpec) -> Any:
    return getattr(spec.source, "pretrain", None)


def _files_read_by_source(inputs: ModelInputs) -> dict[str, str]:
    pretrain = _pretrain(inputs.spec)
    return _selected(inputs, pretrain.data) if pretrain is not None else {}


def _selected(inputs: ModelInputs, *names: str | None) -> dict[str, str]:
    """The hashes of the named files; the whole folder's where DVC tracks it as one and single files are unknown."""
    return {name: inputs.data.get(name, inputs.data.get("", "")) for name in names if name is not None}


def _deployed_with(settings: Settings) -> dict[str, Any]:
    return {
        "name": settings.name,
        "serving": _plain(settings.serving),
        "replicas": _plain(settings.replicas),
        "memory_factor": settings.memory_factor,
        "strategy": settings.strategy,
    }


def _plain(model: Any) -> Any:
    return model.model_dump(mode="json") if model is not None else None
