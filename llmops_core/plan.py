"""What each asset of a model depends on, as one fingerprint an asset; equal fingerprints need no new work.

A fingerprint covers exactly what can change the result: the relevant part of model.yaml in canonical form (so comments
and key order do not count), content hashes of the data it reads, the code of the recipe that makes it and that code's
locked packages, and the fingerprints before it. A serving limit therefore redeploys without retraining, and without
evaluating again unless it is the context, which can cut an answer off; a threshold judges again without retraining.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel

from llmops_core.made_of import RULES, fingerprints_of, made_of
from llmops_core.model_spec import ModelSpec
from llmops_core.serving_settings import NOT_OF_A_SERVER
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

MODEL_YAML = "model.yaml"
RECIPES = {"base_weights": ("pretrain",), "weights": ("finetune", "package"), "evaluation": ("evaluate",)}


@dataclass(frozen=True)
class ModelInputs:
    """All that a model is at one revision. `data` maps file names under data.path to content hashes; `code` maps a
    recipe to {path or package: digest or version}; `weights_data` maps DVC outputs with the source's weights to their
    hashes."""

    model: str
    revision: str
    spec: ModelSpec
    data: Mapping[str, str]
    code: Mapping[str, Mapping[str, str]]
    staging: Settings
    production: Settings
    weights_data: Mapping[str, str] = field(default_factory=dict[str, str])


def ingredients(inputs: ModelInputs) -> dict[str, dict[str, Any]]:
    """{stage: {name: value}} of everything that a stage's result depends on besides the stages before it.

    Names are what people know: a field (`model.yaml training.steps`), a data file with its hash, a file of code with
    its digest, a locked package with its version. Values are plain JSON, so that two revisions can be compared.
    """
    spec, staging, production = inputs.spec, inputs.staging, inputs.production
    files = {name: f"{spec.data.path}/{name}".rstrip("/") for name in inputs.data}
    parts: dict[str, dict[str, Any]] = {
        "dataset": {
            **_named("data", spec.data),
            **{files[name]: md5 for name, md5 in inputs.data.items()},
            "files to learn from": sorted(spec.learnt_from),  # no other file may ask what stands in them
        },
        "base_weights": _named("source", spec.source) | _files_read_by_source(inputs) | dict(inputs.weights_data),
        "weights": {
            **_named("training", spec.training),
            f"{MODEL_YAML} serving.engine": spec.serving.engine,
            f"{MODEL_YAML} serving.quantization": spec.serving.quantization,
            **_selected(inputs, *spec.training.files),
        },
        "evaluation": {
            **_named("evaluation", spec.evaluation),
            # where the context ends, a question is refused and an answer cut off
            f"{MODEL_YAML} serving.context_tokens": spec.serving.context_tokens,
            **_selected(inputs, *(suite.data for suite in spec.evaluation.suites)),
        },
        "registered_version": {
            f"{MODEL_YAML} version": spec.version,
            f"{MODEL_YAML} description": spec.description,
            f"{MODEL_YAML} owners": sorted(set(spec.owners)),
            f"{MODEL_YAML} data_classification": spec.data_classification,
        },
        "staging_deployment": {
            **_named("serving", spec.serving),
            **_named("resources", spec.resources),
            **_deployed_with(staging),
        },
        "staging_tests": _settings("staging_tests", staging),
        "approval": _settings("approvals", production)
        | {f"config/{production.name}.yaml approvals.required": sorted(production.approvals.required)},
        "canary": _named("serving", spec.serving) | _deployed_with(production) | _settings("canary", production),
        "production": {f"{MODEL_YAML} depends_on": sorted(spec.depends_on)},
    }
    for stage in STAGES:
        for recipe in _recipes(stage, spec):
            parts[stage] |= inputs.code[recipe]
        parts[stage][RULES] = RULES_VERSION[stage]
    return parts


def fingerprints(inputs: ModelInputs) -> dict[str, str]:
    """{asset: 64 hexadecimal digits} for every stage."""
    return fingerprints_of(inputs.model, made_of(ingredients(inputs), UPSTREAM))


# Whose fingerprints count. Weights and evaluation name the data files they read, so they do not follow `dataset`:
# a new test row must not retrain, a new training row must not retrain the base.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "base_weights": (),
    "weights": ("base_weights",),
    "evaluation": ("weights",),
    "registered_version": ("dataset", "evaluation"),  # it names the data, and a gate of the data is a gate of all
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


def _selected(inputs: ModelInputs, *names: str) -> dict[str, str]:
    """The hashes of the named files; the whole folder's where DVC tracks it as one and single files are unknown."""
    folder = inputs.spec.data.path
    return {f"{folder}/{name}": inputs.data.get(name, inputs.data.get("", "")) for name in names}


def _deployed_with(settings: Settings) -> dict[str, Any]:
    """What decides the servers; where requests and their counts go does not."""
    place = settings.serving.model_dump(mode="json", exclude=set(NOT_OF_A_SERVER))
    sections = ("replicas", "memory_factor", "strategy")
    others = {name: value for section in sections for name, value in _settings(section, settings).items()}
    return _flat(f"config/{settings.name}.yaml serving", place) | others


def _settings(section: str, settings: Settings) -> dict[str, Any]:
    return _flat(f"config/{settings.name}.yaml {section}", _plain(getattr(settings, section)))


def _named(section: str, model: Any) -> dict[str, Any]:
    return _flat(f"{MODEL_YAML} {section}", _plain(model))


def _flat(name: str, value: Any) -> dict[str, Any]:
    """{dotted name: value} of nested mappings; lists are values. An empty mapping counts too."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    fields = cast("dict[str, Any]", value)
    return {key: found for field, inner in fields.items() for key, found in _flat(f"{name}.{field}", inner).items()}


def _plain(model: Any) -> Any:
    return model.model_dump(mode="json") if isinstance(model, BaseModel) else model
