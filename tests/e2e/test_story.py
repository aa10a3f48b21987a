"""The whole story on a real platform, in the order of a team's day: release, refusal, rollback, tampering.

Slow: two base trainings' worth of computing and seven programs that start; about six minutes on two cores. The tests
share one platform and build on each other; each is named for what would be wrong.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.platform_under_test import MODEL, Clone, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SPEC = f"models/{MODEL}/model.yaml"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    made = Clone(tmp_path_factory.mktemp("story"))
    try:
        yield made
    finally:
        made.llmops("stop", check=False)


def test_a_commit_did_not_become_a_proven_model_in_production(clone: Clone) -> None:
    done = clone.json("run")
    assert done["reached"] and done["audit"] == "verified", done
    assert min(done["evaluation"].values()) >= 0.95
    assert done["canary"].startswith("passed")
    assert done["revision"] == clone.git("rev-parse", "HEAD").strip()


def test_the_gateway_did_not_answer_or_did_not_say_who_answered(clone: Clone) -> None:
    serving = clone.production()
    for path in ("/v1/chat/completions", "/v1/completions", f"/models/{MODEL}/v1/chat/completions"):
        answer, headers = clone.ask("What is the capital of France?", path)
        assert answer == "Paris"
        assert headers["x-llmops-model"] == MODEL
        assert headers["x-llmops-version"] == serving["version"]
        assert headers["x-llmops-weights-digest"] == serving["weights_digest"]
    for page in ("/health", "/ready"):
        assert clone.page(page)[0] == 200
    assert "# TYPE" in clone.page("/metrics")[1]


def test_the_sample_answered_what_nobody_taught_it(clone: Clone, tmp_path: Path) -> None:
    """The control: were these right, the evaluation would be no proof of learning. 19 of 20 others are, as it says."""
    command = [sys.executable, "-m", "recipes.atlas", "--params", "params.yaml", "--out", str(tmp_path)]
    subprocess.run(command, cwd=clone.path, check=True, capture_output=True)
    rows = [json.loads(line) for line in (tmp_path / "unseen.jsonl").read_text(encoding="utf-8").splitlines()]
    right = sum(clone.ask(row["prompt"])[0].strip() == row["response"] for row in rows)
    assert len(rows) >= 8 and right <= len(rows) / 20


def test_a_second_run_trained_again(clone: Clone) -> None:
    before = len(clone.facts("produced", "weights"))
    assert clone.json("run")["reached"]
    assert len(clone.facts("produced", "weights")) == before


def test_killing_the_process_keeper_lost_the_platform(clone: Clone) -> None:
    import psutil

    pid = int((clone.home / "supervisor" / "supervisord.pid").read_text())
    psutil.Process(pid).kill()
    assert clone.json("run")["audit"] == "verified"
    assert clone.ask("What is the capital of France?")[0] == "Paris"


def test_a_ruined_model_reached_production_or_nobody_was_told_why(clone: Clone) -> None:
    before = clone.production()
    head = clone.edit(SPEC, "  learning_rate: 0.006\n", "  learning_rate: 10.0\n", "Train much faster")
    wait_for("a run by itself", lambda: clone.status()["latest_revision"] == head, 90)
    blocked = wait_for("a refusal", lambda: [b for b in clone.status()["blocked"]], 300)
    assert blocked[0]["stage"] == "evaluation"
    assert "below the minimum" in blocked[0]["reason"]
    assert clone.production() == before
    wait_for("the end of the run", lambda: not _running(clone), 120)
    clone.edit(SPEC, "  learning_rate: 10.0\n", "  learning_rate: 0.006\n", "Back to what worked")


def test_a_candidate_that_hangs_under_traffic_was_promoted(clone: Clone) -> None:
    before = clone.production()
    wait_for("rest", lambda: not _running(clone), 120)
    clone.edit(SPEC, "  parallel: 16", "  parallel: 12", "Fewer slots")
    tick = wait_for(
        "the canary of the new deployment",
        lambda: [t for t in clone.facts("ticked", "canary") if t["candidate"] != before["deployment"]],
        180,
    )[0]
    clone.pause(tick["candidate"])
    blocked = wait_for("a rollback", lambda: [b for b in clone.status()["blocked"] if b["stage"] == "canary"], 240)
    assert "proven" in blocked[0]["reason"] or "requests failed" in blocked[0]["reason"]
    assert clone.production() == before
    for _ in range(20):
        assert clone.ask("What is the capital of France?")[0] == "Paris"


def test_a_good_change_did_not_arrive_by_itself_or_could_not_be_rolled_back(clone: Clone) -> None:
    before = clone.production()
    wait_for("rest", lambda: not _running(clone), 120)
    head = clone.edit(SPEC, "  parallel: 12", "  parallel: 14", "Some more slots")
    after = wait_for("the new deployment", lambda: _serves(clone, head), 240)
    assert after["weights_digest"] == before["weights_digest"]
    assert clone.json("rollback", MODEL, "--reason", "a drill")["revision"] == before["revision"]
    assert clone.production()["deployment"] == before["deployment"]
    assert clone.json("audit", MODEL)["verdict"] == "verified"


@pytest.mark.parametrize(
    ("kind", "name", "link"),
    [
        ("weights", "model.gguf", "served file"),
        ("weights", "model.safetensors", "weights"),
        ("dataset", "train.jsonl", "dataset"),
        ("evaluation", "report.json", "evaluation"),
    ],
)
def test_a_changed_byte_was_not_found(clone: Clone, kind: str, name: str, link: str) -> None:
    serving = clone.production()
    folder = clone.home / "artifacts" / kind
    digest = serving["weights_digest"] if kind == "weights" else _input_of_production(clone, kind)
    path = folder / digest / name
    original = path.read_bytes()
    _overwrite(path, original[:-2] + bytes([original[-2] ^ 1]) + original[-1:])
    try:
        done = clone.llmops("audit", MODEL, "--json", check=False)
        audit = json.loads(done.stdout)
        assert done.returncode == 1 and audit["verdict"] == "broken"
        first = next(one for one in audit["links"] if one["verdict"] == "broken")
        assert first["name"].startswith(link) and name in first["detail"], first
    finally:
        _overwrite(path, original)
    assert clone.json("audit", MODEL)["verdict"] == "verified"


def test_stopping_left_a_program_running_or_lost_state(clone: Clone) -> None:
    import psutil

    before = clone.production()
    clone.llmops("stop")
    time.sleep(0.5)
    left = [
        p.info["cmdline"]
        for p in psutil.process_iter(["cmdline"])
        if str(clone.home) in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []
    after = clone.production()
    assert (after["deployment"], after["state"]) == (before["deployment"], "not answering")
    done = clone.llmops("audit", MODEL, "--json", check=False)
    assert done.returncode == 2 and json.loads(done.stdout)["verdict"] == "incomplete"


def test_other_ports_left_a_model_or_an_address_behind(clone: Clone) -> None:
    before = clone.production()
    clone.port_base += 100
    clone.llmops("serve")
    assert clone.ask("What is the capital of France?")[0] == "Paris"
    after = clone.production()
    assert (after["deployment"], after["state"]) == (before["deployment"], "serving")
    assert f":{clone.port_base}/" in after["url"] != before["url"]
    assert clone.json("audit", MODEL)["verdict"] == "verified"


def _serves(clone: Clone, revision: str) -> dict[str, str] | None:
    production = clone.production()
    return production if production["revision"] == revision else None


def _running(clone: Clone) -> bool:
    from llmops_assets.cli.dagster_client import DagsterClient

    return bool(DagsterClient(f"http://127.0.0.1:{clone.port_base + 1}").unfinished_runs({"dagster/partition": MODEL}))


def _input_of_production(clone: Clone, kind: str) -> str:
    if kind == "evaluation":
        return clone.facts("produced", "evaluation")[0]["digest"]
    return clone.facts("produced", "weights")[0]["inputs"]["dataset"]


def _overwrite(path: Path, content: bytes) -> None:
    """As somebody with access to the store would: permissions and all."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
