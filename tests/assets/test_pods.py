"""A platform in pods follows the origin of its repository: commits, settings and who may sign, as they stand there."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dagster import SkipReason

from llmops_assets.cli.following import left_out, resolve
from llmops_assets.code_location import shape_of
from llmops_assets.operations.approving import trusted_roles
from llmops_assets.operations.identity import platform_signers, sign_version
from llmops_assets.tags import REVISION_TAG
from llmops_core.errors import InputError, TransientError
from llmops_core.registration import VERSION_NAMESPACE
from resources.data.dataset_commit import EMAIL
from resources.home import Home, home_from
from resources.signatures import SshSignatures
from resources.wiring import build_platform
from tests.fakes.arriving import Arriving, arriving_at
from tests.fakes.git_with_data import made_repository
from tests.fakes.pods import SIGNERS, PodWorld, pod_world
from tests.fakes.ticking import Ticking

SETTINGS = "config/local.yaml"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PodWorld:
    """Its code location lives on in one pod."""
    made = pod_world(tmp_path, made_repository(tmp_path / "repository"))
    monkeypatch.setattr("llmops_assets.resource._built", lambda home, ruled_by: made.opened(made.home))
    return made


@pytest.fixture
def ticking(world: PodWorld) -> Ticking:
    world.shape = shape_of(world.doors().settings)
    return Ticking(world)


def changed(world: PodWorld, **sections: Any) -> str:
    settings = yaml.safe_load((world.repository.path / SETTINGS).read_text())
    return world.repository.commit({SETTINGS: yaml.safe_dump({**settings, **sections})}, "other settings")


def over(home: Home) -> None:
    """The pause after a failed fetch is over."""
    (home.repository.parent / "reach.json").unlink(missing_ok=True)


def test_a_push_started_nothing(world: PodWorld, ticking: Ticking) -> None:
    assert [one.tags[REVISION_TAG] for one in ticking.tick()] == [world.repository.head]
    assert ticking.tick() == [] and ticking.said.startswith("nothing new at ")
    world.repository.commit_model("training", seed=2)
    assert [one.tags[REVISION_TAG] for one in ticking.tick()] == [world.repository.head]
    doors = world.opened(world.home)
    assert doors.source.head("main") == resolve(doors, "tiny", None) == world.repository.head
    assert left_out(doors, world.repository.head) == "", "nobody edits a clone without files"


def test_settings_stayed_as_they_were_when_the_pod_began(tmp_path: Path) -> None:
    world = pod_world(tmp_path, made_repository(tmp_path / "repository"))
    resource = world.resource()
    assert resource.open().settings.budget is None and resource.open() is resource.open()
    changed(world, budget={"per_month": 5.0})
    assert resource.fetch(15).why == "" and resource.open().settings.budget is not None


def test_broken_settings_stopped_all_sensors_or_could_not_be_mended(world: PodWorld, ticking: Ticking) -> None:
    ticking.tick()
    good = (world.repository.path / SETTINGS).read_text()
    world.repository.commit({SETTINGS: "name: local\n"}, "broken")
    world.repository.commit({SETTINGS: good.replace("strategy: canary", "strategy: luck")}, "broken too")
    with pytest.raises(InputError, match=rf"config/local.yaml in commit {world.repository.head[:12]}: strategy"):
        ticking.evaluate()
    assert build_platform(world.pod()).settings == world.opened(world.home).settings  # those from before rule on
    with pytest.raises(InputError, match="strategy"):
        build_platform(world.pod(), newest_only=True)
    world.repository.commit({SETTINGS: good}, "mended")
    world.repository.commit_model("training", seed=3)
    assert [one.tags[REVISION_TAG] for one in ticking.tick()] == [world.repository.head]


def removed(world: PodWorld) -> None:
    world.repository.git("rm", "--quiet", SETTINGS)


def made_a_link(world: PodWorld) -> None:
    file = world.repository.path / SETTINGS
    file.unlink()
    file.symlink_to("/etc/passwd")
    world.repository.git("add", "--all")


def made_a_folder(world: PodWorld) -> None:
    removed(world)
    file = world.repository.path / SETTINGS / "local.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("name: local\n")
    world.repository.git("add", "--all")


@pytest.mark.parametrize("broken", [removed, made_a_link, made_a_folder])
def test_a_commit_that_took_the_settings_away_refused_each_model_or_stopped_all(
    world: PodWorld, ticking: Ticking, broken: Callable[[PodWorld], None]
) -> None:
    ticking.tick()
    good = world.opened(world.home).settings
    broken(world)
    world.repository.git("commit", "--quiet", "--message", "tidy up")
    culprit = world.repository.head[:12]
    world.repository.commit_model("training", seed=2)
    with pytest.raises(InputError) as refused:
        ticking.evaluate()
    (problem,) = refused.value.problems
    assert problem.file == f"{SETTINGS} in commit {culprit}" and problem.expected == "the settings of local"
    assert f"git show {culprit}^:{SETTINGS} > {SETTINGS}" in problem.message and problem.found
    assert not [fact for fact in world.doors().ledger.facts() if fact.kind == "refused"]
    for home in (world.home, world.pod()):  # that of the code location, and a new one
        assert build_platform(home).settings == good


def test_settings_that_ruled_two_breaks_ago_ruled_again(tmp_path: Path) -> None:
    """The file is away twice, and between that it was another: a break is not known by what it left."""
    world = pod_world(tmp_path, made_repository(tmp_path / "repository"))
    resource, ruled = world.resource(), list[float | None]()
    for limit in (5.0, 6.0):
        changed(world, budget={"per_month": limit})
        kept = (world.repository.path / SETTINGS).read_text()
        removed(world)
        world.repository.git("commit", "--quiet", "--message", "away")
        resource.fetch(15)
        budget = resource.open().settings.budget
        ruled.append(budget.per_month if budget else None)
        world.repository.commit({SETTINGS: kept}, "back")
    assert ruled == [5.0, 6.0]


def test_a_worker_that_begins_again_in_an_outage_ended_at_once(
    world: PodWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = world.repository.path.rename(world.repository.path.with_name("away"))
    home, pauses = world.pod(), list[float]()

    def slept(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            away.rename(world.repository.path)
            over(home)

    clock = SimpleNamespace(sleep=slept, monotonic=time.monotonic)
    monkeypatch.setattr("resources.git.ruling_files.time", clock)
    assert build_platform(home).settings.name == "local" and len(pauses) == 3
    monkeypatch.setattr("resources.git.ruling_files.PATIENCE_SECONDS", 0.0)
    world.repository.path.rename(away)
    with pytest.raises(TransientError, match="cannot be fetched"):
        build_platform(world.pod())


def test_an_outage_of_the_origin_was_silent_or_lost_a_commit(world: PodWorld, ticking: Ticking) -> None:
    ticking.tick()
    away = world.repository.path.rename(world.repository.path.with_name("away"))
    with pytest.raises(TransientError, match="cannot be fetched"):
        ticking.evaluate()
    assert isinstance(ticking.evaluate(), SkipReason) and "tried 1 times, next at" in ticking.said
    away.rename(world.repository.path)
    world.repository.commit_model("training", seed=2)
    over(world.home)
    assert [one.tags[REVISION_TAG] for one in ticking.tick()] == [world.repository.head]


def test_who_may_no_longer_approve_still_could(world: PodWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.git.ruling_files.FETCH_SECONDS", 0.0)
    names = {"approvers": {"grace@example.com": {"production": ["technical"]}}}
    world.repository.commit({"config/approvers/approvers.yaml": yaml.safe_dump(names)}, "Grace")
    doors = world.opened(world.home)
    assert trusted_roles(doors) == {"grace@example.com": frozenset({"technical"})}
    world.repository.commit({"config/approvers/approvers.yaml": "approvers: {}\n"}, "nobody")
    assert trusted_roles(doors) == {}
    world.repository.path.rename(world.repository.path.with_name("away"))
    with pytest.raises(TransientError, match="cannot be fetched"):
        trusted_roles(doors)


def test_a_pod_began_with_what_ends_with_it(world: PodWorld) -> None:
    changed(world, platform={}, jobs={"kind": "local"}, serving={"kind": "local"}, branch="HEAD")
    with pytest.raises(InputError) as refused:
        build_platform(world.pod(), newest_only=True)
    fields = {problem.field for problem in refused.value.problems}
    parts = {f"platform.{part}" for part in ("ledger", "mlflow", "artifacts", "feedback", "signing")}
    assert fields == {"branch", "jobs.kind", "serving.kind"} | parts


def test_a_missing_environment_or_branch_was_not_named(world: PodWorld) -> None:
    variables = world.home.as_environment()
    with pytest.raises(InputError, match=r"config/nowhere.yaml does not exist in main of file:"):
        build_platform(home_from({**variables, "LLMOPS_ENVIRONMENT": "nowhere"}, Path("/")))
    with pytest.raises(InputError, match="LLMOPS_BRANCH"):
        home_from({**variables, "LLMOPS_BRANCH": ""}, Path("/"))
    with pytest.raises(InputError, match="holds a password") as refused:
        home_from({**variables, "LLMOPS_ORIGIN": "https://ada:hunter2@git.example.com/x.git"}, Path("/"))
    assert "hunter2" not in str(refused.value)
    with pytest.raises(TransientError, match="no branch elsewhere"):
        build_platform(home_from({**world.pod().as_environment(), "LLMOPS_BRANCH": "elsewhere"}, Path("/")))


def test_a_version_was_signed_by_a_key_of_the_pod(world: PodWorld) -> None:
    signature = sign_version(world.doors(), b"a version")
    other = world.doors()
    signers = platform_signers(other)
    assert other.signatures.verify(b"a version", signature, signers, VERSION_NAMESPACE) == "llmops-platform"
    assert not (other.home.root / "keys").exists()


def test_a_key_that_nobody_would_believe_signed_a_version(world: PodWorld, tmp_path: Path) -> None:
    other = SshSignatures().make_key(tmp_path / "other", "other")
    world.repository.commit({SIGNERS: f"llmops-platform {other}\n"}, "another key")
    with pytest.raises(InputError, match=r"config/platform_signers/local.*add it, and commit"):
        sign_version(world.doors(), b"a version")


def test_a_sensor_that_a_commit_added_was_never_there(world: PodWorld, ticking: Ticking) -> None:
    ticking.tick()
    changed(world, repositories=[{"name": "team", "url": "https://git.example.com/team.git", "branch": "main"}])
    world.repository.commit_model("training", seed=2)
    assert ticking.tick() == [] and "start it again, nothing is released until then" in ticking.said


def test_the_code_location_did_not_end_or_a_run_did() -> None:
    """Its own process gets the signal with which Kubernetes ends a pod; a run that imports this gets none."""
    program = (
        "import signal, sys\n"
        "from llmops_assets.code_location import end_this_process\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "sys.exit(1 if end_this_process() else 0)\n"
    )
    ends: dict[str, int] = {}
    for words in (["api", "grpc"], ["api", "execute_run"]):
        ends[words[1]] = subprocess.run([sys.executable, "-c", program, *words], check=False).returncode
    assert ends == {"grpc": 7, "execute_run": 0}


@pytest.fixture
def arriving(world: PodWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arriving:
    """Each look and each run is in a pod of its own."""
    monkeypatch.setattr("llmops_assets.resource._built", lambda home, ruled_by: world.doors())
    return arriving_at(world, tmp_path / "place", monkeypatch)


def test_rows_that_arrived_ended_with_the_pod_that_took_them(
    world: PodWorld, arriving: Arriving, tmp_path: Path
) -> None:
    arriving.watch()
    arriving.put("a.jsonl", ("What is new?", "this"))
    assert arriving.taken().success
    (branch,) = arriving.branches()
    later = world.doors()
    tip = later.dataset_commits.tip(branch)
    assert tip == world.repository.git("rev-parse", branch) and later.source.commit(tip).email == EMAIL
    rows = later.data.fetch(tip, "data/tiny/feedback.jsonl", tmp_path / "rows")
    assert (rows.folder / "feedback.jsonl").read_text() == '{"prompt": "What is new?", "response": "this"}\n'

    arriving.put("b.jsonl", ("What else?", "that"))
    assert arriving.tick() == arriving.tick() == [] and "is open: merge it or delete it" in arriving.said
    world.repository.git("merge", "--quiet", "--ff-only", branch)
    (request,) = arriving.tick()
    assert arriving.run(request).success and len(arriving.branches()) == 2


def test_rows_were_merged_into_the_clone_of_a_pod(world: PodWorld, arriving: Arriving) -> None:
    arriving.watch(merge="automatic")
    world.repository.git("checkout", "--quiet", "--detach")  # Git moves no branch under its owner
    before = world.repository.git("rev-parse", "main")
    arriving.put("a.jsonl", ("What is new?", "this"))
    assert arriving.taken().success
    after = world.repository.git("rev-parse", "main")
    assert (
        world.repository.git("rev-parse", "main^") == before
        and "merged into main" in arriving.facts("produced")[0].body["passed_on"]
    )
    assert world.doors().source.head("main") == after


def test_an_origin_that_refuses_a_push_was_taken_for_an_outage_or_a_merge(arriving: Arriving) -> None:
    arriving.watch(merge="automatic")
    arriving.put("a.jsonl", ("What is new?", "this"))  # main is checked out there
    assert arriving.taken().success
    (fact,) = arriving.facts("produced")
    assert "waits for review: the branch is checked out" in fact.body["passed_on"]
