"""What `llmops status` says of releases that are under way, with a Dagster that answers, hangs or is not there."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from llmops_assets.cli.under_way import releases_under_way
from llmops_assets.tags import PARTITION_TAG, REVISION_TAG
from tests.cli.conftest import Ended
from tests.fakes.ports import free_port

Run = Callable[..., Ended]


def run_of(model: str, job: str, status: str, stages: dict[str, str], **tags: str) -> dict[str, Any]:
    given = {PARTITION_TAG: model, **tags}
    return {
        **{"runId": f"{model}-{job}", "jobName": job, "status": status, "creationTime": 1795296000.5},
        "startTime": 1795296060.0 if status == "STARTED" else None,
        "stepStats": [{"stepKey": name, "status": state} for name, state in stages.items()],
        "tags": [{"key": key, "value": value} for key, value in given.items()],
    }


RUNS = [
    run_of("tiny", "release", "STARTED", {"dataset": "SUCCESS", "weights": "IN_PROGRESS"}, **{REVISION_TAG: "a" * 40}),
    run_of("other", "release", "QUEUED", {}, **{REVISION_TAG: "b" * 40}),
    run_of("mine", "__ASSET_JOB", "STARTED", {"dataset": "IN_PROGRESS"}, **{REVISION_TAG: "c" * 40}),
    run_of("tiny", "audit", "STARTED", {"lineage": "IN_PROGRESS"}),
]


class Dagster(BaseHTTPRequestHandler):
    asked: dict[str, Any]

    def do_POST(self) -> None:
        Dagster.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps({"data": {"runsOrError": {"__typename": "Runs", "results": RUNS}}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def dagster(llmops: Run) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", int(os.environ["LLMOPS_PORT_BASE"]) + 1), Dagster) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@pytest.mark.usefixtures("dagster")
def test_the_status_hid_a_release_that_is_under_way(llmops: Run) -> None:
    found = llmops("status", "--json").json["under_way"]
    assert [(one["model"], one["state"], one["stages"]) for one in found] == [
        ("mine", "started", ["dataset"]),
        ("other", "queued", []),
        ("tiny", "started", ["weights"]),
    ]
    assert found[2] | {"state": "", "stages": []} == {
        **{"model": "tiny", "revision": "a" * 40, "run_id": "tiny-release", "state": "", "stages": []},
        "since": "2026-11-21T21:21:00+00:00",
    }
    told = " ".join(llmops("status").output.split())
    since = "since 21:21 UTC of 2026-11-21 (run tiny-release)"
    assert f"{'a' * 12} of tiny is being released: at weights, {since}" in told
    assert f"{'b' * 12} of other is being released: queued, since 21:20 UTC" in told and "lineage" not in told
    assert [one["model"] for one in llmops("status", "tiny", "--json").json["under_way"]] == ["tiny"]


@pytest.mark.usefixtures("dagster")
def test_dagster_does_not_know_what_is_asked(llmops: Run) -> None:
    from dagster_graphql.schema import create_schema

    llmops("status")
    asked = create_schema().execute(Dagster.asked["query"], variables=Dagster.asked["variables"])
    # that nothing is behind the schema here comes after the question was understood
    assert not [error.message for error in asked.errors or () if error.path is None]


def test_nothing_known_of_a_release_counted_as_none(llmops: Run) -> None:
    assert llmops("status", "--json").json["under_way"] is None
    told = " ".join(llmops("status").output.split())
    assert "Dagster does not answer, so whether a release is under way is not known." in told


def test_a_dagster_that_hangs_held_the_status_up() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        begun = time.monotonic()
        assert releases_under_way(f"http://127.0.0.1:{port}") is None
        assert time.monotonic() - begun < 1.0
