"""The repository sensor: a change starts one release, nothing else starts any, whatever fails between."""

import sqlite3
import subprocess
from contextlib import closing

import pytest
import yaml
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus, SensorResult

from llmops_assets.operations.changes import change_since, decide, request
from llmops_assets.operations.overview import overview
from llmops_assets.sensors.repository import _supersede
from llmops_assets.tags import GENERATION_TAG, REVISION_TAG
from llmops_core.cursor import Cursor, read_cursor
from llmops_core.facts import Fact
from resources.data.dataset_store import DvcStore
from resources.ledger.ledger import SqlLedger
from tests.fakes.git_with_data import DATA, MODEL, rows
from tests.fakes.platform_doors import World
from tests.fakes.ticking import Ticking


@pytest.fixture
def ticking(begun: World) -> Ticking:
    return Ticking(begun)


@pytest.fixture
def settled(ticking: Ticking) -> Ticking:
    """The first commit is released."""
    assert len(ticking.tick()) == 1
    return ticking


def requested(world: World) -> list[Fact]:
    return [fact for fact in world.doors().ledger.facts() if fact.kind == "requested"]


def test_a_new_commit_started_nothing_or_said_nothing_of_itself(ticking: Ticking) -> None:
    (request,) = ticking.tick()
    assert request.partition_key == "tiny" and request.tags[REVISION_TAG] == ticking.world.repository.head
    tags = {name: request.tags[f"llmops/{name}"] for name in ("author", "reason", "branch")}
    assert tags == {"author": "ada@example.com", "reason": "the first model", "branch": "HEAD"}
    assert "llmops/commit" not in request.tags  # no origin, no page


def test_a_commit_did_not_link_to_its_host(ticking: Ticking) -> None:
    ticking.world.repository.git("remote", "add", "origin", "git@github.com:example/models.git")
    (request,) = ticking.tick()
    assert request.tags["llmops/commit"].startswith("https://github.com/example/models/commit/")


def test_the_same_head_started_two_runs(ticking: Ticking) -> None:
    assert (len(ticking.tick()), ticking.tick()) == (1, [])
    assert ticking.said.startswith("nothing new at ")


@pytest.mark.parametrize("runs", [0, 1])
def test_a_daemon_killed_before_or_after_its_run_lost_it_or_started_it_twice(ticking: Ticking, runs: int) -> None:
    ticking.tick(launch=runs)  # the cursor was not kept
    ticking.tick()
    assert len(ticking.launched) == 1 and len(requested(ticking.world)) == 1


def test_a_later_commit_after_a_kill_lost_or_doubled_a_release(settled: Ticking) -> None:
    settled.world.repository.commit_model("training", seed=2)
    settled.tick(launch=0)
    settled.world.repository.commit_model("training", seed=3)
    (request,) = settled.tick()
    assert request.tags[REVISION_TAG] == settled.world.repository.head
    assert settled.tick() == []


def test_a_revert_after_a_killed_tick_left_the_reverted_commit_in_the_queue(settled: Ticking) -> None:
    settled.world.repository.commit_model("training", seed=2)
    settled.tick(keep_cursor=False)
    settled.world.repository.git("revert", "--no-edit", "HEAD")
    (request,) = settled.tick()
    assert request.tags[GENERATION_TAG] == "3" and request.tags[REVISION_TAG] == settled.world.repository.head


def test_a_late_tick_cancelled_a_newer_request(settled: Ticking) -> None:
    settled.world.repository.commit_model("training", seed=2)
    late = settled.evaluate()
    assert isinstance(late, SensorResult)
    settled.world.repository.commit_model("training", seed=3)
    settled.tick()
    _supersede(settled.world.instance, late.run_requests or [])
    assert settled.statuses()[-1] is DagsterRunStatus.QUEUED


def test_a_model_behind_a_symbolic_link_held_up_the_others(settled: Ticking) -> None:
    repository = settled.world.repository
    (repository.path / "models" / "linked").mkdir()
    (repository.path / "models" / "linked" / "model.yaml").symlink_to("../tiny/model.yaml")
    repository.commit({}, "a link")
    settled.tick()
    repository.track({**DATA, "train.jsonl": rows("learn", 21)})
    repository.commit({}, "one row more")
    assert [request.partition_key for request in settled.tick()] == ["tiny"]


def test_overlapping_ticks_asked_twice(ticking: Ticking) -> None:
    first, second = ticking.evaluate(), Ticking(ticking.world).evaluate()
    keys = [[r.run_key for r in one.run_requests or []] for one in (first, second) if isinstance(one, SensorResult)]
    assert len(keys) == 2 and keys[0] == keys[1] and len(requested(ticking.world)) == 1


def test_a_tick_that_is_late_undid_a_newer_one(settled: Ticking) -> None:
    """Its cursor is older, but it reads the branch as it is now."""
    late = settled.cursor
    settled.world.repository.commit_model("training", seed=2)
    assert len(settled.tick()) == 1
    settled.cursor = late
    assert settled.tick() == [] and len(requested(settled.world)) == 2


@pytest.mark.parametrize(
    "files",
    [
        {"README.md": "Hello."},
        {"docs/new.md": "Hello."},
        {"config/production.yaml": "not for this environment"},
        {"models/other/notes.txt": "no model.yaml"},
    ],
)
def test_a_commit_that_changes_no_model_started_a_run_hashed_data_or_wrote_anything(
    settled: Ticking, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled.world.repository.commit(files)
    calls: list[str] = []
    for door, methods in {
        SqlLedger: ("append", "facts", "newest"),
        DvcStore: ("fetch", "listed", "lacking", "_parse"),
        DagsterInstance: ("get_runs", "add_dynamic_partitions", "report_run_canceled"),
    }.items():
        for method in methods:
            monkeypatch.setattr(door, method, lambda *_, called=method, **__: calls.append(called))
    result = settled.evaluate()
    assert isinstance(result, SensorResult) and not result.run_requests and not result.dynamic_partitions_requests
    assert calls == []
    kept = read_cursor(result.cursor, settled.world.doors().rules)
    assert kept is not None and kept.revision == settled.world.repository.head


def test_comments_and_the_order_of_keys_started_a_run(settled: Ticking) -> None:
    path = "models/tiny/model.yaml"
    document = yaml.safe_load((settled.world.repository.path / path).read_text())
    turned = yaml.safe_dump(dict(reversed(document.items())), sort_keys=False)
    settled.world.repository.commit({path: f"# a comment\n{turned}"})
    assert settled.tick() == [] and "nothing it depends on changed" in settled.said


def test_a_pointer_that_cannot_be_read_released_the_model_without_its_data(settled: Ticking) -> None:
    settled.world.repository.commit({"data/tiny/more.jsonl.dvc": "outs: [", "elsewhere.dvc": "outs: ["}, "broken")
    assert settled.tick() == [] and "data/tiny/more.jsonl.dvc" in settled.said
    (settled.world.repository.path / "data/tiny/more.jsonl.dvc").unlink()
    settled.world.repository.commit_model("training", seed=5)
    assert len(settled.tick()) == 1, "a broken pointer elsewhere stops nobody else"


def test_deleting_a_pointer_that_cannot_be_read_lost_the_commit_that_it_held_up(settled: Ticking) -> None:
    repository = settled.world.repository
    (repository.path / "data/tiny").mkdir(parents=True, exist_ok=True)
    (repository.path / "data/tiny/more.jsonl.dvc").write_text("outs: [")
    repository.commit_model("training", seed=5)
    assert settled.tick() == []
    repository.git("rm", "--quiet", "data/tiny/more.jsonl.dvc")
    repository.commit({}, "without it")
    assert len(settled.tick()) == 1


def test_a_branch_set_back_after_a_killed_tick_left_the_other_commit_in_the_queue(settled: Ticking) -> None:
    repository = settled.world.repository
    before = repository.head
    repository.commit_model("training", seed=2)
    settled.tick(keep_cursor=False)
    repository.git("reset", "--quiet", "--hard", before)
    (request,) = settled.tick()
    assert request.tags[REVISION_TAG] == before
    assert settled.statuses()[1:] == [DagsterRunStatus.CANCELED, DagsterRunStatus.QUEUED]


def test_a_removed_model_was_released_from_the_queue(settled: Ticking) -> None:
    settled.world.repository.git("rm", "-r", "--quiet", "models/tiny")
    settled.world.repository.commit({}, "no model any more")
    assert settled.tick() == []
    assert settled.statuses() == [DagsterRunStatus.CANCELED]


def test_a_readme_undid_the_release_that_a_person_asked_for(settled: Ticking) -> None:
    world = settled.world
    first = world.repository.head
    world.repository.commit_model("training", seed=2)
    settled.tick()
    request(world.release(first), "llmops release")
    assert settled.tick() == []
    world.repository.commit({"README.md": "Hello."})
    assert settled.tick() == []


def test_a_comment_undid_the_release_of_an_older_commit_that_a_person_asked_for(settled: Ticking) -> None:
    world, path = settled.world, "models/tiny/model.yaml"
    first = world.repository.head
    world.repository.commit_model("training", seed=2)
    settled.tick()
    request(world.release(first), "llmops release")
    text = (world.repository.path / path).read_text()
    world.repository.commit({path: f"# a comment\n{text}"})
    assert settled.tick() == [] and f"llmops release asked for {first[:12]}" in settled.said
    world.repository.commit_model("training", seed=3)
    assert len(settled.tick()) == 1


def test_data_that_came_late_was_forgotten_for_what_a_person_asked_for(settled: Ticking, monkeypatch) -> None:
    world = settled.world
    first = world.repository.head
    world.repository.commit_model("training", seed=2)
    with monkeypatch.context() as patch:
        patch.setattr(DvcStore, "lacking", lambda *_: {"data/tiny": "run `dvc push`"})
        assert settled.tick() == []
    world.repository.commit_model("training", seed=4)
    request(world.release(world.repository.head), "llmops release")
    world.repository.git("reset", "--hard", "--quiet", "HEAD~1")
    assert [run.tags[REVISION_TAG] for run in settled.tick()] == [world.repository.head] != [first]


@pytest.mark.parametrize(
    "name", ["models/a\\b/model.yaml", "models/a\nb/model.yaml", "data/a\\b.dvc", "docs/caf\udce9.txt"]
)
def test_a_file_with_an_odd_name_stopped_every_model(settled: Ticking, name: str) -> None:
    settled.world.repository.commit_model("training", seed=5)
    odd = settled.world.repository.path / name
    odd.parent.mkdir(parents=True, exist_ok=True)
    odd.write_text("odd")
    settled.world.repository.commit({}, "an odd name")
    assert len(settled.tick()) == 1


@pytest.mark.parametrize("folder", ["caf\udce9", "a" * 70, "Odd Name", "ünï", "new\nline"])
def test_a_folder_that_can_be_no_model_stopped_every_model_of_a_new_sensor(ticking: Ticking, folder: str) -> None:
    odd = ticking.world.repository.path / "models" / folder / "model.yaml"
    odd.parent.mkdir()
    odd.write_text("name: odd\n")
    ticking.world.repository.commit({}, "an odd folder")
    assert [request.partition_key for request in ticking.tick()] == ["tiny"]
    decided = change_since(ticking.world.doors(), None, ticking.world.repository.head)
    (why,) = [decide(ticking.world.doors(), name, decided, "x").why for name in decided.models if name != "tiny"]
    assert "is no name of a model; rename the folder" in why and why.isprintable()
    assert {fact.model for fact in ticking.world.doors().ledger.facts()} == {"tiny"}, "no database holds such a name"
    assert len(overview(ticking.world.doors())) == 2


def test_a_commit_without_a_date_or_of_no_encoding_stopped_every_model(settled: Ticking) -> None:
    repository = settled.world.repository
    repository.git("config", "i18n.commitEncoding", "klingon")
    repository.commit_model("training", seed=5, message="first")
    repository.git("-c", "user.name=Ada", "commit", "--amend", "--no-edit", "--date=@253402300800 +0000")
    assert len(settled.tick()) == 1


def test_many_commits_acted_each_or_were_not_named(settled: Ticking) -> None:
    for seed in (2, 3, 4):
        settled.world.repository.commit_model("training", seed=seed, message=f"seed {seed}")
    (request,) = settled.tick()
    assert request.tags["llmops/reason"] == "seed 4"
    named = [line.partition(" ")[2] for line in requested(settled.world)[-1].body["commits"]]
    assert named == ["seed 4", "seed 3", "seed 2"]


def test_going_back_to_an_earlier_commit_was_dropped_as_known(settled: Ticking) -> None:
    settled.world.repository.commit_model("training", seed=2)
    settled.tick()
    settled.world.repository.commit_model("training", seed=1, message="back again")
    settled.tick()
    assert len({request.run_key for request in settled.launched}) == 3
    assert [request.tags[GENERATION_TAG] for request in settled.launched] == ["1", "2", "3"]


def test_a_request_after_the_ledger_was_restored_from_a_backup_was_dropped_as_known(settled: Ticking) -> None:
    ledger = settled.world.doors().home.root / "ledger.db"
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(f"{ledger}.backup")) as backup:
        source.backup(backup)
    settled.world.repository.commit_model("training", seed=2)
    settled.tick()
    with closing(sqlite3.connect(f"{ledger}.backup")) as backup, closing(sqlite3.connect(ledger)) as target:
        backup.backup(target)
    (again,) = settled.tick()
    assert again.tags[REVISION_TAG] == settled.world.repository.head
    assert settled.tick() == [] and settled.said.startswith("nothing new at ")


def test_queued_work_was_not_superseded_or_running_work_was(settled: Ticking) -> None:
    (running,) = settled.world.instance.get_runs()
    started = DagsterEvent(DagsterEventType.RUN_START.value, running.job_name)
    settled.world.instance.report_dagster_event(started, run_id=running.run_id)
    for seed in (2, 3):
        settled.world.repository.commit_model("training", seed=seed)
        settled.tick()
    expected = [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELED, DagsterRunStatus.QUEUED]
    assert settled.statuses() == expected


def test_a_new_row_of_data_started_nothing(settled: Ticking) -> None:
    settled.world.repository.track({**DATA, "train.jsonl": rows("learn", 21)})
    settled.world.repository.commit({}, "one row more")
    assert len(settled.tick()) == 1


def test_data_that_no_remote_has_was_released_or_forgotten(settled: Ticking) -> None:
    repository = settled.world.repository
    repository.track({**DATA, "train.jsonl": rows("learn", 21)})
    head = repository.commit({}, "one row more")
    listing = repository.cached(settled.world.doors().data.pointer(head, "data/tiny").md5)
    content = listing.read_bytes()
    listing.unlink()
    assert settled.tick() == [] and "dvc push" in settled.said and "data/tiny" in settled.said
    (status,) = overview(settled.world.doors())
    assert "dvc push" in status.blocked[0].reason
    listing.write_bytes(content)  # somebody pushed it: no new commit comes
    for _ in range(3):
        settled.tick()
    assert [request.tags[REVISION_TAG] for request in settled.launched[1:]] == [head]
    assert settled.tick() == [] and settled.said.startswith("nothing new")


def test_a_new_model_was_no_partition(ticking: Ticking) -> None:
    ticking.world.instance.delete_dynamic_partition("models", "tiny")
    ticking.tick()
    assert ticking.world.instance.get_dynamic_partitions("models") == ["tiny"]


def test_a_new_folder_was_no_new_model(settled: Ticking) -> None:
    settled.world.repository.commit({"models/small/model.yaml": yaml.safe_dump({**MODEL, "name": "small"})})
    assert [request.partition_key for request in settled.tick()] == ["small"]


def test_a_removed_model_was_released_deleted_or_not_told(settled: Ticking) -> None:
    repository = settled.world.repository
    repository.git("rm", "-r", "--quiet", "models/tiny")
    repository.git("commit", "--quiet", "--message", "tiny goes")
    assert settled.tick() == [] and "llmops retire tiny" in settled.said
    assert settled.world.instance.get_dynamic_partitions("models") == ["tiny"]
    kinds = [fact.kind for fact in settled.world.doors().ledger.facts("tiny")]
    assert kinds.count("retired") == 1
    repository.git("revert", "--no-edit", "HEAD")
    (request,) = settled.tick()
    assert request.partition_key == "tiny"  # it came back, and is released again


def test_an_invalid_model_yaml_was_passed_over_in_silence(settled: Ticking) -> None:
    settled.world.repository.commit_model("training", steps="many")
    assert settled.tick() == [] and "steps" in settled.said
    (reason,) = settled.world.reasons("model.yaml")
    assert "training.lora.steps" in reason or "training.steps" in reason
    (status,) = overview(settled.world.doors())
    assert any("steps" in blocked.reason for blocked in status.blocked)


def test_a_broken_model_kept_a_sound_one_from_its_release(ticking: Ticking) -> None:
    ticking.world.repository.commit({"models/broken/model.yaml": "name: broken\n"})
    assert [request.partition_key for request in ticking.tick()] == ["tiny"]


def test_a_model_that_needs_a_gpu_was_tried(settled: Ticking) -> None:
    settled.world.repository.commit_model(resources={"gpu_count": 1, "memory_gb": 8, "cpu": 1})
    assert settled.tick() == [] and "not tried here: it needs 1 GPU(s)" in settled.said
    (status,) = overview(settled.world.doors())
    assert status.blocked[0].stage == "environment"


def test_models_that_did_not_fit_into_a_tick_were_lost(ticking: Ticking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_assets.sensors.repository.DECIDING_SECONDS", 0.0)
    others = {f"models/{name}/model.yaml": yaml.safe_dump({**MODEL, "name": name}) for name in ("one", "two")}
    ticking.world.repository.commit(others)
    assert [len(ticking.tick()) for _ in range(4)] == [1, 1, 1, 0]
    assert {request.partition_key for request in ticking.launched} == {"tiny", "one", "two"}


def test_a_repository_that_cannot_be_read_passed_for_one_without_news(settled: Ticking) -> None:
    (settled.world.repository.path / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(Exception, match="Git"):
        settled.evaluate()


def test_a_rewritten_history_was_not_told_or_lost_its_change(settled: Ticking) -> None:
    repository = settled.world.repository
    first = repository.head
    repository.commit_model("training", seed=2, message="will be dropped")
    settled.tick()
    repository.git("reset", "--hard", "--quiet", first)
    repository.commit_model("training", seed=3, message="instead")
    result = settled.evaluate()
    assert isinstance(result, SensorResult) and len(result.run_requests or []) == 1
    body = requested(settled.world)[-1].body
    assert body["history"] == "rewritten"
    assert [line.partition(" ")[2] for line in body["dropped"]] == ["will be dropped"]


def test_an_unrelated_history_was_taken_for_the_next_commit(settled: Ticking) -> None:
    repository = settled.world.repository
    repository.git("checkout", "--quiet", "--orphan", "fresh")
    repository.commit_model("training", seed=5, message="a new beginning")
    assert len(settled.tick()) == 1
    assert requested(settled.world)[-1].body["history"] == "unrelated"


def test_a_commit_that_was_collected_as_garbage_stopped_the_sensor(settled: Ticking) -> None:
    settled.cursor = str(Cursor("1" * 40, settled.world.doors().rules))
    settled.world.repository.commit_model("training", seed=6)
    assert len(settled.tick()) == 1
    assert requested(settled.world)[-1].body["history"] == "unknown"


def test_a_repository_being_packed_lost_or_broke_a_tick(settled: Ticking) -> None:
    for seed in range(2, 6):
        settled.world.repository.commit_model("training", seed=seed)
        packing = subprocess.Popen(
            ["git", "gc", "--quiet", "--prune=now"], cwd=settled.world.repository.path, stderr=subprocess.DEVNULL
        )
        assert len(settled.tick()) == 1
        assert packing.wait() == 0
    assert len(settled.launched) == 5


def test_a_cursor_of_other_rules_or_of_nobody_stopped_the_sensor(settled: Ticking) -> None:
    for cursor in ("nonsense", settled.world.repository.head, str(Cursor("1" * 40, rules="other"))):
        settled.cursor = cursor
        assert settled.tick() == []  # decided again, and known
