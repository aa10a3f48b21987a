"""Reading the past of a repository: the working tree must never shine through."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.errors import InputError, IntegrityError
from resources.git.commit_pages import commit_page
from resources.git.source import GitSource

NOWHERE = "0" * 40


def test_reads_the_commit_and_not_the_working_tree(repository):
    first = repository.commit({"models/a/model.yaml": "one", "config/local.yaml": "x"})
    second = repository.commit({"models/a/model.yaml": "two"})
    repository.write({"models/a/model.yaml": "three, not committed"})
    source = GitSource(repository.path)
    assert source.read(first, "models/a/model.yaml") == b"one"
    assert source.read(second, "models/a/model.yaml") == b"two"
    assert source.read(second, "models/a") is None
    assert source.read(second, "models/b/model.yaml") is None
    assert source.files(second) == ["config/local.yaml", "models/a/model.yaml"]
    assert source.files(second, "models") == source.files(second, "models/") == ["models/a/model.yaml"]
    assert source.files(second, "model") == []
    assert source.blobs(second, "config/local.yaml").keys() == {"config/local.yaml"}


def test_equal_folders_have_equal_ids_so_a_change_elsewhere_triggers_nothing(repository):
    first = repository.commit({"data.dvc": "1", "src/code.py": "a"})
    second = repository.commit({"data.dvc": "2"})
    source = GitSource(repository.path)
    assert source.tree_id(first, "src") == source.tree_id(second, "src")
    assert source.tree_id(first, "data.dvc") != source.tree_id(second, "data.dvc")
    assert source.tree_id(first, "") != source.tree_id(second, "")
    assert source.tree_id(first, "gone") is None


def test_commit_time_is_aware_so_comparing_it_cannot_be_swallowed(repository):
    date = "2026-01-02T03:04:05+0200"
    repository.git("commit", "--allow-empty", "-m", "first", GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)
    parent = repository.git("rev-parse", "HEAD")
    repository.git("commit", "--allow-empty", "-m", "Bärbel's", GIT_COMMITTER_DATE=date)
    commit = GitSource(repository.path).commit("HEAD")
    assert commit.when == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert (commit.author, commit.email, commit.parents) == ("Ada", "ada@example.com", (parent,))
    assert commit.message == "Bärbel's\n"


def test_branches_resolve_locally_first_and_then_at_origin(repository, tmp_path):
    first = repository.commit({"a": "1"})
    repository.git("branch", "staging")
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", str(repository.path), str(clone))
    second = repository.commit({"a": "2"})
    repository.git("tag", "-a", "v1", "-m", "tagged")
    source = GitSource(repository.path)
    assert source.head() == source.head("main") == source.resolve("v1") == source.resolve(second[:8]) == second
    assert GitSource(clone).head("staging") == first
    repository.git("checkout", "--quiet", "--detach", first)
    assert source.head() == first
    with pytest.raises(InputError, match="no such branch"):
        source.head("v1")


def test_ancestry(repository):
    first, second = repository.commit({"a": "1"}), repository.commit({"a": "2"})
    source = GitSource(repository.path)
    assert source.is_ancestor(first, second)
    assert source.is_ancestor(first, first)
    assert not source.is_ancestor(second, first)


def test_a_shallow_clone_does_not_deny_ancestors_it_cannot_see(repository, tmp_path):
    first, second = repository.commit({"a": "1"}), repository.commit({"a": "2"})
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.path}", str(clone))
    source = GitSource(clone)
    assert source.read(second, "a") == b"2"
    with pytest.raises(InputError, match="unshallow"):
        source.resolve(first)
    repository.git("-C", str(clone), "commit", "--quiet", "--allow-empty", "-m", "more")
    assert source.is_ancestor(second, "HEAD")
    with pytest.raises(InputError, match="unshallow"):
        source.is_ancestor("HEAD", second)


def test_says_what_kind_of_repository_it_needs(repository, tmp_path):
    with pytest.raises(InputError, match="git init"):
        GitSource(tmp_path).head()
    with pytest.raises(InputError, match="git init"):
        GitSource(tmp_path / "missing").head()
    with pytest.raises(InputError, match="without commits"):
        GitSource(repository.path).head()
    with pytest.raises(InputError, match="bare"):
        repository.git("clone", "--quiet", "--bare", str(repository.path), str(tmp_path / "bare"))
        GitSource(tmp_path / "bare").head()


def test_a_repository_of_another_user_says_how_to_trust_it(repository):
    repository.commit({"a": "1"})
    if os.geteuid() != 0:
        pytest.skip("giving a folder away needs root")
    for path in (repository.path, repository.path / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(InputError, match=r"safe\.directory"):
        GitSource(repository.path).head()


@pytest.mark.parametrize("revision", [NOWHERE, "nope", "", "..", "HEAD~9", "a", "--upload-pack=x", "HEAD:a", "\0"])
def test_unknown_revisions_are_the_callers_fault(repository, revision):
    repository.commit({"a": "1"})
    with pytest.raises(InputError, match="no such revision"):
        GitSource(repository.path).read(revision, "a")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a//b", "./a", "a/../b", "a\nb"])
def test_paths_that_leave_the_repository_are_refused(repository, path):
    repository.commit({"a": "1"})
    with pytest.raises(InputError, match=r"path inside|plain relative|cannot be shown"):
        GitSource(repository.path).read("HEAD", path)


def test_a_link_in_place_of_a_configuration_is_refused(repository):
    (repository.path / "model.yaml").symlink_to("/etc/passwd")
    repository.commit()
    with pytest.raises(InputError, match="symbolic link"):
        GitSource(repository.path).read("HEAD", "model.yaml")


def test_a_missing_object_is_damage_and_not_an_absent_file(repository):
    revision = repository.commit({"a": "1"})
    blob = repository.git("rev-parse", "HEAD:a")
    (repository.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(IntegrityError, match="git fsck"):
        GitSource(repository.path).read(revision, "a")


def test_pygit2_is_imported_on_first_use_only():
    program = "import sys, resources.git.source; sys.exit('pygit2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("origin", "page"),
    [
        ("https://github.com/team/models.git", "https://github.com/team/models/commit/R"),
        ("https://user:secret@github.com/team/models", "https://github.com/team/models/commit/R"),
        ("git@github.com:team/models.git", "https://github.com/team/models/commit/R"),
        ("ssh://git@gitlab.example.com:2222/a/b/models.git", "https://gitlab.example.com/a/b/models/-/commit/R"),
        ("https://gitlab.example.com:8443/group/models", "https://gitlab.example.com:8443/group/models/-/commit/R"),
        ("https://example.com/team/models.git", None),
        ("/srv/git/models.git", None),
        ("file:///srv/github/models.git", None),
        ("https://github.com", None),
        ("https://[bad", None),
        ("", None),
    ],
)
def test_web_link(origin, page):
    assert commit_page(origin, "R") == page


@given(st.text(max_size=60), st.text(alphabet="abc123", min_size=12, max_size=12))
def test_web_link_never_shows_a_password(host, secret):
    assert secret not in (commit_page(f"https://user:{secret}@github.com/{host.replace(secret, '')}", "R") or "")


def test_web_link_of_a_repository(repository):
    revision = repository.commit({"a": "1"})
    source = GitSource(repository.path)
    assert source.web_link(revision) is None
    repository.git("remote", "add", "origin", "https://token@github.com/team/models.git")
    assert source.web_link(revision) == f"https://github.com/team/models/commit/{revision}"
