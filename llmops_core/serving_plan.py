"""Everything that a model server needs to be started, on a machine or in a cluster, as data."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DeploymentPlan(BaseModel):
    """Two equal plans are the same server.

    `model_file` is absolute on the machine that serves it; it is relative to the folder of the weights where these are
    fetched by `weights_digest`, and `.` for an engine that reads the whole folder. `directory` and `python` are for
    programs of a machine; memory, cores, GPUs and replicas are for pods. `memory_gb` and `cpu` are of each replica.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,150}$")
    model: str
    version: str
    weights_digest: str
    model_file: Path
    alias: str
    context_tokens: int = Field(ge=1)
    parallel: int = Field(ge=1)
    timeout_seconds: float = Field(gt=0)
    directory: Path
    python: Path
    engine: Literal["llama.cpp", "vllm"] = "llama.cpp"
    memory_gb: float = Field(default=1, gt=0)
    cpu: float = Field(default=1, gt=0)
    gpu_count: int = Field(default=0, ge=0)
    gpu_type: str | None = None
    replicas: int = Field(default=1, ge=1)
