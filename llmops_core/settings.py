"""What a `config/<environment>.yaml` says: one schema for the laptop, staging and production.

The numbers are the policy of an environment and stand in these files, never in code; defaults here are only what is
the same everywhere. An environment promotes through its `staging` half: `staging` names the file whose capacity,
strategy and tests hold for the first deployment, so that a laptop can be both.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from llmops_core import uris
from llmops_core.arrival_settings import WatchedPlace, names_taken_twice
from llmops_core.canary_policy import CanaryPolicy, Margin, Rate
from llmops_core.errors import InputError, Problem
from llmops_core.fields import Label, Listing, RelativePath, Strict, Text, Violation, refuse
from llmops_core.job_settings import ClusterJobsPlace, JobsPlace, LocalJobsPlace
from llmops_core.platform_settings import Places, Webhook
from llmops_core.problems import problems_of
from llmops_core.repositories import Branch, WatchedRepository, violations
from llmops_core.serving_settings import ServingPlace
from llmops_core.strict_yaml import Document, load

Role = Literal["technical", "security", "business", "executive"]
Share = Annotated[float, Field(ge=0, le=1)]


def _listed(text: str) -> str:
    try:
        return uris.parse_listed_endpoint(text)
    except uris.UnsafeUri as error:
        context = {"message": f"the entry is refused: {error}", "expected": "host or host:port"}
        raise PydanticCustomError("text", "{message}", context) from error


ListedEndpoint = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_listed)]


class Capacity(Strict):
    """What one replica may have here at most."""

    gpu_count: int = Field(default=0, ge=0, le=1024, description="GPUs; jobs hold no more at once, all together.")
    gpu_type: Label | None = Field(default=None, description="Kind of the GPUs, such as a100.")
    memory_gb: float = Field(gt=0, le=65536, description="Main memory in gigabytes.")
    cpu: float = Field(gt=0, le=4096, description="Processor cores.")

    @model_validator(mode="after")
    def _gpu_type_for_gpus(self) -> Self:
        if self.gpu_count > 0 and self.gpu_type is None:
            refuse([Violation(("gpu_type",), None, "a kind of GPU, such as a100", "say which GPUs there are")])
        if self.gpu_count == 0 and self.gpu_type is not None:
            message = "a kind of GPU is named, but gpu_count is 0; remove it or raise gpu_count"
            refuse([Violation(("gpu_type",), self.gpu_type, "no such field without a GPU", message)])
        return self


class Replicas(Strict):
    """How many servers of a version run."""

    minimum: int = Field(default=1, ge=1, le=1000, description="Always running.")
    maximum: int = Field(default=1, ge=1, le=1000, description="Never more than these.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maximum < self.minimum:
            message = "maximum is below minimum; raise it"
            refuse([Violation(("maximum",), self.maximum, f"{self.minimum} or more", message)])
        return self


class Canary(Strict, CanaryPolicy):
    """The canary's policy and its traffic. Nothing has a default here: every number stands in the file."""

    steps_percent: Listing[Annotated[int, Field(ge=1, le=100)]] = Field(
        min_length=1, max_length=20, description="The candidate's share of requests, rising from step to step."
    )
    # Above 0.2 a verdict says little: more than every fifth good candidate could be rolled back.
    alpha: Annotated[float, Field(gt=0, le=0.2)] = Field(
        description="Chance that a good candidate is rolled back, over the whole canary."
    )
    max_error_rate: Rate = Field(description="Share of failed requests that is still good.")
    immediate_error_rate: Rate = Field(description="Share of failed requests that nobody could tolerate.")
    max_slow_rate: Rate = Field(description="Share of slow answers that is still good.")
    immediate_slow_rate: Rate = Field(description="Share of slow answers that nobody could tolerate.")
    error_margin: Margin = Field(description="How far the share of failed requests may be above the baseline's.")
    slow_margin: Margin = Field(description="How far the share of slow answers may be above the baseline's.")
    min_requests_per_step: int = Field(ge=1, le=10_000_000, description="Requests that a good end of a step needs.")
    max_seconds_per_step: float = Field(gt=0, description="A step without a verdict ends here, badly.")
    latency_limit_seconds: float = Field(gt=0, description="A slower answer counts as slow.")
    tick_seconds: float = Field(gt=0, le=300, description="Pause between two looks at the metrics, at most 300.")
    synthetic_requests_per_second: float = Field(ge=0, description="Our own, labelled traffic; 0 for none.")


class Approvals(Strict):
    """Whose signatures a version needs before it gets traffic."""

    required: Listing[Role] = Field(min_length=1, max_length=4, description="The roles that must each sign.")
    signers: RelativePath = Field(description="Whose keys count, in ssh-keygen's allowed_signers format.")
    approvers: RelativePath = Field(description="Who holds which role in which environment (YAML).")
    sign_locally: bool = Field(
        default=False, description="Sign with a key made for this machine; only where nobody else is served."
    )

    @model_validator(mode="after")
    def _roles_once(self) -> Self:
        for index, role in enumerate(self.required):
            if role in self.required[:index]:
                refuse([Violation(("required", index), role, "each role once", "the role is named twice; remove one")])
        return self


class Slos(Strict):
    """What the environment promises."""

    availability: float = Field(gt=0, lt=1, description="Share of the time that it answers, over 30 days.")
    p95_seconds: float = Field(gt=0, description="95 of 100 answers take no longer.")
    error_rate: Share = Field(description="Share of requests that may fail.")
    requests_per_second: float = Field(default=100, gt=0, description="Load at which this holds.")


class StagingTests(Strict):
    """The load that a staged version must bear."""

    concurrency: Listing[Annotated[int, Field(ge=1, le=1000)]] = Field(
        default=(1, 5, 10, 20),
        min_length=1,
        max_length=20,
        description="Levels of simultaneous requests.",
    )
    requests: int = Field(default=200, ge=1, le=1_000_000, description="Requests at each level.")
    min_success_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.95, description="Share of requests that must succeed at every level."
    )
    max_p95_seconds: float = Field(default=5, gt=0, description="95 of 100 answers take no longer, at every level.")


class Budget(Strict):
    """What may be spent on jobs."""

    per_month: float = Field(gt=0, description="No job starts once a calendar month (UTC) has cost this much.")


class Notify(Strict):
    """Where people are told."""

    channel: Annotated[str, Text(r"^[#@]?[A-Za-z0-9][A-Za-z0-9._-]*$", "a channel, such as #llm-staging", 80)] = Field(
        description="The channel for this environment."
    )


class Settings(Strict):
    """One environment."""

    name: Label = Field(description="The environment's name; the file has the same.")
    branch: Branch = Field(description="The Git branch whose head this environment runs; HEAD for the current one.")
    staging: Label = Field(description="The environment whose settings hold for the staging half.")
    repositories: Listing[WatchedRepository] = Field(
        default=(), max_length=100, description="Repositories that are watched besides the platform's own checkout."
    )
    platform: Places = Field(default=Places(), description="Where the platform's parts live.")
    jobs: JobsPlace = Field(
        default=LocalJobsPlace(kind="local"), description="Where training, evaluation and packaging run."
    )
    executor: Literal["in_process", "k8s_job"] = Field(
        default="in_process", description="Where a run's steps work: in the run itself, or each in a Kubernetes Job."
    )
    serving: ServingPlace = Field(description="Where model servers run.")
    capacity: Capacity = Field(description="What one replica may have here.")
    replicas: Replicas = Field(default=Replicas(), description="How many servers of a version run.")
    memory_factor: float = Field(default=1, gt=0, le=1, description="Share of a model's memory_gb granted here.")
    strategy: Literal["canary", "rolling", "blue_green"] = Field(description="How a new version takes over.")
    canary: Canary = Field(description="How a candidate's traffic grows, and what ends it.")
    approvals: Approvals = Field(description="Signatures that a version needs.")
    slos: Slos = Field(description="What the environment promises.")
    staging_tests: StagingTests = Field(default=StagingTests(), description="The load that a staged version must bear.")
    allowed_endpoints: Listing[ListedEndpoint] = Field(
        default=(), max_length=100, description="Inner hosts (host or host:port) that inputs may name, also over http."
    )
    budget: Budget | None = Field(default=None, description="What may be spent on jobs; no limit where left out.")
    notify: Notify | None = Field(default=None, description="Where people are told.")
    webhook: Webhook | None = Field(default=None, description="Pushes that make the repository sensor look at once.")
    arrivals: Listing[WatchedPlace] = Field(
        default=(), max_length=100, description="Places whose new files become versions of a dataset."
    )

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        refuse(_violations_of(self))
        return self


def _violations_of(settings: Settings) -> Iterator[Violation]:
    if settings.approvals.sign_locally and settings.serving.kind != "local":
        message = "only an environment on this machine may sign for itself; remove it"
        yield Violation(("approvals", "sign_locally"), True, "false", message)
    jobs, wanted = settings.jobs, settings.capacity.gpu_type
    if isinstance(jobs, ClusterJobsPlace) and wanted is not None and wanted not in jobs.gpus:
        message = f"capacity grants {wanted} GPUs, but nothing says on which nodes they are; add them"
        yield Violation(("jobs", "gpus"), sorted(jobs.gpus), f"a mapping with the key {wanted}", message)
    if isinstance(jobs, ClusterJobsPlace) and settings.budget is not None:
        for kind, pool in jobs.gpus.items():
            if not pool.price_per_hour:
                message = "a budget cannot hold what has no price; say what an hour of one GPU costs"
                yield Violation(("jobs", "gpus", kind, "price_per_hour"), pool.price_per_hour, "more than 0", message)
    if settings.executor == "k8s_job":
        for part in ("ledger", "dagster", "mlflow", "artifacts"):
            if getattr(settings.platform, part) is None:
                message = "steps in pods of their own share no folder; say where they find it"
                yield Violation(("platform", part), None, "a place that every pod reaches", message)
    yield from names_taken_twice(settings.arrivals)
    yield from violations(settings.repositories, settings.branch)


def load_settings(content: bytes, file: str) -> Settings:
    """The settings in the bytes of a config file. Raises InputError with every problem found."""
    settings, problems = judge_settings(load(content, file), file)
    if settings is None:
        raise InputError(*problems)
    return settings


def judge_settings(document: Document, file: str) -> tuple[Settings | None, list[Problem]]:
    """The settings, or None and what is wrong with them. The file's own allowed_endpoints hold for its addresses."""
    context = {"allowed_endpoints": allowed_by(document)}
    try:
        return Settings.model_validate(document.mapping, context=context), []
    except ValidationError as error:
        return None, problems_of(error, document, file, Settings)


def allowed_by(document: Document) -> frozenset[str]:
    """The well-formed entries of allowed_endpoints; the malformed ones are reported by the schema."""
    given = document.mapping.get("allowed_endpoints")
    allowed: set[str] = set()
    for entry in given if isinstance(given, list) else []:  # pyright: ignore[reportUnknownVariableType]
        try:
            allowed.add(uris.parse_listed_endpoint(str(entry)))  # pyright: ignore[reportUnknownArgumentType]
        except uris.UnsafeUri:
            continue
    return frozenset(allowed)
