"""The running Dagster, asked over its GraphQL API, so that the command line needs no import of dagster (two seconds)
and works against a platform on another machine as well."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmops_core.errors import TransientError

REPOSITORY, LOCATION, PARTITIONS = "__repository__", "llmops_assets", "models"
TIMEOUT_SECONDS = 20
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")
WAITING = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")


@dataclass(frozen=True)
class Event:
    """One line of a run's event log. `step` is empty for events of the run itself."""

    kind: str
    step: str
    message: str
    seconds: float


class DagsterClient:
    """`url` is the address of the Dagster UI. Every method raises TransientError when it cannot be reached."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url, self._timeout_seconds = url, timeout_seconds

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}/graphql", body, headers)  # noqa: S310 (our own address)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds) as response:  # noqa: S310
                answer = json.load(response)
        except (OSError, ValueError) as error:
            raise TransientError(
                f"Dagster does not answer at {self._url}: {error}; start it with `llmops serve`"
            ) from error
        if answer.get("errors"):
            raise TransientError(f"Dagster refused a query: {answer['errors'][0]['message']}")
        return answer["data"]

    def add_partition(self, model: str) -> None:
        """Idempotent: a model that is a partition already stays one."""
        query = """mutation($r: RepositorySelector!, $p: String!, $k: String!) {
          addDynamicPartition(repositorySelector: $r, partitionsDefName: $p, partitionKey: $k) {
            __typename ... on PythonError { message } ... on UnauthorizedError { message } } }"""
        answer = self.ask(query, r=_selector(), p=PARTITIONS, k=model)["addDynamicPartition"]
        if answer["__typename"] not in ("AddDynamicPartitionSuccess", "DuplicateDynamicPartitionError"):
            raise TransientError(f"Dagster did not take partition {model}: {answer}")

    def launch(self, job: str, tags: dict[str, str]) -> str:
        """The id of a new run."""
        query = """mutation($e: ExecutionParams!) { launchPipelineExecution(executionParams: $e) {
          __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
          ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }"""
        parameters = {
            "selector": {**_selector(), "jobName": job},
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
        }
        answer = self.ask(query, e=parameters)["launchPipelineExecution"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise TransientError(f"Dagster did not launch {job}: {answer}")
        return answer["run"]["runId"]

    def unfinished_runs(self, tags: dict[str, str], details: str = "") -> list[dict[str, Any]]:
        """[{runId, status, tags}] of runs with these tags that wait or run, newest first; `details` are more fields."""
        query = """query($f: RunsFilter) { runsOrError(filter: $f, limit: 200) {
          __typename ... on Runs { results { runId status tags { key value } DETAILS } }
          ... on PythonError { message } } }""".replace("DETAILS", details)
        wanted = {"statuses": list(WAITING), "tags": [{"key": k, "value": v} for k, v in tags.items()]}
        answer = self.ask(query, f=wanted)["runsOrError"]
        if answer["__typename"] != "Runs":
            raise TransientError(f"Dagster could not list runs: {answer}")
        return answer["results"]

    def run_status(self, run_id: str) -> str:
        query = "query($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status } } }"
        answer = self.ask(query, id=run_id)["runOrError"]
        if answer["__typename"] != "Run":
            raise TransientError(f"Dagster knows no run {run_id}")
        return answer["status"]

    def events(self, run_id: str, cursor: str | None) -> tuple[list[Event], str | None]:
        """The events after `cursor` (None: from the start), and the cursor for the next call."""
        query = """query($id: ID!, $c: String) { logsForRun(runId: $id, afterCursor: $c, limit: 500) {
          __typename ... on EventConnection { cursor events {
            __typename ... on MessageEvent { message timestamp stepKey level } } }
          ... on RunNotFoundError { message } ... on PythonError { message } } }"""
        answer = self.ask(query, id=run_id, c=cursor)["logsForRun"]
        if answer["__typename"] != "EventConnection":
            raise TransientError(f"Dagster could not read the log of run {run_id}: {answer}")
        return list(_events(answer["events"])), answer["cursor"]


def _events(found: list[dict[str, Any]]) -> Iterator[Event]:
    for event in found:
        if "message" in event:
            yield Event(event["__typename"], event["stepKey"] or "", event["message"], float(event["timestamp"]) / 1000)


def _selector() -> dict[str, str]:
    return {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
