"""How a model's weights come to be: where they start (`source`) and how they are tuned (`training`)."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from llmops_core import uris
from llmops_core.fields import FileName, Listing, RelativePath, Strict, Text, Violation, refuse

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
# No upper limit: a rate of 10 ruins a model, and evaluation, not the schema, is what must find that out.
LearningRate = Annotated[float, Field(gt=0)]


def _s3(text: str) -> str:
    try:
        uris.parse_s3(text)
    except uris.UnsafeUri as error:
        context = {"message": f"the address is refused: {error}", "expected": "s3://bucket/prefix"}
        raise PydanticCustomError("text", "{message}", context) from error
    return text


def _endpoint(text: str, info: ValidationInfo) -> str:
    context: dict[str, frozenset[str]] = info.context or {}
    try:
        uris.check_endpoint(text, context.get("allowed_endpoints", frozenset()))
    except uris.UnsafeUri as error:
        words = {"message": f"the address is refused: {error}", "expected": "https://host of a public service"}
        raise PydanticCustomError("text", "{message}", words) from error
    return text


def _each_once(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """One name in a list is that name: both ways to write it must have one fingerprint."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        context = {"message": f"{twice[0]} is named twice", "expected": "each file once"}
        raise PydanticCustomError("text", "{message}", context)
    return names[0] if len(names) == 1 else names


def _how_many(given: object) -> str:
    return "several" if isinstance(given, list | tuple) else "one"


FileNames = Annotated[
    Annotated[FileName, Tag("one")]
    | Annotated[Listing[FileName], Field(min_length=1, max_length=100), AfterValidator(_each_once), Tag("several")],
    Discriminator(_how_many),
]
Module = Annotated[str, Text(r"^[A-Za-z_][A-Za-z0-9_.]*$", "the name of a module, such as q_proj", 64)]
S3Uri = Annotated[str, Field(min_length=6, max_length=1024), AfterValidator(_s3)]
EndpointUrl = Annotated[str, Field(min_length=8, max_length=1024), AfterValidator(_endpoint)]


class Schedule(Strict):
    """One training: how many steps of how many tokens, at which rate."""

    seed: Seed = Field(default=1, description="Seed of initialisation and of the order of rows.")
    steps: Steps = Field(default=300, description="Optimiser steps.")
    learning_rate: LearningRate = Field(default=0.005, description="Peak learning rate.")
    warmup_steps: int = Field(default=15, ge=0, le=10_000_000, description="Steps until the rate reaches its peak.")
    tokens_per_step: int = Field(default=1024, ge=32, le=2**24, description="Tokens in one optimiser step.")
    row_tokens: int = Field(default=64, ge=8, le=2**20, description="Longest sequence; several rows share one.")

    @model_validator(mode="after")
    def _numbers_fit(self) -> Self:
        broken: list[Violation] = []
        if self.warmup_steps >= self.steps:
            message = "the rate would never reach its peak; lower warmup_steps or raise steps"
            broken.append(Violation(("warmup_steps",), self.warmup_steps, f"less than steps ({self.steps})", message))
        if self.tokens_per_step < self.row_tokens:
            message = "a step must hold at least one sequence; raise tokens_per_step or lower row_tokens"
            broken.append(Violation(("tokens_per_step",), self.tokens_per_step, f"{self.row_tokens} or more", message))
        refuse(broken)
        return self


class Pretrain(Schedule):
    """A small Llama of our own, trained from nothing on a file of the model's data."""

    data: FileName = Field(description="File under data.path with the rows to pretrain on.")
    steps: Steps = Field(default=300, description="Optimiser steps.")
    learning_rate: LearningRate = Field(default=0.003, description="Peak learning rate.")
    warmup_steps: int = Field(default=30, ge=0, le=10_000_000, description="Steps until the rate reaches its peak.")
    vocabulary_size: int = Field(default=1024, ge=300, le=1_000_000, description="Tokens that its tokenizer knows.")
    hidden_size: int = Field(default=128, ge=32, le=16384, description="Width of the network.")
    feed_forward_size: int = Field(default=512, ge=32, le=65536, description="Width inside its feed-forward layers.")
    layers: int = Field(default=3, ge=1, le=256, description="Number of layers.")
    heads: int = Field(default=4, ge=1, le=256, description="Attention heads of each layer.")
    context_tokens: int = Field(default=128, ge=16, le=2**20, description="Longest text that it can read and write.")

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        broken: list[Violation] = []
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of numbers within a head
            expected = f"a multiple of {2 * self.heads}, twice the number of heads"
            broken.append(Violation(("hidden_size",), self.hidden_size, expected, "the heads must share it evenly"))
        if self.row_tokens > self.context_tokens:
            message = "a sequence must fit into context_tokens; lower row_tokens or raise context_tokens"
            broken.append(Violation(("row_tokens",), self.row_tokens, f"{self.context_tokens} or less", message))
        refuse(broken)
        return self


class HuggingFaceSource(Strict):
    """Weights from a Hugging Face repository, pinned to one commit."""

    type: Literal["huggingface"] = Field(description="Weights from a Hugging Face repository.")
    repository: Annotated[
        str,
        Text(r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$", "organisation/name", 128),
    ] = Field(description="The repository, as organisation/name.")
    revision: Annotated[
        str,
        Text(r"^[0-9a-f]{40}$", "the full commit hash, 40 hexadecimal digits: branches and tags move", 40),
    ] = Field(description="The full hash of the commit; a branch or tag could move.")
    endpoint: EndpointUrl | None = Field(default=None, description="A mirror to ask instead of huggingface.co.")


class S3Source(Strict):
    """Weights from an S3-compatible object store."""

    type: Literal["s3"] = Field(description="Weights from an S3-compatible object store.")
    uri: S3Uri = Field(description="The folder with the weights, as s3://bucket/prefix.")
    endpoint: EndpointUrl | None = Field(default=None, description="The store's address where it is not AWS.")


class LocalSource(Strict):
    """Weights from this repository: a folder that DVC tracks, or a base model pretrained here."""

    type: Literal["local"] = Field(description="Weights from this repository.")
    path: RelativePath | None = Field(default=None, description="A folder with weights that DVC tracks.")
    pretrain: Pretrain | None = Field(default=None, description="Pretrain a small base model on the model's own data.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.path is None) == (self.pretrain is None):
            found = "neither" if self.path is None else "both"
            expected = "either path or pretrain"
            refuse([Violation((), found, expected, f"a local source has {found} of path and pretrain; give one")])
        return self


Source = Annotated[HuggingFaceSource | S3Source | LocalSource, Field(discriminator="type")]


class Lora(Strict):
    """Low-rank adapters: what is trained instead of all weights."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the adapters.")
    alpha: float = Field(default=32, gt=0, description="Scale of the adapters: they count alpha / rank.")
    targets: Listing[Module] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        max_length=32,
        description="Names of the linear modules that get adapters.",
    )


class Training(Schedule):
    """Fine-tuning on the model's own data."""

    method: Literal["lora", "full", "none"] = Field(description="Adapters, all weights, or no fine-tuning.")
    train: FileNames | None = Field(
        default=None, description="File under data.path with the rows to train on, or a list of such files."
    )
    lora: Lora | None = Field(default=None, description="Settings of the adapters; only with method lora.")

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files to train on, in the order in which their rows are read."""
        if self.train is None:
            return ()
        return (self.train,) if isinstance(self.train, str) else self.train

    @model_validator(mode="before")
    @classmethod
    def _adapters_have_defaults(cls, given: Any) -> Any:
        """Method lora without a section gets the section's defaults, so that they are part of what was done."""
        if not isinstance(given, dict):
            return given
        section = cast(dict[str, Any], given)
        return {"lora": {}, **section} if section.get("method") == "lora" else section

    @model_validator(mode="after")
    def _fits_method(self) -> Self:
        refuse(_violations_of(self))
        return self


def _violations_of(training: Training) -> Iterator[Violation]:
    if training.method == "lora" and training.lora is None:
        yield Violation(("lora",), None, "a section, or no such field for its defaults", "the section is empty")
    if training.method == "none" and training.train is not None:
        yield Violation(("train",), training.train, "no such field with method none", "nothing is trained; remove it")
    if training.method != "none" and training.train is None:
        message = f"method {training.method} needs rows to train on; name the file"
        yield Violation(("train",), None, "the name of a file under data.path", message)
    if training.method != "lora" and training.lora is not None:
        message = f"adapters are not used by method {training.method}; remove the section"
        yield Violation(("lora",), training.lora.model_dump(), "no such field without method lora", message)
