"""`llmops validate` on what people (and attackers) write: file, field, found, expected, and exit 1."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Ended
from tests.fakes.git_with_data import GitWithData

MODEL = "models/tiny/model.yaml"
Run = Callable[..., Ended]


def _write(clone: GitWithData, file: str, section: str, **changes: object) -> None:
    path = clone.path / file
    document = yaml.safe_load(path.read_text())
    (document[section] if section else document).update(changes)
    path.write_text(yaml.safe_dump(document))


def _problems(ended: Ended) -> list[dict[str, str]]:
    assert ended.exit_code == 1, ended.output
    assert all(set(row) == {"file", "field", "found", "expected", "message"} for row in ended.json)
    return ended.json


def test_a_sound_repository_was_refused(llmops: Run) -> None:
    ended = llmops("validate", "--json")
    assert (ended.exit_code, ended.json) == (0, [])
    assert "valid" in llmops("validate").output


S3 = {"type": "s3", "endpoint": None}
BAD = [
    ("", {"colour": "blue"}, "colour"),
    ("training", {"steps": "many"}, "training"),
    ("", {"name": "other"}, "name"),
    ("", {"resources": {"gpu_count": 2, "memory_gb": 8, "cpu": 1}}, "resources.memory_gb"),
    ("data", {"path": "../secrets"}, "data.path"),
    ("data", {"path": "/etc"}, "data.path"),
    ("data", {"path": "data/nowhere"}, "data.path"),
    ("", {"source": {"type": "s3", "uri": "file:///etc/passwd"}}, "source"),
    ("", {"source": {"type": "s3", "uri": "s3://b/k", "endpoint": "http://169.254.169.254/"}}, "source"),
    ("", {"source": {"type": "s3", "uri": "s3://b/k", "endpoint": "https://10.0.0.7/"}}, "source"),
    ("evaluation", {"suites": []}, "evaluation.suites"),
    ("", {"depends_on": ["nobody"]}, "depends_on"),
    ("", {"version": "first"}, "version"),
]


@pytest.mark.parametrize(("section", "changes", "field"), BAD, ids=[f"{b[2]}-{i}" for i, b in enumerate(BAD)])
def test_a_bad_model_was_accepted(clone: GitWithData, llmops: Run, section: str, changes: dict, field: str) -> None:
    _write(clone, MODEL, section, **changes)
    rows = _problems(llmops("validate", "--json"))
    assert [row for row in rows if row["file"] == MODEL and row["field"].startswith(field)], rows


TEXTS = {
    "bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "nesting": "a: " + "[" * 200 + "]" * 200 + "\n",
    "no mapping": "- just\n- a list\n",
    "duplicate": "name: tiny\nname: tiny\n",
    "tag": "name: !!python/object/apply:os.system [ls]\n",
    "empty": "",
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_yaml_was_read_or_crashed_the_reader(clone: GitWithData, llmops: Run, name: str) -> None:
    (clone.path / MODEL).write_text(TEXTS[name])
    assert {row["file"] for row in _problems(llmops("validate", "--json"))} == {MODEL}


def test_bytes_that_are_no_text_crashed_the_reader(clone: GitWithData, llmops: Run) -> None:
    (clone.path / MODEL).write_bytes(b"name: \xff\xfe\n")
    (row,) = _problems(llmops("validate", "--json"))
    assert "UTF-8" in row["message"] + row["expected"]


@pytest.mark.parametrize(
    ("section", "changes", "field"),
    [
        ("", {"strategy": "hope"}, "strategy"),
        ("canary", {"alpha": 2}, "canary.alpha"),
        ("canary", {"surprise": 1}, "canary.surprise"),
        ("approvals", {"required": []}, "approvals.required"),
        ("", {"name": "other"}, "name"),
        ("", {"staging": "nowhere"}, "staging"),
    ],
)
def test_bad_settings_were_accepted(clone: GitWithData, llmops: Run, section: str, changes: dict, field: str) -> None:
    _write(clone, "config/local.yaml", section, **changes)
    rows = _problems(llmops("validate", "--json"))
    assert [row for row in rows if row["file"] == "config/local.yaml" and row["field"].startswith(field)], rows


def test_a_missing_dvc_file_was_accepted(clone: GitWithData, llmops: Run) -> None:
    (clone.path / "data" / "tiny.dvc").unlink()
    (row,) = _problems(llmops("validate", "--json"))
    assert row["field"] == "data.path" and "dvc add data/tiny" in row["message"]


def test_a_file_of_another_name_was_ignored_in_silence(clone: GitWithData, llmops: Run) -> None:
    (clone.path / MODEL).rename(clone.path / "models/tiny/model.yml")
    (row,) = _problems(llmops("validate", "--json"))
    assert row["file"].endswith("model.yml")


def test_only_the_first_problem_was_told(clone: GitWithData, llmops: Run) -> None:
    _write(clone, MODEL, "training", steps="many", seed="one")
    _write(clone, "config/local.yaml", "", strategy="hope")
    assert len(_problems(llmops("validate", "--json"))) >= 3


def test_problems_elsewhere_failed_a_check_of_one_file(clone: GitWithData, llmops: Run) -> None:
    _write(clone, "config/local.yaml", "", strategy="hope")
    assert llmops("validate", "models", "--json").json == []
    assert llmops("validate", "config/local.yaml", "--json").exit_code == 1


@pytest.mark.parametrize("path", ["models/nobody", "/etc/passwd", "../.."])
def test_a_path_that_is_not_there_or_not_ours_passed(llmops: Run, path: str) -> None:
    (row,) = _problems(llmops("validate", path, "--json"))
    assert row["file"] == path


def test_a_path_that_is_not_there_hid_the_problems_of_another(clone: GitWithData, llmops: Run) -> None:
    _write(clone, "config/local.yaml", "", strategy="hope")
    rows = _problems(llmops("validate", "models/nobody", "config", "--json"))
    assert [row["file"] for row in rows] == ["models/nobody", "config/local.yaml"]


def test_a_path_with_nothing_to_validate_was_called_valid(clone: GitWithData, llmops: Run) -> None:
    (clone.path / "README.md").write_text("read me")
    for path in ("README.md", "recipes"):
        (row,) = _problems(llmops("validate", path, "--json"))
        assert (row["file"], row["found"]) == (path, "nothing to validate")
    ended = llmops("validate", "README.md")
    assert ended.exit_code == 1 and "nothing there is validated" in " ".join(ended.output.split())
    for path in (".", "models", MODEL, "config/approvers/allowed_signers", "data/tiny.dvc"):
        assert llmops("validate", path, "--json").json == [], path


def test_a_repository_with_nothing_in_it_was_called_valid(clone: GitWithData, llmops: Run) -> None:
    for name in ("models", "config", "data"):
        shutil.rmtree(clone.path / name)
    for paths in ([], ["."]):
        (row,) = _problems(llmops("validate", *paths, "--json"))
        assert "nothing to validate: no models/*/model.yaml" in row["message"]


def _no_model(folder: Path) -> None:
    (folder / "notes.txt").write_text("soon")


def _a_folder(folder: Path) -> None:
    (folder / "model.yaml").mkdir()


def _a_link(folder: Path) -> None:
    (folder / "model.yaml").symlink_to("../tiny/model.yaml")


def _a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "model.yaml")


PUT = {"nothing": _no_model, "a folder": _a_folder, "a symbolic link": _a_link, "a pipe, socket or device": _a_pipe}


@pytest.mark.parametrize("found", PUT)
def test_a_model_that_is_no_plain_file_was_ignored_in_silence(clone: GitWithData, llmops: Run, found: str) -> None:
    (clone.path / "models/x").mkdir()
    PUT[found](clone.path / "models/x")
    for path in ([], ["models/x"], ["models/x/model.yaml"] if found != "nothing" else []):
        (row,) = _problems(llmops("validate", *path, "--json"))
        assert (row["file"], row["found"], row["expected"]) == ("models/x/model.yaml", found, "a plain file")


def test_a_linked_model_folder_was_read_though_no_commit_holds_it(clone: GitWithData, llmops: Run) -> None:
    (clone.path / "models/x").symlink_to("tiny")
    (row,) = _problems(llmops("validate", "--json"))
    assert (row["file"], row["found"]) == ("models/x/model.yaml", "a file behind a symbolic link")


def test_what_is_no_model_was_taken_for_one(clone: GitWithData, llmops: Run) -> None:
    (clone.path / "models/model.schema.json").write_text("{}")
    (clone.path / "models/empty/also-empty").mkdir(parents=True)
    (clone.path / "models/.cache").mkdir()
    (clone.path / "models/.cache/x").write_text("")
    assert llmops("validate", "--json").json == []


def test_broken_or_missing_lists_of_approvers_were_called_valid(clone: GitWithData, llmops: Run) -> None:
    lists = clone.path / "config/approvers"
    (lists / "approvers.yaml").write_text("approvers: [ada]\n")
    (lists / "allowed_signers").write_text("ada@example.com ssh-ed25519\n")
    rows = _problems(llmops("validate", "--json"))
    assert [row["file"] for row in rows] == [
        f"config/approvers/{name}" for name in ("allowed_signers", "approvers.yaml")
    ]
    (lists / "approvers.yaml").unlink()
    (lists / "allowed_signers").unlink()
    (lists / "allowed_signers").symlink_to("/etc/passwd")
    rows = _problems(llmops("validate", "config/local.yaml", "--json"))
    assert [row["field"] for row in rows] == ["approvals.approvers", "approvals.signers"]
    assert "a symbolic link is there" in rows[1]["message"]


def test_people_could_not_read_the_problems(clone: GitWithData, llmops: Run) -> None:
    _write(clone, MODEL, "training", steps="many")
    ended = llmops("validate")
    assert ended.exit_code == 1 and ended.output.startswith("1 problem:")
