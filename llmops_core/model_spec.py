"""What a `models/<name>/model.yaml` says: the whole of a model that people write by hand.

Shape is checked by strict pydantic models, one for each section; a rule within one section stands in that section. A
rule between sections is a function here whose parameters name the sections it reads: when another section is broken,
the rules that can still be judged are, so that an author sees every problem at once.
"""

import inspect
from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from llmops_core.errors import InputError, Problem
from llmops_core.fields import (
    Description,
    FileName,
    Label,
    Listing,
    ModelName,
    Owner,
    RelativePath,
    Strict,
    Version,
    Violation,
    refuse,
)
from llmops_core.problems import location_in, problems_of, rule_problem
from llmops_core.strict_yaml import Document, load
from llmops_core.training_spec import LocalSource, Source, Training

GIGABYTES_PER_GPU = 8
LIMIT_DEPENDENCIES = 50
GGUF_QUANTIZATIONS = ("f32", "f16", "q8_0")


class Data(Strict):
    """The rows that the model is made and judged with."""

    path: RelativePath = Field(description="The folder with the rows; DVC tracks it.")
    pii: Literal["refuse", "report"] = Field(
        default="refuse", description="What happens when rows hold personal data: stop, or go on and report it."
    )


class Suite(Strict):
    """One test of the candidate, and what it must reach."""

    name: Label = Field(description="Name of the suite; unique in the model.")
    data: FileName = Field(description="File under data.path with the rows to ask.")
    metric: Literal["exact_match"] = Field(default="exact_match", description="How answers are scored.")
    minimum: float = Field(gt=0, le=1, description="The score that the candidate must reach.")


class Evaluation(Strict):
    """What a candidate must show before it is registered."""

    suites: Listing[Suite] = Field(min_length=1, max_length=100, description="The tests; every one must pass.")
    max_regression: float = Field(
        default=0.02, ge=0, lt=1, description="How far a suite's score may fall below the production model's."
    )

    @model_validator(mode="after")
    def _names_unique(self) -> Self:
        seen: set[str] = set()
        repeated: list[Violation] = []
        for index, suite in enumerate(self.suites):
            if suite.name in seen:
                message = "another suite has this name; rename one"
                repeated.append(Violation(("suites", index, "name"), suite.name, "a name of its own", message))
            seen.add(suite.name)
        refuse(repeated)
        return self


class Resources(Strict):
    """What one replica needs to serve the model, and a job to train it."""

    gpu_count: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="GPUs to train on. A replica and the evaluation use as many with vllm, up to a node's; else none.",
    )
    gpu_type: Label | None = Field(default=None, description="Kind of GPU, such as a100; any kind where left out.")
    memory_gb: float = Field(gt=0, le=65536, description="Main memory in gigabytes; at least 8 for each GPU.")
    cpu: float = Field(default=1, gt=0, le=4096, description="Processor cores.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        broken: list[Violation] = []
        least = GIGABYTES_PER_GPU * self.gpu_count
        if self.memory_gb < least:
            message = f"{self.gpu_count} GPUs need {least} GB of main memory; raise memory_gb or lower gpu_count"
            broken.append(Violation(("memory_gb",), self.memory_gb, f"{least} or more", message))
        if self.gpu_type is not None and self.gpu_count == 0:
            message = "a kind of GPU is named, but gpu_count is 0; remove it or raise gpu_count"
            broken.append(Violation(("gpu_type",), self.gpu_type, "no such field without a GPU", message))
        refuse(broken)
        return self


class Serving(Strict):
    """How the model answers."""

    engine: Literal["llama.cpp", "vllm"] = Field(description="The program that serves: on processors, or on GPUs.")
    protocol: Literal["http", "grpc"] = Field(default="http", description="How clients speak to it.")
    quantization: Literal["f32", "f16", "q8_0", "none"] = Field(
        description="Number format of the packaged weights: f32, f16 or q8_0 for llama.cpp, none for vllm."
    )
    context_tokens: int = Field(ge=16, le=10_000_000, description="Longest prompt with its answer.")
    parallel: int = Field(default=4, ge=1, le=1024, description="Requests answered at the same time by one replica.")
    timeout_seconds: float = Field(default=30, gt=0, le=3600, description="After this the gateway gives up a request.")

    @model_validator(mode="after")
    def _engine_can(self) -> Self:
        broken: list[Violation] = []
        if self.engine == "llama.cpp" and self.quantization not in GGUF_QUANTIZATIONS:
            expected = "f32, f16 or q8_0"
            message = "llama.cpp serves GGUF files, which have one of these formats; choose one"
            broken.append(Violation(("quantization",), self.quantization, expected, message))
        if self.engine == "vllm" and self.quantization != "none":
            message = "vllm serves the weights as they are, not a GGUF file; write none"
            broken.append(Violation(("quantization",), self.quantization, "none", message))
        if self.engine == "llama.cpp" and self.protocol != "http":
            message = "llama.cpp's server speaks HTTP only; write http, or choose vllm"
            broken.append(Violation(("protocol",), self.protocol, "http", message))
        refuse(broken)
        return self


class ModelSpec(Strict):
    """One model: where it comes from, how it is trained and judged, and how it serves."""

    name: ModelName = Field(description="The model's name; its folder under models/ has the same.")
    version: Version = Field(description="Semantic version of the model.")
    description: Description = Field(description="What the model is for.")
    owners: Listing[Owner] = Field(min_length=1, max_length=20, description="Who answers for it: e-mails or team:name.")
    architecture: Label = Field(description="Family of the network, such as llama.")
    data_classification: Literal["public", "internal", "confidential", "restricted"] = Field(
        description="How sensitive the data is that went into it."
    )
    depends_on: Listing[ModelName] = Field(
        default=(),
        max_length=LIMIT_DEPENDENCIES,
        description="Models that must be in production before it.",
    )
    source: Source = Field(description="Where the weights start.")
    training: Training = Field(description="How they are tuned.")
    data: Data = Field(description="The rows that it is made and judged with.")
    evaluation: Evaluation = Field(description="What a candidate must show.")
    resources: Resources = Field(description="What a replica needs.")
    serving: Serving = Field(description="How it answers.")

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        refuse(_broken_rules({name: getattr(self, name) for name in type(self).model_fields}))
        return self

    @property
    def learnt_from(self) -> frozenset[str]:
        """The files whose rows the model may remember; no other file may ask what stands in them."""
        return _learnt_from(self.source, self.training)


def load_model_spec(content: bytes, file: str, allowed_endpoints: Collection[str] = ()) -> ModelSpec:
    """The spec in the bytes of a model.yaml. Raises InputError with every problem found.

    `allowed_endpoints` are the inner addresses that a source may name (from the environment's settings).
    """
    spec, problems = judge_model_spec(load(content, file), file, allowed_endpoints)
    if spec is None:
        raise InputError(*problems)
    return spec


def judge_model_spec(
    document: Document, file: str, allowed_endpoints: Collection[str] = ()
) -> tuple[ModelSpec | None, list[Problem]]:
    """The spec, or None and what is wrong with it."""
    context = {"allowed_endpoints": frozenset(allowed_endpoints)}
    try:
        return ModelSpec.model_validate(document.mapping, context=context), []
    except ValidationError as error:
        problems = problems_of(error, document, file, ModelSpec)
        if all(details["loc"] for details in error.errors()):  # else the rules between sections were judged already
            sound = _sound_sections(error, document, context)
            problems += [rule_problem(violation, (), document, file) for violation in _broken_rules(sound)]
        return None, problems


def _sound_sections(error: ValidationError, document: Document, context: dict[str, Any]) -> dict[str, Any]:
    """The sections without a problem of their own, parsed; what is left out and has a default counts as sound."""
    broken = {location_in(document, details["loc"])[0] for details in error.errors()}
    sound: dict[str, Any] = {}
    for name, field in ModelSpec.model_fields.items():
        if name in broken:
            continue
        if name in document.mapping:
            sound[name] = _section_parser(name).validate_python(document.mapping[name], context=context)
        else:
            sound[name] = field.get_default(call_default_factory=True)
    return sound


@cache
def _section_parser(name: str) -> TypeAdapter[Any]:
    field = ModelSpec.model_fields[name]
    annotated: Any = Annotated[field.annotation, field]
    parser: TypeAdapter[Any] = TypeAdapter(annotated)
    return parser


def _learnt_from(source: Source, training: Training) -> frozenset[str]:
    pretrain = source.pretrain if isinstance(source, LocalSource) else None
    return frozenset([*training.files, *([pretrain.data] if pretrain else [])])


def _no_self_dependency(name: str, depends_on: tuple[str, ...]) -> Iterator[Violation]:
    for index, other in enumerate(depends_on):
        if other == name:
            message = "a model cannot wait for itself; remove the entry"
            yield Violation(("depends_on", index), other, "the name of another model", message)
        elif other in depends_on[:index]:
            message = "the model is named twice; remove one"
            yield Violation(("depends_on", index), other, "each model once", message)


def _vllm_needs_gpu(serving: Serving, resources: Resources) -> Iterator[Violation]:
    if serving.engine == "vllm" and resources.gpu_count == 0:
        message = "vllm serves on GPUs; raise gpu_count, or choose llama.cpp"
        yield Violation(("resources", "gpu_count"), resources.gpu_count, "1 or more", message)


def _context_fits(source: Source, serving: Serving) -> Iterator[Violation]:
    if isinstance(source, LocalSource) and source.pretrain is not None:
        longest = source.pretrain.context_tokens
        if serving.context_tokens > longest:
            message = "the base model reads no longer texts; lower this, or raise source.pretrain.context_tokens"
            yield Violation(("serving", "context_tokens"), serving.context_tokens, f"{longest} or less", message)


def _suites_ask_what_is_new(source: Source, training: Training, evaluation: Evaluation) -> Iterator[Violation]:
    learnt = _learnt_from(source, training)
    for index, suite in enumerate(evaluation.suites):
        if suite.data in learnt:
            expected = "a file that the model does not learn from"
            message = "the model learns these answers, so the suite would measure its memory; name another file"
            yield Violation(("evaluation", "suites", index, "data"), suite.data, expected, message)


_RULES: tuple[Callable[..., Iterator[Violation]], ...] = (
    _no_self_dependency,
    _vllm_needs_gpu,
    _context_fits,
    _suites_ask_what_is_new,
)


def _broken_rules(sections: dict[str, Any]) -> Iterator[Violation]:
    """The violations of every rule whose sections are all here."""
    for rule in _RULES:
        needed = inspect.signature(rule).parameters
        if all(name in sections for name in needed):
            yield from rule(**{name: sections[name] for name in needed})
