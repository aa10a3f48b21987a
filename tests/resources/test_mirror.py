"""Following a repository elsewhere: what it holds arrives, an outage is seen and ends, no secret is left anywhere."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, LlmopsError, TransientError
from llmops_core.platform_settings import Secret
from llmops_core.repositories import WatchedRepository
from resources.data.dataset_store import DvcStore
from resources.git.mirror import Mirror
from resources.git.source import GitSource
from tests.fakes.git_server import GitServer

TOKEN = "hunter2-hunter2"
INTERVAL = 15.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirrors(tmp_path: Path) -> Path:
    return tmp_path / "mirrors"


def watched(url: str, **fields: object) -> WatchedRepository:
    allowed = {"allowed_endpoints": frozenset({"127.0.0.1"})}
    return WatchedRepository.model_validate({"name": "team", "url": url, **fields}, context=allowed)


def mirror_of(repository, mirrors: Path, clock: Clock, branch: str = "main") -> Mirror:
    return Mirror(mirrors, watched(f"file://{repository.path}"), branch, clock)


@pytest.fixture
def served(repository, tmp_path: Path) -> Iterator[GitServer]:
    repository.commit({"a": "1"}, "first")
    server = GitServer(tmp_path, "x-access-token", TOKEN)
    yield server
    server.end()


def http_mirror(server: GitServer, mirrors: Path, clock: Clock, token: str = TOKEN) -> Mirror:
    secret = mirrors.with_name("secret")
    secret.write_text(f"{token}\n")
    repository = watched(f"{server.url}/repository/.git", token=Secret(file=str(secret)))
    return Mirror(mirrors, repository, "main", clock)


def test_what_the_remote_holds_did_not_arrive(repository, mirrors, clock) -> None:
    first = repository.commit({"a": "1"}, "first")
    mirror = mirror_of(repository, mirrors, clock)
    assert mirror.refresh(INTERVAL).why == ""
    source = GitSource(mirror.clone)
    assert (source.head("main"), source.read(first, "a")) == (first, b"1")
    second = repository.commit({"a": "2"}, "second")
    mirror.refresh(INTERVAL)
    assert source.head("main") == second and source.passage(first, second).kinship == "forward"


def test_a_branch_that_nobody_watches_was_copied(repository, mirrors, clock) -> None:
    repository.commit({"a": "1"})
    repository.git("checkout", "--quiet", "-b", "other")
    other = repository.commit({"a": "2"})
    mirror = mirror_of(repository, mirrors, clock)
    mirror.refresh(INTERVAL)
    with pytest.raises(Exception, match="no such revision"):
        GitSource(mirror.clone).commit(other)


def test_a_commit_had_no_page_at_its_host_or_a_page_of_an_address_that_changed(tmp_path: Path) -> None:
    page = GitSource(tmp_path, "git@github.com:example/models.git").web_link("1" * 40)
    assert page == f"https://github.com/example/models/commit/{'1' * 40}"


def test_a_released_commit_was_lost_with_a_force_push(repository, mirrors, clock) -> None:
    first = repository.commit({"a": "1"})
    released = repository.commit({"a": "2"}, "released")
    mirror = mirror_of(repository, mirrors, clock)
    mirror.refresh(INTERVAL)
    repository.git("reset", "--hard", "--quiet", first)
    instead = repository.commit({"a": "3"}, "instead")
    mirror.refresh(INTERVAL)
    subprocess.run(["git", "gc", "--quiet"], cwd=mirror.clone, check=True, env={**os.environ, "GIT_DIR": ".git"})
    passage = GitSource(mirror.clone).passage(released, instead)
    assert passage.kinship == "rewritten" and [commit.revision for commit in passage.dropped] == [released]


def commits_kept_by_references(clone: Path) -> set[str]:
    """What stays whatever anybody's git does: reachable from a reference, no reflog needed."""
    listed = subprocess.run(["git", "rev-list", "--all"], cwd=clone, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


@pytest.mark.parametrize(("old", "new"), [("main", "main/next"), ("main/next", "main")])
def test_a_branch_was_in_the_way_of_another_for_ever_or_its_commits_were_lost(
    repository, mirrors, clock, old, new
) -> None:
    first = repository.commit({"a": "1"})
    repository.git("branch", "--move", "main", old) if old != "main" else None
    mirror = mirror_of(repository, mirrors, clock, old)
    released = repository.commit({"a": "2"}, "released")
    mirror.refresh(INTERVAL)
    repository.git("reset", "--hard", "--quiet", first)
    forced = repository.commit({"a": "3"}, "instead")
    mirror.refresh(INTERVAL)
    subprocess.run(["git", "pack-refs", "--all"], cwd=mirror.clone, check=True)
    repository.git("branch", "--move", old, new)
    repository.git("reset", "--hard", "--quiet", first)
    newest = repository.commit({"a": "4"}, "on the new branch")
    moved = mirror_of(repository, mirrors, clock, new)
    assert moved.refresh(INTERVAL).told == "" and GitSource(mirror.clone).head(new) == newest
    assert commits_kept_by_references(mirror.clone) == {first, released, forced, newest}
    assert moved.refresh(INTERVAL).told == ""
    repository.git("branch", "--move", new, old)
    assert mirror.refresh(INTERVAL).told == "" and GitSource(mirror.clone).head(old) == newest


def test_a_shallow_remote_or_an_unrelated_history_stopped_the_mirror(repository, tmp_path, mirrors, clock) -> None:
    first = repository.commit({"a": "1"})
    repository.commit({"a": "2"})
    shallow = tmp_path / "shallow"
    repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.path}", str(shallow))
    mirror = Mirror(mirrors, watched(f"file://{shallow}"), "main", clock)
    assert mirror.refresh(INTERVAL).why == ""
    source, cut = GitSource(mirror.clone), repository.git("rev-parse", "HEAD")
    assert source.head("main") == cut and source.passage(first, cut).kinship == "unknown"
    repository.git("checkout", "--quiet", "--orphan", "fresh")
    fresh = repository.commit({"a": "3"}, "a new beginning")
    moved = Mirror(mirrors, watched(f"file://{repository.path}"), "fresh", clock)
    moved.refresh(INTERVAL)
    assert source.head("fresh") == fresh and source.passage(cut, fresh).kinship in ("unknown", "unrelated")


def test_a_deleted_branch_crashed_emptied_or_ended_the_mirror(repository, mirrors, clock) -> None:
    first = repository.commit({"a": "1"})
    mirror = mirror_of(repository, mirrors, clock)
    mirror.refresh(INTERVAL)
    repository.git("branch", "--move", "main", "elsewhere")
    gone = mirror.refresh(INTERVAL)
    assert "has no branch main" in gone.told and not gone.pauses(clock())
    clock.now += INTERVAL
    assert mirror.refresh(INTERVAL) == gone  # since then, and asked each time
    assert GitSource(mirror.clone).head("main") == first
    repository.git("branch", "--move", "elsewhere", "main")
    second = repository.commit({"a": "2"})
    assert mirror.refresh(INTERVAL).told == "" and GitSource(mirror.clone).head("main") == second


def test_an_empty_repository_was_an_error(repository, mirrors, clock) -> None:
    mirror = mirror_of(repository, mirrors, clock)
    assert "has no branch main" in mirror.refresh(INTERVAL).told
    repository.commit({"a": "1"})
    assert mirror.refresh(INTERVAL).told == ""


def test_an_outage_was_silent_asked_too_often_or_forgotten(repository, mirrors, clock, tmp_path) -> None:
    repository.commit({"a": "1"})
    mirror = mirror_of(repository, mirrors, clock)
    mirror.refresh(INTERVAL)
    repository.path.rename(tmp_path / "away")
    began, tries = clock.now, []
    for _ in range(6 * 60):
        try:
            silent = mirror.refresh(INTERVAL)
            assert "cannot be fetched" in silent.told and "since" in silent.told and "next at" in silent.told
        except TransientError as error:
            assert "team" in str(error) and "repository" in str(error)
            tries.append(clock.now - began)
        clock.now += INTERVAL
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps[:7] == [15, 30, 60, 120, 240, 480, 900] and set(gaps[7:]) == {900}
    (tmp_path / "away").rename(repository.path)
    second = repository.commit({"a": "2"})
    clock.now += 900
    assert mirror.refresh(INTERVAL).told == "" and GitSource(mirror.clone).head("main") == second
    assert mirror.reach().failures == 0


def test_a_sign_of_life_did_not_end_a_pause_or_made_the_next_one_short(repository, mirrors, clock) -> None:
    mirror = mirror_of(repository, mirrors, clock)
    mirror.end_pause()
    assert not mirror.reach().failures
    shutil.move(repository.path, away := repository.path.with_name("away"))
    for _ in range(6):
        with pytest.raises(TransientError):
            mirror.refresh(INTERVAL)
        assert mirror.refresh(INTERVAL).pauses(clock())
        mirror.end_pause()
    assert mirror.reach().failures == 6 and "next at 1970-01-01 " not in mirror.reach().told
    shutil.move(away, repository.path)
    repository.commit({"a": "1"})
    assert mirror.refresh(INTERVAL).told == ""


def test_a_clock_that_was_set_back_kept_a_repository_waiting(repository, mirrors, clock) -> None:
    mirror = mirror_of(repository, mirrors, clock)
    shutil.move(repository.path, repository.path.with_name("away"))
    with pytest.raises(TransientError):
        mirror.refresh(INTERVAL)
    shutil.move(repository.path.with_name("away"), repository.path)
    repository.commit({"a": "1"})
    clock.now -= 86_400
    assert mirror.refresh(INTERVAL).told == ""


def test_a_mirror_that_is_gone_showed_the_repository_around_it(repository, clock) -> None:
    repository.commit({"a": "1"})
    with pytest.raises(Exception, match="Repository not found"):
        GitSource(Mirror(repository.path / ".llmops", watched(f"file://{repository.path}"), "main").clone).head("main")


def test_a_token_was_not_sent(served, mirrors, clock) -> None:
    mirror = http_mirror(served, mirrors, clock)
    assert mirror.refresh(INTERVAL).told == ""
    assert GitSource(mirror.clone).read(GitSource(mirror.clone).head("main"), "a") == b"1"


@pytest.mark.parametrize("token", [TOKEN, "hunter2-wrong"])
def test_a_secret_was_left_on_disk_in_an_error_or_in_a_list_of_processes(served, mirrors, clock, token) -> None:
    mirror = http_mirror(served, mirrors, clock, token)
    said = ""
    try:
        mirror.refresh(INTERVAL)
    except TransientError as error:
        said = str(error)
    assert ("does not take this one" in said) == (token != TOKEN)
    encoded = served.asked[-1].removeprefix("Basic ")
    assert encoded and "hunter2" not in said and encoded not in said
    files = [path.read_bytes() for path in mirrors.rglob("*") if path.is_file()]
    assert files and not [content for content in files if b"hunter2" in content or encoded.encode() in content]


def test_a_token_stood_in_the_arguments_of_a_program(served, mirrors, clock, tmp_path, monkeypatch) -> None:
    seen = tmp_path / "seen"
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {real} "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    http_mirror(served, mirrors, clock).refresh(INTERVAL)
    assert "fetch" in seen.read_text() and "hunter2" not in seen.read_text()
    assert served.asked[-1].removeprefix("Basic ") not in seen.read_text()


def test_a_token_followed_a_redirection(served, mirrors, clock, tmp_path) -> None:
    thief = GitServer(tmp_path)
    served.moved_to = thief.url
    try:
        with pytest.raises(TransientError):
            http_mirror(served, mirrors, clock).refresh(INTERVAL)
        assert thief.asked == []
    finally:
        thief.end()


def test_a_token_that_is_nowhere_was_passed_over(served, mirrors, clock) -> None:
    mirror = http_mirror(served, mirrors, clock)
    mirrors.with_name("secret").unlink()
    with pytest.raises(EnvironmentLacks, match="secret"):
        mirror.refresh(INTERVAL)
    assert "secret" in mirror.reach().told


def test_a_server_that_went_away_was_not_seen_or_not_found_again(served, mirrors, clock, tmp_path, repository) -> None:
    mirror = http_mirror(served, mirrors, clock)
    mirror.refresh(INTERVAL)
    port = served.server_port
    served.end()
    with pytest.raises(TransientError, match="onnect"):
        mirror.refresh(INTERVAL)
    second = repository.commit({"a": "2"})
    clock.now += INTERVAL
    back = GitServer(tmp_path, "x-access-token", TOKEN, port)
    try:
        assert mirror.refresh(INTERVAL).told == "" and GitSource(mirror.clone).head("main") == second
    finally:
        back.end()


def test_ssh_asked_a_person_trusted_a_stranger_or_took_another_key(repository, mirrors, clock, tmp_path, monkeypatch):
    """A program in place of ssh runs here what it should have run there."""
    head, key, seen = repository.commit({"a": "1"}), tmp_path / "key", tmp_path / "seen"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/sh\necho "$@" >> {seen}\nfor last; do :; done\neval "$last"\n')
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    team = watched(f"git@git.example.com:{repository.path}", ssh_key=str(key))
    mirror = Mirror(mirrors, team, "main", clock)
    with pytest.raises(EnvironmentLacks, match="key of team"):
        mirror.refresh(INTERVAL)
    key.write_text("a key")
    clock.now += INTERVAL
    assert mirror.refresh(INTERVAL).told == "" and GitSource(mirror.clone).head("main") == head
    said = seen.read_text()
    assert all(
        f"-o {option}" in said for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes")
    )
    assert f"-i {key}" in said and "git@git.example.com" in said


def test_another_protocol_was_spoken(mirrors, clock, tmp_path) -> None:
    """Even where the machine's own configuration turns the address into a program."""
    config = tmp_path / "gitconfig"
    config.write_text(
        f'[url "ext::touch {tmp_path}/ran"]\n\tinsteadOf = file:///srv/team.git\n[protocol]\n\tallow=always\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        with pytest.raises(TransientError, match="not allowed"):
            Mirror(mirrors, watched("file:///srv/team.git"), "main", clock).refresh(INTERVAL)
    assert not (tmp_path / "ran").exists()


FETCHING = """
import sys
from pathlib import Path
from llmops_core.repositories import WatchedRepository
from resources.git.mirror import Mirror
watched = WatchedRepository(name="team", url=sys.argv[2])
Mirror(Path(sys.argv[1]), watched, "main").refresh(15)
"""


@pytest.mark.slow  # starts and kills a dozen processes
def test_a_fetch_that_was_killed_left_a_mirror_that_never_works_again(repository, mirrors) -> None:
    for number in range(300):
        repository.write({f"file{number}": f"{number}" * 2000})
    repository.commit(message="first")
    arguments = [sys.executable, "-c", FETCHING, str(mirrors), f"file://{repository.path}"]
    for milliseconds in range(150, 450, 25):
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(milliseconds / 1000)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        repository.commit({"a": str(milliseconds)})
    mirror = Mirror(mirrors, watched(f"file://{repository.path}"), "main")
    deadline = time.monotonic() + 30
    while mirror.refresh(0).why and time.monotonic() < deadline:  # an orphaned git may still hold the lock
        time.sleep(0.2)
    assert GitSource(mirror.clone).head("main") == repository.git("rev-parse", "HEAD")
    assert {path.name for path in (mirrors / "team").iterdir()} <= {"clone", "lock", "reach.json"}


def test_a_lock_that_a_killed_fetch_left_blocked_the_mirror_for_ever(repository, mirrors, clock) -> None:
    repository.commit({"a": "1"})
    mirror = mirror_of(repository, mirrors, clock)
    mirror.refresh(INTERVAL)
    (mirror.clone / ".git" / "refs" / "heads" / "main.lock").touch()
    second = repository.commit({"a": "2"})
    with pytest.raises(TransientError, match="lock"):
        mirror.refresh(INTERVAL)
    clock.now += INTERVAL
    assert mirror.refresh(INTERVAL).told == "" and GitSource(mirror.clone).head("main") == second


def test_two_fetches_at_once_spoilt_each_other(repository, mirrors) -> None:
    head = repository.commit({"a": "1"})
    url, said = f"file://{repository.path}", []
    threads = [
        threading.Thread(target=lambda: said.append(Mirror(mirrors, watched(url), "main").refresh(INTERVAL).why))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 4 and "" in said and GitSource(mirrors / "team" / "clone").head("main") == head


def test_data_of_a_mirror_was_looked_for_on_no_remote_or_on_another(dvc_repository, mirrors, clock, tmp_path) -> None:
    dvc_repository.dvc("remote", "modify", "--quiet", "store", "url", str(dvc_repository.remote))
    head = dvc_repository.commit(message="an absolute address")
    mirror = mirror_of(dvc_repository, mirrors, clock)
    mirror.refresh(INTERVAL)
    store = DvcStore(mirror.clone, GitSource(mirror.clone))
    assert store.lacking(head, ["data/atlas"]) == {}
    fetched = store.fetch(head, "data/atlas", tmp_path / "data")
    assert [file.path for file in fetched.files] == ["deep/test.jsonl", "train.jsonl"]


@pytest.mark.slow  # packs and unpacks a repository over and over
def test_a_mirror_read_while_it_is_packed_lost_an_object(repository, mirrors, clock) -> None:
    """git repacks and prunes as fast as it can while threads read every object of every commit."""
    revisions = [repository.commit({f"folder/{n}": str(n), "a": str(n)}) for n in range(30)]
    mirror = mirror_of(repository, mirrors, clock)
    mirror.refresh(INTERVAL)
    wrong: list[str] = []
    ended = threading.Event()

    def read() -> None:
        source = GitSource(mirror.clone)
        while not ended.is_set():
            for number, revision in enumerate(revisions):
                try:
                    assert source.read(revision, "a") == str(number).encode()
                    source.changed(revisions[0], revision)
                    source.passage(revisions[0], revision)
                except (LlmopsError, AssertionError) as error:
                    wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            _unpack(mirror.clone / ".git")
            for command in (["repack", "-a", "-d", "-q"], ["prune-packed"]):
                subprocess.run(["git", *command], cwd=mirror.clone, check=True, stderr=subprocess.DEVNULL)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong, f"{len(wrong)} times, first: {wrong[0]}"


def _unpack(git: Path) -> None:
    """All objects loose again, as many small fetches leave them; none is missing at any moment."""
    for pack in list((git / "objects" / "pack").glob("*.pack")):
        (aside := git / "aside").mkdir()
        environment = {**os.environ, "GIT_DIR": str(git), "GIT_OBJECT_DIRECTORY": str(aside)}
        with pack.open("rb") as stream:
            subprocess.run(["git", "unpack-objects", "-q"], env=environment, stdin=stream, check=True)
        for loose in list(aside.glob("??/*")):  # each appears whole, as git lets it
            place = git / "objects" / loose.relative_to(aside)
            place.parent.mkdir(exist_ok=True)
            loose.replace(place)
        shutil.rmtree(aside)
        for left in (git / "objects" / "pack").glob(f"{pack.stem}.*"):
            left.unlink()


def test_a_data_remote_inside_was_asked_or_nobody_was_told(repository, mirrors, clock) -> None:
    remote = "[core]\n    remote = store\n['remote \"store\"']\n    url = {}\n"
    repository.commit({".dvc/config": remote.format("http://169.254.169.254/latest")}, "first")
    mirror = mirror_of(repository, mirrors, clock)
    assert "metadata service" in mirror.refresh(INTERVAL).why and not (mirror.clone / ".dvc/config").exists()
    repository.commit({".dvc/config": remote.format("s3://team/dvc")}, "mended")
    assert mirror.refresh(INTERVAL).why == "" and "s3://team/dvc" in (mirror.clone / ".dvc/config").read_text()


def test_a_link_in_place_of_the_data_settings_was_followed_or_failed_every_tick(repository, mirrors, clock) -> None:
    repository.commit({"a": "1"}, "first")
    (repository.path / ".dvc").mkdir(exist_ok=True)
    (repository.path / ".dvc" / "config").unlink(missing_ok=True)
    (repository.path / ".dvc" / "config").symlink_to("/etc/hostname")
    repository.commit({}, "a link")
    assert ".dvc/config" in mirror_of(repository, mirrors, clock).refresh(INTERVAL).why
