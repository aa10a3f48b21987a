"""Every command on a machine where nothing runs: one clear error, the right exit code, JSON where it was asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_assets.cli import run
from llmops_assets.cli.main import Commands
from llmops_assets.cli.options import platform
from llmops_core.errors import EnvironmentLacks
from resources.wiring import Platform
from tests.cli.conftest import Ended
from tests.fakes.git_with_data import GitWithData

Run = Callable[..., Ended]
PROGRAM = str(Path(sys.executable).with_name("llmops"))


@pytest.mark.parametrize("command", Commands.names)
def test_a_command_had_no_help_or_no_json(llmops: Run, command: str) -> None:
    ended = llmops(command, "--help")
    assert ended.exit_code == 0 and "--json" in ended.output and len(ended.output) > 200


def test_the_help_left_a_command_out(llmops: Run) -> None:
    told = llmops("--help").output
    assert all(f"  {command} " in told for command in Commands.names)
    assert llmops("conquer").exit_code == 64


def test_the_program_itself_did_not_start(tmp_path: Path) -> None:
    """Installed, in a process of its own, in a folder without a repository."""
    environment = {"PATH": os.environ["PATH"], "LLMOPS_HOME": str(tmp_path / "home")}
    done = subprocess.run([PROGRAM, "status", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "no Git repository" in done.stderr and "Traceback" not in done.stderr
    assert "no Git repository" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("LLMOPS_ENVIRONMENT", "moon", "one of: development-cluster, development, local, production, staging"),
        ("LLMOPS_PORT_BASE", "99999", "a whole number from 1024"),
        ("LLMOPS_REPOSITORY", "/nowhere", "does not exist"),
    ],
)
def test_an_impossible_variable_was_taken(
    llmops: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    ended = llmops("status", "--json")
    assert ended.exit_code == 1 and told in ended.json["error"] and told in ended.errors


def test_the_status_of_an_empty_platform_failed(llmops: Run) -> None:
    ended = llmops("status", "--json")
    (model,) = ended.json["models"]
    assert ended.exit_code == 0
    assert (model["model"], model["environments"], model["blocked"]) == ("tiny", {}, [])
    assert "serves nowhere" in llmops("status").output
    unknown = llmops("status", "nobody", "--json")
    assert unknown.exit_code == 1 and "there is no such model" in unknown.json["error"]


def test_a_folder_of_bytes_that_are_no_text_ended_the_status(clone: GitWithData, llmops: Run) -> None:
    (clone.path / "models" / "caf\udce9").mkdir()
    clone.commit({"models/caf\udce9/model.yaml": "name: odd\n"})
    ended = llmops("status", "--json")
    assert [model["model"] for model in ended.json["models"]] == ["caf\\udce9", "tiny"] and ended.exit_code == 0
    assert "models/caf\\udce9 is no name of a model" in " ".join(llmops("status").output.split())
    assert llmops("plan", "--json").exit_code == 1


def test_broken_settings_kept_the_platform_from_being_stopped(clone: GitWithData, llmops: Run) -> None:
    (clone.path / "config" / "local.yaml").write_text("nonsense: 1")
    assert llmops("status").exit_code == 1
    assert llmops("stop").exit_code == 0


def test_a_state_folder_that_cannot_be_made_gave_a_traceback(llmops: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_HOME", "/proc/nowhere")
    ended = llmops("status", "--json")
    assert ended.exit_code == 1 and "choose another state folder" in ended.json["error"]


def test_the_status_hid_what_the_environment_lacks(clone: GitWithData, llmops: Run) -> None:
    clone.commit_model(resources={"gpu_count": 1, "memory_gb": 8, "cpu": 1})
    (model,) = llmops("status", "--json").json["models"]
    assert model["blocked"][0]["stage"] == "environment" and "1 GPU(s)" in model["blocked"][0]["reason"]
    assert "held up at environment" in llmops("status").output


def test_a_repository_without_commits_crashed_the_status(llmops: Run, tmp_path: Path, monkeypatch) -> None:
    bare = GitWithData(tmp_path / "fresh")
    bare.path.mkdir()
    bare.git("init", "--quiet")
    (bare.path / "config").mkdir()
    (bare.path / "config" / "local.yaml").write_text(Path("config/local.yaml").read_text())
    monkeypatch.chdir(bare.path)
    ended = llmops("status")
    assert ended.exit_code == 1 and "commit something first" in ended.errors


def test_an_audit_of_what_does_not_serve_passed(llmops: Run) -> None:
    ended = llmops("audit", "tiny", "--json")
    assert (ended.exit_code, ended.json["verdict"]) == (2, "incomplete")
    assert ended.json["links"][0].keys() == {"name", "verdict", "detail"}
    ended = llmops("audit", "tiny")
    assert ended.exit_code == 2 and "first link that is incomplete: production" in ended.errors


def test_an_audit_of_no_model_did_not_say_which_there_are(llmops: Run) -> None:
    ended = llmops("audit", "nope", "--json")
    assert ended.exit_code == 2 and "there is no such model (found nope; expected one of: tiny)" in ended.json["error"]
    platform().ledger.append("retired", model="gone", subject="folder", body={})
    assert "one of: gone, tiny" in llmops("audit", "nope").errors
    assert "no such model" not in llmops("audit", "gone").errors


def test_a_plan_without_evidence_had_nothing_to_run(llmops: Run) -> None:
    ended = llmops("plan", "--json")
    assert ended.exit_code == 10
    assert [row["asset"] for row in ended.json][:3] == ["dataset", "base_weights", "weights"]
    assert {row["action"] for row in ended.json} == {"run"}


def test_a_plan_ran_what_the_environment_cannot(clone: GitWithData, llmops: Run) -> None:
    clone.commit_model(resources={"gpu_count": 1, "memory_gb": 8, "cpu": 1})
    ended = llmops("plan", "--json")
    assert ended.exit_code == 0 and {row["action"] for row in ended.json} == {"skip"}


def test_a_plan_of_an_invalid_revision_passed(clone: GitWithData, llmops: Run) -> None:
    clone.commit_model("training", steps="many")
    assert llmops("plan").exit_code == 1
    assert llmops("plan", "no-such-branch").exit_code == 1
    assert llmops("plan", "HEAD~1").exit_code == 10


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("release", "tiny"), "Dagster does not answer"),
        (("rollback", "tiny"), "does not serve in production"),
        (("retire", "tiny"), "models/tiny is still there at"),
        (("retire", "nobody"), "nothing was ever done for a model of this name"),
        (("release", "nobody"), "there is no model nobody"),
        (("release", "tiny", "--revision", "no-such"), "no such revision"),
        (("release", "../../etc"), "model"),
    ],
)
def test_a_command_without_a_platform_gave_no_clear_error(llmops: Run, command: tuple[str, ...], told: str) -> None:
    ended = llmops(*command)
    assert ended.exit_code == 1 and told in ended.errors and "Traceback" not in ended.errors
    assert told in llmops(*command, "--json").json["error"]


def test_something_was_approved_before_there_was_anything(llmops: Run, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("no key")
    ended = llmops("approve", "tiny", "--role", "technical", "--key", str(key))
    assert ended.exit_code == 1 and "no current dataset" in ended.errors
    assert llmops("approve", "tiny", "--role", "technical", "--key", str(tmp_path / "none")).exit_code == 64


@pytest.mark.parametrize(
    ("command", "place", "told"),
    [
        ("export", "nowhere/dir/x", "no folder {}/nowhere;"),
        ("export", "file/x", "{}/file, which is no folder;"),
        ("export", "file/dir/x", "{}/file, which is no folder;"),
        ("export", "folder", "a folder;"),
        ("export", "x" * 300, "file name too long;"),
        ("export", "/sys/x", "permission denied;"),
        ("import", "nowhere", "no such file;"),
        ("import", "nowhere/dir/x", "no folder {}/nowhere;"),
        ("import", "file/x", "{}/file, which is no folder;"),
        ("import", "folder", "a folder;"),
        ("import", "x" * 300, "file name too long;"),
    ],
)
def test_a_place_for_an_archive_that_is_none_gave_a_traceback(
    llmops: Run, tmp_path: Path, command: str, place: str, told: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    (problem,) = llmops(command, str(tmp_path / place), "--json").json["problems"]
    assert problem["file"] == str(tmp_path / place) and f"{problem['found']};" == told.format(tmp_path)
    assert llmops(command, str(tmp_path / place)).exit_code == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "home"] == before


def test_a_path_that_is_too_long_gave_a_traceback(llmops: Run) -> None:
    ended = llmops("validate", "x" * 300)
    assert ended.exit_code == 1 and "an existing file or folder" in " ".join(ended.output.split())


def test_a_role_that_nobody_can_hold_was_not_the_first_thing_said(llmops: Run) -> None:
    ended = llmops("approve", "tiny", "--role", "wizard")
    assert ended.exit_code == 1 and "--role: there is no such role" in ended.errors
    assert "expected one of: business, executive, security, technical" in ended.errors


def test_edits_that_nobody_committed_were_left_out_in_silence(clone: GitWithData, llmops: Run) -> None:
    assert "Not part of this release" not in llmops("release", "tiny").errors
    (clone.path / "models" / "tiny" / "model.yaml").write_text("name: tiny\n")
    (clone.path / "data" / "new.dvc").write_text("outs: []\n")
    (clone.path / "params.yaml").write_text("rows: 1\n")
    clone.git("add", "params.yaml")
    (clone.path / "notes.txt").write_text("no input of a release\n")
    told = f"Not part of this release, which is commit {clone.head[:12]}: uncommitted edits of "
    told += "data/new.dvc, models/tiny/model.yaml, params.yaml; commit them first"
    assert told in llmops("release", "tiny").errors.splitlines()
    assert told in llmops("release", "tiny", "--json").errors.splitlines()
    assert llmops("release", "tiny", "--json").json["problems"] == []
    before = clone.head
    clone.git("commit", "--quiet", "--message", "Something")
    assert "Not part" not in llmops("release", "tiny", "--revision", before).errors


def test_what_a_pipeline_rewrote_was_left_out_in_silence(
    clone: GitWithData, llmops: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(doors: Platform) -> Iterator[str]:
        raise EnvironmentLacks("no platform here")

    monkeypatch.setattr(run, "build_data", lambda *_: (clone.path / "dvc.lock").write_text("schema: '2.0'\n"))
    monkeypatch.setattr(run, "start", refused)
    ended = llmops("run", "tiny")
    assert "uncommitted edits of dvc.lock; commit" in ended.output and "no platform here" in ended.errors


def test_the_end_of_a_model_was_not_told(clone: GitWithData, llmops: Run) -> None:
    """It never served, so that no platform need run; its folder is there, then gone."""
    ended = llmops("retire", "tiny", "--even-though-committed", "--by", "ada", "--reason", "too dear", "--json")
    assert ended.exit_code == 0 and ended.json["ended"] == {} and ended.json["by"] == "ada"
    assert llmops("status", "--json").json["models"][0]["retired"]["reason"] == "too dear"
    assert "tiny was ended by ada on" in llmops("status").output
    assert "nothing does since ada ended it" in llmops("audit", "tiny").errors
    clone.git("rm", "-rq", "models/tiny")
    clone.git("commit", "--quiet", "--message", "Remove tiny")
    again = llmops("retire", "tiny")
    assert again.exit_code == 0 and "Nothing of tiny serves; ada ended it on" in again.output


def test_stopping_what_does_not_run_failed(llmops: Run) -> None:
    assert llmops("stop", "--json").json == {"stopped": True}


def test_the_status_told_of_the_address_at_the_time_of_the_deployment(
    llmops: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other ports, another address; and nothing answers there, whatever the ledger says."""
    body = {"deployment": "tiny-v1", "version": "1", "revision": "1" * 40, "weights_digest": "w" * 64}
    ledger = platform().ledger
    ledger.append("switched", model="tiny", subject="production", body={**body, "state": "serving", "previous": None})
    for base in ("8700", "9700"):
        monkeypatch.setenv("LLMOPS_PORT_BASE", base)
        production = llmops("status", "--json").json["models"][0]["environments"]["production"]
        assert production["url"] == f"http://127.0.0.1:{base}/models/tiny"
        assert production["state"] == "not answering" and production["trouble"] == "there is no deployment tiny-v1"
    assert "tiny does not answer in production" in llmops("status").output
