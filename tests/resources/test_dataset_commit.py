"""A new version of data as a commit of its own: on real Git and DVC, with a real remote, in nobody's working tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUIET_GIT, DvcRepository

from llmops_core.errors import InputError, TransientError
from resources.data.dataset_commit import EMAIL, GitDvcCommits, Merged, Proposal
from resources.data.dataset_store import DvcStore
from resources.git.source import GitSource

CONTENT = b'{"prompt": "new", "response": "row"}\n'
AT = "2026-11-21T12:00:00.000+00:00"


@pytest.fixture
def commits(dvc_repository: DvcRepository, tmp_path: Path) -> GitDvcCommits:
    return GitDvcCommits(dvc_repository.path, tmp_path / "work")


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's name in Git's settings: the platform brings its own. Where DVC 3 keeps its state is the test's own."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    (tmp_path / "work").mkdir()


def proposal(repository: DvcRepository, path: str = "data/extra/feedback.jsonl", **changes: object) -> Proposal:
    declared = changes.pop("declared_in", None)
    base = str(changes.pop("base", repository.git("rev-parse", "main")))
    content = bytes(changes.pop("content", CONTENT))  # type: ignore[call-overload]
    return Proposal(base, "arrivals/x/123", path, declared, content, "Add 1 row\n", AT)  # type: ignore[arg-type]


def elsewhere(repository: DvcRepository, folder: Path, branch: str) -> Path:
    """What a colleague gets who clones, checks out the branch and runs `dvc pull`."""
    for command in (
        ["git", "clone", "--quiet", "--branch", branch, str(repository.path), str(folder)],
        [sys.executable, "-m", "dvc", "pull", "--quiet"],
    ):
        where = folder if folder.exists() else repository.path
        environment = {**os.environ, **QUIET_GIT, "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def read(repository: DvcRepository, revision: str, path: str, target: Path) -> bytes:
    fetched = DvcStore(repository.path, GitSource(repository.path)).fetch(revision, path, target)
    return (fetched.folder / fetched.files[0].path).read_bytes()


def test_a_version_could_not_be_pulled_in_another_clone(
    commits: GitDvcCommits, dvc_repository: DvcRepository, tmp_path: Path
) -> None:
    before = dvc_repository.git("status", "--porcelain"), dvc_repository.git("rev-parse", "HEAD")
    revision = commits.propose(proposal(dvc_repository))
    assert commits.tip("arrivals/x/123") == revision
    shutil.rmtree(dvc_repository.path / ".dvc" / "cache")  # the remote alone must have it
    clone = elsewhere(dvc_repository, tmp_path / "repository-colleague", "arrivals/x/123")
    assert (clone / "data/extra/feedback.jsonl").read_bytes() == CONTENT
    assert (clone / "data/atlas/train.jsonl").is_file(), "the data that was there is lost"
    assert (dvc_repository.git("status", "--porcelain"), dvc_repository.git("rev-parse", "HEAD")) == before


def test_the_commit_holds_more_than_the_pointer_or_names_a_person(
    commits: GitDvcCommits, dvc_repository: DvcRepository
) -> None:
    revision = commits.propose(proposal(dvc_repository))
    changed = dvc_repository.git("diff", "--name-only", "main", revision).split()
    assert changed == ["data/extra/.gitignore", "data/extra/feedback.jsonl.dvc"]
    shown = dvc_repository.git("show", "--no-patch", "--format=%ae %ce %s", revision)
    assert shown == f"{EMAIL} {EMAIL} Add 1 row"
    assert dvc_repository.git("rev-parse", f"{revision}^") == dvc_repository.git("rev-parse", "main")
    assert not list(commits.work.iterdir()), "the scratch clone is left behind"


def test_a_file_in_a_tracked_folder_lost_the_others_or_needed_their_bytes(
    commits: GitDvcCommits, dvc_repository: DvcRepository, tmp_path: Path
) -> None:
    data = DvcStore(dvc_repository.path, GitSource(dvc_repository.path))
    pointer = data.pointer("main", "data/atlas")
    for file in data.listed("main", "data/atlas"):
        dvc_repository.object(file.md5).unlink()
    path = "data/atlas/feedback.jsonl"
    revision = commits.propose(proposal(dvc_repository, path, declared_in=pointer.declared_in))
    assert dvc_repository.git("diff", "--name-only", "main", revision).split() == ["data/atlas.dvc"]
    shutil.rmtree(dvc_repository.path / ".dvc" / "cache")  # the remote alone must have all of it
    fetched = data.fetch(revision, "data/atlas", tmp_path / "out")
    assert {file.path for file in fetched.files} == {"train.jsonl", "deep/test.jsonl", "feedback.jsonl"}
    assert (tmp_path / "out" / "feedback.jsonl").read_bytes() == CONTENT


def test_a_file_with_a_pointer_of_its_own_got_no_new_version(
    commits: GitDvcCommits, dvc_repository: DvcRepository, tmp_path: Path
) -> None:
    path = "data/extra/feedback.jsonl"
    first = commits.propose(proposal(dvc_repository))
    again = proposal(dvc_repository, base=first, content=CONTENT * 2, declared_in=f"{path}.dvc")
    second = commits.propose(again, instead_of=first)
    assert read(dvc_repository, second, path, tmp_path / "out") == CONTENT * 2


def test_without_a_remote_the_bytes_were_nowhere(
    commits: GitDvcCommits, dvc_repository: DvcRepository, tmp_path: Path
) -> None:
    dvc_repository.commit({".dvc/config": "[core]\n    analytics = false\n"})
    shutil.rmtree(dvc_repository.remote)
    revision = commits.propose(proposal(dvc_repository))
    data = DvcStore(dvc_repository.path, GitSource(dvc_repository.path))
    assert data.lacking(revision, ["data/extra/feedback.jsonl"]) == {}
    assert read(dvc_repository, revision, "data/extra/feedback.jsonl", tmp_path / "out") == CONTENT


def test_a_branch_points_to_data_that_the_remote_lacks(commits: GitDvcCommits, dvc_repository: DvcRepository) -> None:
    shutil.rmtree(dvc_repository.remote)
    dvc_repository.remote.write_text("no folder")
    with pytest.raises((InputError, TransientError)):
        commits.propose(proposal(dvc_repository))
    assert commits.tip("arrivals/x/123") is None


def test_the_same_proposal_twice_was_two_commits(commits: GitDvcCommits, dvc_repository: DvcRepository) -> None:
    first = commits.propose(proposal(dvc_repository))
    assert commits.propose(proposal(dvc_repository), instead_of=first) == first


def test_two_pods_that_proposed_the_same_at_once_were_at_odds(
    commits: GitDvcCommits, dvc_repository: DvcRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw no branch. The one whose push comes a moment later finds its own commit there."""
    pushed = commits._pushed

    def comes_later(clone: Path, refspec: str, *options: str) -> str:
        assert pushed(clone, refspec, *options) == ""  # by the other one
        return "! [remote rejected] HEAD -> arrivals/x/123 (failed to update ref)"

    monkeypatch.setattr(commits, "_pushed", comes_later)
    assert commits.propose(proposal(dvc_repository)) == dvc_repository.git("rev-parse", "arrivals/x/123")


def test_a_branch_that_another_made_meanwhile_was_overwritten(
    commits: GitDvcCommits, dvc_repository: DvcRepository
) -> None:
    theirs = dvc_repository.git("rev-parse", "main")
    dvc_repository.git("branch", "arrivals/x/123", "main")
    with pytest.raises(TransientError, match="changed meanwhile"):
        commits.propose(proposal(dvc_repository))
    assert commits.tip("arrivals/x/123") == theirs


def test_what_git_tracks_itself_was_given_to_dvc(commits: GitDvcCommits, dvc_repository: DvcRepository) -> None:
    dvc_repository.commit({"data/extra/feedback.jsonl": "{}"})
    with pytest.raises(InputError, match="DVC will not take it"):
        commits.propose(proposal(dvc_repository))


def test_a_folder_that_git_ignores_was_blamed_on_a_path_that_nobody_knows(
    commits: GitDvcCommits, dvc_repository: DvcRepository
) -> None:
    dvc_repository.commit({"data/.gitignore": "/atlas\n/extra\n"})
    with pytest.raises(InputError, match=r"'data/extra/feedback.jsonl.dvc' is git-ignored"):
        commits.propose(proposal(dvc_repository))


def test_a_branch_in_the_way_was_taken_for_a_commit_that_came_meanwhile(
    commits: GitDvcCommits, dvc_repository: DvcRepository
) -> None:
    """Git keeps branches as paths. Trying again, which a moved branch asks for, would never end."""
    dvc_repository.git("branch", "arrivals")
    with pytest.raises(InputError, match="the branch arrivals bars this one"):
        commits.propose(proposal(dvc_repository))


def test_a_branch_that_nobody_has_checked_out_was_not_moved(
    commits: GitDvcCommits, dvc_repository: DvcRepository
) -> None:
    dvc_repository.git("branch", "staging", "main")
    revision = commits.propose(proposal(dvc_repository))
    assert commits.merge(revision, "staging") == Merged("merged")
    assert dvc_repository.git("rev-parse", "staging") == revision
    assert commits.merge(revision, "staging") == Merged("merged"), "again is no harm"


@pytest.mark.parametrize("branch", ["main", "HEAD"])
def test_a_working_tree_was_changed_under_its_owner(
    commits: GitDvcCommits, dvc_repository: DvcRepository, branch: str
) -> None:
    before = dvc_repository.git("rev-parse", "main")
    merged = commits.merge(commits.propose(proposal(dvc_repository)), branch)
    assert merged.state == "kept" and "checked out" in merged.reason
    assert dvc_repository.git("rev-parse", "main") == before


def test_without_a_branch_checked_out_a_merge_crashed(commits: GitDvcCommits, dvc_repository: DvcRepository) -> None:
    revision = commits.propose(proposal(dvc_repository))
    dvc_repository.git("checkout", "--quiet", "--detach")
    merged = commits.merge(revision, "HEAD")
    assert merged.state == "kept" and "detached" in merged.reason


def test_a_commit_that_came_meanwhile_was_lost(commits: GitDvcCommits, dvc_repository: DvcRepository) -> None:
    revision = commits.propose(proposal(dvc_repository))
    dvc_repository.commit({"new.txt": "x"})
    dvc_repository.git("branch", "staging", "main")
    assert commits.merge(revision, "staging").state == "moved"
    assert dvc_repository.git("rev-parse", "staging") == dvc_repository.git("rev-parse", "main")


def test_a_repository_that_refuses_the_branch_says_why(commits: GitDvcCommits, dvc_repository: DvcRepository) -> None:
    hook = dvc_repository.path / ".git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho only people push here >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(InputError, match="only people push here"):
        commits.propose(proposal(dvc_repository))
    assert not list(commits.work.iterdir())
