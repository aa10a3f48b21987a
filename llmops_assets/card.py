"""A version's model card, filled in from the evidence of its release."""

from llmops_assets.step import Step
from llmops_core.facts import Fact
from llmops_core.model_card import CardFacts, DataFacts, Measured, TrainingFacts, render
from llmops_core.model_spec import ModelSpec
from llmops_core.registration import VersionFacts
from llmops_core.training_spec import HuggingFaceSource, S3Source

LIMITS = ("It answers what it was trained on; about anything else it is wrong with confidence.",)


def model_card(step: Step, version: VersionFacts, evidence: dict[str, Fact]) -> str:
    """Markdown. Every figure is read from the artefact that the evidence names."""
    spec = step.release.spec
    data, judged = step.report(evidence["dataset"]), step.report(evidence["evaluation"])
    found = sum(data["personal_data"].values())
    return render(
        CardFacts(
            version=version,
            description=spec.description,
            owners=tuple(spec.owners),
            base=_base(spec),
            data=DataFacts(
                rows={name: file["rows_kept"] for name, file in data["files"].items()},
                classification=spec.data_classification,
                pii=f"{found} values looked like personal data" if found else "none was found",
            ),
            training=_training(step, evidence["weights"]),
            evaluation=tuple(_measured(row, judged["verdict"]) for row in judged["chart"]),
            limits=LIMITS,
        )
    )


def _base(spec: ModelSpec) -> str:
    if isinstance(spec.source, HuggingFaceSource):
        return f"{spec.source.repository} at {spec.source.revision}"
    if isinstance(spec.source, S3Source):
        return spec.source.uri
    return spec.source.path or "pretrained here, on this model's own data"


def _training(step: Step, fact: Fact) -> TrainingFacts:
    curve = step.report(fact)["loss_curve"]
    training = step.release.spec.training
    return TrainingFacts(
        method=training.method,
        parameters=training.model_dump(mode="json", exclude_none=True, exclude={"method", "lora"}),
        first_loss=curve[0][1] if curve else None,
        last_loss=curve[-1][1] if curve else None,
    )


def _measured(row: dict[str, float | str | None], verdict: str) -> Measured:
    value, low, high, minimum = (row[name] for name in ("value", "low", "high", "minimum"))
    numbers = [number if isinstance(number, float) else None for number in (value, low, high, minimum)]
    return Measured(str(row["suite"]), *numbers, verdict=verdict)
