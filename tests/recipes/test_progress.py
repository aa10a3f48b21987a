"""Progress reaches a person at a bearable pace, and the orchestrator that launched the recipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.progress import Progress, open_progress

ROOT = Path(__file__).parents[2]


def test_at_most_one_line_in_an_interval_but_always_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(interval_seconds=60)
    for done in range(1, 501):
        progress.report(done, 500, loss=1 / done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["1/500", "500/500"]
    assert lines[1] == "500/500 loss 0.002, 0 s left"


def test_time_left_follows_the_rate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("recipes.progress.time.monotonic", lambda: next(clock))
    progress = Progress()
    progress.report(1, 21)
    progress.report(11, 21)
    assert capsys.readouterr().err.splitlines()[-1] == "11/21, 10 s left"


def test_without_an_orchestrator_it_only_prints(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("DAGSTER_PIPES_CONTEXT", raising=False)
    with open_progress() as progress:
        progress.report(1, 1)
    assert "1/1" in capsys.readouterr().err


def test_pipes_receive_the_same_figures(tmp_path: Path) -> None:
    from dagster_pipes import encode_param

    keys = (
        "asset_keys",
        "code_version_by_asset_key",
        "provenance_by_asset_key",
        "partition_key",
        "partition_key_range",
    )
    context = {"run_id": "r", "retry_number": 0, "extras": {}, "job_name": None, "partition_time_window": None}
    (tmp_path / "context.json").write_text(json.dumps({**dict.fromkeys(keys), **context}))
    variables = {
        "DAGSTER_PIPES_CONTEXT": encode_param({"path": str(tmp_path / "context.json")}),
        "DAGSTER_PIPES_MESSAGES": encode_param({"path": str(tmp_path / "messages")}),
    }
    code = "from recipes.progress import open_progress\nwith open_progress() as p: p.report(3, 3, loss=0.5)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **variables}, check=True)
    messages = [json.loads(line) for line in (tmp_path / "messages").read_text().splitlines()]
    sent = [message["params"]["payload"] for message in messages if message["method"] == "report_custom_message"]
    assert sent == [{"progress": {"done": 3, "total": 3, "seconds_left": None, "loss": 0.5}}]


def test_time_left_of_resumed_work_counted_what_another_process_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("recipes.progress.time.monotonic", lambda: next(clock))
    progress = Progress()
    progress.report(501, 521)
    progress.report(511, 521)
    assert capsys.readouterr().err.splitlines()[-1] == "511/521, 10 s left"
