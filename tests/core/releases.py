"""A small release for tests of decisions: real schema, invented hashes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from llmops_core.facts import GENESIS, Fact, Kind
from llmops_core.model_spec import ModelSpec, load_model_spec
from llmops_core.plan import STAGES, ModelInputs
from llmops_core.promotion import MADE_FROM
from llmops_core.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
DATA = {name: f"{index:032x}" for index, name in enumerate(("train.jsonl", "dev.jsonl", "test.jsonl"))} | {
    "retained.jsonl": "a" * 32,
    "pretrain.jsonl": "b" * 32,
}
CODE = {recipe: {f"recipes/{recipe}.py": "c" * 64} for recipe in ("pretrain", "finetune", "package", "evaluate")}


def spec() -> ModelSpec:
    path = ROOT / "models" / "atlas-qa" / "model.yaml"
    return load_model_spec(path.read_bytes(), "models/atlas-qa/model.yaml")


def settings() -> Settings:
    return load_settings((ROOT / "config" / "local.yaml").read_bytes(), "config/local.yaml")


def inputs(**changes: Any) -> ModelInputs:
    made = ModelInputs("atlas-qa", "1" * 40, spec(), DATA, CODE, settings(), settings())
    return replace(made, **changes)


def with_spec(section: str, **changes: Any) -> ModelInputs:
    """The release with some fields of one section of its model.yaml changed."""
    made = spec()
    changed = getattr(made, section).model_copy(update=changes) if section else None
    return inputs(spec=made.model_copy(update={section: changed} if section else changes))


class History:
    """Facts in order, written as a run would."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def add(self, kind: Kind, subject: str, fingerprint: str = "", **body: Any) -> Fact:
        fact = Fact(
            sequence=len(self.facts) + 1,
            at=f"2026-01-01T00:{len(self.facts) // 60:02d}:{len(self.facts) % 60:02d}+00:00",
            kind=kind,
            model="atlas-qa",
            subject=subject,
            fingerprint=fingerprint,
            body=body,
            previous=self.facts[-1].digest if self.facts else GENESIS,
        ).sealed()
        self.facts.append(fact)
        return fact

    def produce(self, fingerprints: dict[str, str], stage: str, salt: str = "", **body: Any) -> Fact:
        made = {f.subject: f.body["digest"] for f in self.facts if f.kind == "produced"}
        inputs = {up: made[up] for up in MADE_FROM[stage]}
        complete = {"digest": f"{stage}{salt}", "inputs": inputs, "verdict": "passed", "revision": "1" * 40, **body}
        return self.add("produced", stage, fingerprints[stage], **complete)

    def produce_until(self, fingerprints: dict[str, str], last: str) -> None:
        for stage in STAGES[: STAGES.index(last) + 1]:
            self.produce(fingerprints, stage)
