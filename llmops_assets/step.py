"""One asset's turn in a run: open the release, refuse or reuse, record, show.

    with stage(context, platform, "weights") as step:
        if step.done: return step.shown()
        ...
        return step.record(...)

What goes wrong on purpose (a gate's no, a bad input, a missing GPU) is written to the ledger before the run fails, so
that `llmops status` can say why. Only what may pass by itself is retried.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, DataVersion, Failure, MaterializeResult, MetadataValue, RetryPolicy

from llmops_assets.release import Release, open_release, pinned_revision
from llmops_assets.repositories import doors_of
from llmops_assets.tags import GENERATION_TAG, REVISION_TAG
from llmops_core.errors import GateRefused, LlmopsError, TransientError
from llmops_core.facts import Fact, latest
from llmops_core.promotion import MADE_FROM, PASSED, require
from llmops_core.validation import lacks
from resources.storage.artifact_store import Artifact
from resources.wiring import Platform

# Once more, after the time in which a supervised program is back; what is no TransientError says so and is not retried.
ONCE_MORE = RetryPolicy(max_retries=1, delay=2)


@dataclass
class Step:
    name: str
    release: Release
    context: AssetExecutionContext
    started: float = field(default_factory=time.monotonic)

    @property
    def platform(self) -> Platform:
        return self.release.platform

    @property
    def fingerprint(self) -> str:
        return self.release.fingerprints[self.name]

    @property
    def done(self) -> Fact | None:
        """What an earlier run made for the same fingerprint and the same inputs."""
        return self.release.evidence().get(self.name)

    def refuse_if_retired(self) -> None:
        """Raises GateRefused when a person ended the model after this run was asked for: it must not bring it back."""
        model = self.release.model
        ended = self.platform.ledger.newest(model, "retired")
        if ended is None:
            return
        asked = self._generation
        if ended.subject == "folder":
            if asked and asked < ended.body["generation"]:
                raise GateRefused("retirement", f"models/{model} was removed meanwhile; no release of it goes on")
            return
        after = asked > ended.body["generation"] if asked else self._began_after(ended)
        if not after:
            why = f"{ended.body['by']} ended {model} meanwhile ({ended.body['reason']})"
            raise GateRefused("retirement", f"{why}; `llmops release {model}` brings it back")

    def refuse_if_overtaken(self) -> None:
        """Raises GateRefused when a release that was asked for later is in production: this one must not undo it."""
        facts = self.platform.ledger.facts(self.release.model)
        now = latest(facts, "switched", subject="production")
        if not self._generation or now is None or now.body["deployment"] is None:
            return
        made = [f for f in facts if f.subject == "production" and f.kind == "produced"]
        serving = next((f.fingerprint for f in reversed(made) if f.body["deployment"] == now.body["deployment"]), "")
        later = (
            f
            for f in facts
            if f.kind == "requested" and f.fingerprint == serving != self.release.fingerprints["production"]
        )
        if any(fact.body["generation"] > self._generation for fact in later):
            why = f"{now.body['revision'][:12]}, which was asked for later, is in production"
            again = f"`llmops release {self.release.model} --revision {self.release.revision[:12]}` asks anew"
            raise GateRefused("order", f"{why}; {again}")

    def refuse_before_dependencies(self) -> None:
        """A family goes up in order: raises GateRefused, in production's name, unless every model that this one depends
        on serves there. Asked before a canary too, which would wait for them with a share of production."""
        for other in self.release.spec.depends_on:
            switched = latest(self.platform.ledger.facts(other), "switched", subject="production")
            if switched is None or switched.body.get("deployment") is None:
                why = f"{other}, on which {self.release.model} depends, is not in production"
                raise GateRefused("production", why)

    @property
    def _generation(self) -> int:
        """Which request of the model this run answers; 0 where nobody asked for it but a person in the UI."""
        return _generation_of(self.context)

    def _began_after(self, fact: Fact) -> bool:
        """Whether this run was pinned after the fact was written."""
        facts, run_id = self.platform.ledger.facts(self.release.model), self.context.run.run_id
        return any(f.kind == "pinned" and f.body["run_id"] == run_id and f.sequence > fact.sequence for f in facts)

    def evidence(self) -> dict[str, Fact]:
        """The facts this stage may rest on; raises GateRefused when one is missing or did not pass."""
        found = self.release.evidence()
        require(self.name, found)
        return found

    def is_tried_again(self, error: LlmopsError) -> bool:
        """Whether this stage begins once more after the error."""
        return will_try_again(self.context, error)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder for this stage, removed when it is left; what a killed run left there is removed first."""
        folder = self.platform.home.folder("work") / f"{self.release.model}-{self.name}-{self.fingerprint[:12]}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def artifact(self, stage: str) -> Artifact:
        """The artefact of an earlier stage with every byte re-hashed: a gate trusts no record alone."""
        return self.artifact_of(self.release.evidence()[stage])

    def artifact_of(self, fact: Fact) -> Artifact:
        return self.artifact_at(fact.subject, fact.body["digest"])

    def artifact_at(self, kind: str, digest: str) -> Artifact:
        """The artefact of this digest, re-hashed; raises IntegrityError when it is gone or not what it was."""
        return self.platform.artifacts.verified(kind, digest)

    def bytes_of(self, stage: str) -> int:
        """How large the artefact of an earlier stage is. Nothing is hashed."""
        artifact = self.platform.artifacts.get(stage, self.release.evidence()[stage].body["digest"])
        return sum(file.size_bytes for file in artifact.manifest.files) if artifact else 0

    def code(self) -> Path:
        """A clean export of the pinned revision; recipes run from there."""
        target = self.platform.home.folder("revisions") / self.release.revision
        self.platform.source.export(self.release.revision, target)
        return target

    def report(self, fact: Fact) -> dict[str, Any]:
        """The report inside a stage's artefact."""
        return json.loads((self.artifact_of(fact).path / "report.json").read_bytes())

    def record(
        self, digest: str, body: Mapping[str, Any], *, verdict: str = "passed", also: Mapping[str, str] | None = None
    ) -> Fact:
        """Writes the `produced` fact: what was made, from what, and how it was judged.

        The stages it was made from come from MADE_FROM; `also` adds inputs that are not stages of this revision, such
        as the data that training read.
        """
        evidence = self.release.evidence()
        if gone := [up for up in MADE_FROM[self.name] if up not in evidence]:
            raise GateRefused(self.name, f"{', '.join(gone)} counts no more: it was taken back or made anew meanwhile")
        inputs = {up: evidence[up].body["digest"] for up in MADE_FROM[self.name]} | dict(also or {})
        seconds = round(time.monotonic() - self.started, 3)
        return self.platform.ledger.append(
            "produced",
            model=self.release.model,
            subject=self.name,
            fingerprint=self.fingerprint,
            body={
                "digest": digest,
                "inputs": inputs,
                "verdict": verdict,
                "revision": self.release.revision,
                "repository": self.platform.repository,
                "run_id": self.context.run.run_id,
                "seconds": seconds,
                **body,
            },
        )

    def _refused_again(self, fact: Fact) -> None:
        """A verdict of an earlier run holds up this run too, and is said of it."""
        if fact.body["verdict"] != PASSED:
            run_id, reason = self.context.run.run_id, fact.body.get("reason") or "no reason was recorded"
            body = {"reason": reason, "revision": self.release.revision, "run_id": run_id}
            once = f"refused:{run_id}:{self.name}"
            self.platform.ledger.append("refused", model=self.release.model, subject=self.name, body=body, once=once)

    def shown(self, fact: Fact, **metadata: Any) -> MaterializeResult[Any]:
        """The fact as Dagster's materialization, with the rows every asset shows."""
        reused = fact.body["run_id"] != self.context.run.run_id
        if reused:
            self.context.log.info(f"{self.name}: nothing it depends on changed; made at {fact.body['revision'][:12]}")
            self._refused_again(fact)
        link = self.platform.source.web_link(self.release.revision)
        rows: dict[str, Any] = {
            "revision": MetadataValue.url(link) if link else self.release.revision,
            "digest": fact.body["digest"],
            "fingerprint": fact.fingerprint,
            "verdict": fact.body["verdict"],
            "reused": reused,
            "made_in_seconds": fact.body["seconds"],
            **metadata,
        }
        return MaterializeResult(metadata=rows, data_version=DataVersion(fact.body["digest"]))


def will_try_again(context: AssetExecutionContext, error: LlmopsError) -> bool:
    return isinstance(error, TransientError) and context.retry_number < ONCE_MORE.max_retries


def _generation_of(context: AssetExecutionContext) -> int:
    return int(context.run.tags.get(GENERATION_TAG, 0))


@contextmanager
def stage(context: AssetExecutionContext, platform: Platform, name: str) -> Iterator[Step]:
    """Opens the run's release for one stage and turns purposeful errors into recorded, readable failures."""
    model = context.partition_key
    revision = ""
    try:
        platform = doors_of(platform, model)
        wanted = context.run.tags.get(REVISION_TAG)
        revision = pinned_revision(platform, model, context.run.run_id, wanted, _generation_of(context))
        if wanted is None:
            context.instance.add_run_tags(context.run.run_id, {REVISION_TAG: revision})
        release = open_release(platform, model, revision)
        missing = lacks(release.spec, release.inputs.production)
        if missing:
            raise GateRefused("environment", f"{platform.settings.name} cannot run it: {'; '.join(missing)}")
        step = Step(name, release, context)
        step.refuse_if_retired()
        step.refuse_if_overtaken()
        yield step
    except LlmopsError as error:
        refused = error.stage if isinstance(error, GateRefused) else name
        reason = error.reason if isinstance(error, GateRefused) else str(error)
        reason = "; ".join([reason, *getattr(error, "__notes__", ())])  # what became of a canary's traffic
        if not will_try_again(context, error):
            body = {"reason": reason, "revision": revision, "run_id": context.run.run_id}
            platform.ledger.append("refused", model=model, subject=refused, body=body)
        raise Failure(description=reason, allow_retries=isinstance(error, TransientError)) from error
