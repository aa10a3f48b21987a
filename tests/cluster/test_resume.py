"""A training on this cluster whose pod goes: the next goes on from the last whole checkpoint, to the same weights."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from llmops_core.errors import LlmopsError, TransientError
from llmops_core.job_manifest import Needs
from resources.jobs.jobs import Asked
from tests.cluster.cluster_under_test import wait_for
from tests.cluster.jobs_under_test import RealClusterWorld, outcome
from tests.fakes.job_worlds import BUCKET, ROOT, Going, Ran, RecordingRun
from tests.recipes.conftest import make_tiny_llama

pytestmark = [pytest.mark.usefixtures("pods"), pytest.mark.timeout(900)]
ENDS_SECONDS = 400.0  # a pod imports torch first
PLAN = {"method": "full", "train": "train.jsonl", "steps": 800, "tokens_per_step": 256, "learning_rate": 0.0001}


class Trainings:
    """Fine-tunings of one tiny model, by the recipe of this repository, with a checkpoint every tenth of a second."""

    def __init__(self, world: RealClusterWorld) -> None:
        self._world, root = world, world.root
        world.place = world.place.model_copy(update={"checkpoint_seconds": 0.1})
        self._base, self._code, self._data = make_tiny_llama(root / "base"), root / "training", root / "rows"
        for package in ("llmops_core", "recipes"):
            shutil.copytree(ROOT / package, self._code / package, ignore=shutil.ignore_patterns("__pycache__"))
        rows = [{"prompt": f"What is {n} and {n + 1}?", "response": str(2 * n + 1)} for n in range(40)]
        self._data.mkdir()
        (self._data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def following(self, fingerprint: str) -> Going:
        """The job of this fingerprint, in the hands of a worker."""
        return Going(lambda: self._followed(fingerprint))

    def _followed(self, fingerprint: str) -> Ran:
        work = self._world.root / f"work-{fingerprint[:4]}-{time.monotonic_ns()}"
        asked, inputs = Asked("tiny", "weights", fingerprint), {"data": self._data, "base": self._base}
        given = self._world.job("finetune", work, PLAN)
        job = replace(given, asked=asked, inputs=inputs, code=self._code, needs=Needs(2, 1))
        ran = Ran(job.out, "run")
        try:
            self._world.door().run_for(job, RecordingRun(self._world.book, "run"), ran.progress.append)
        except LlmopsError as error:
            ran.errors.append(error)
        return ran

    def whole_checkpoints(self) -> int:
        client = boto3.client("s3", endpoint_url=self._world.s3, region_name="us-east-1")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return sum("/checkpoints/" in key and key.endswith("/manifest.json") for key in keys)


def test_a_training_began_anew_or_ended_elsewhere_when_its_pod_was_deleted(world: RealClusterWorld) -> None:
    trainings = Trainings(world)
    first = trainings.following("a" * 64)
    wait_for(lambda: trainings.whole_checkpoints() > 0, "there is no checkpoint", ENDS_SECONDS)
    path = world.namespace.path("pods", world.running()["metadata"]["name"])
    world.namespace.cluster.call("DELETE", path, {"gracePeriodSeconds": 1})
    cut = first.ended(ENDS_SECONDS)
    if cut.errors:  # a deleted pod is a failure of the step, which tries once more
        assert isinstance(cut.errors[0], TransientError) and "pod_deleted" in outcome(cut), outcome(cut)
        cut = trainings.following("a" * 64).ended(ENDS_SECONDS)
    alone = trainings.following("b" * 64).ended(ENDS_SECONDS)
    assert cut.errors == alone.errors == [], f"{outcome(cut)} {outcome(alone)}"
    resumed, whole = (json.loads((ran.out / "report.json").read_bytes()) for ran in (cut, alone))
    assert resumed["checkpoints"]["resumed_at_steps"] and not whole["checkpoints"]["resumed_at_steps"], resumed
    assert resumed["loss_curve"] == whole["loss_curve"] and resumed["steps"] == PLAN["steps"]
    assert weights(cut) == weights(alone)


def weights(ran: Ran) -> bytes:
    return (Path(ran.out) / "model.safetensors").read_bytes()
