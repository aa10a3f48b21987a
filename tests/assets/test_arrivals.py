"""From a file in a watched place to a commit that asks for a release: once, whatever ends in between."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterRun, DagsterRunStatus
from dagster._core.utils import make_new_run_id

from llmops_assets.jobs.take_arrivals import take_arrivals
from llmops_assets.operations import arrivals as operation
from llmops_assets.sensors.arrivals import LONGEST_PAUSE_SECONDS
from llmops_core.arrival_settings import WatchedPlace
from llmops_core.errors import LlmopsError, TransientError
from llmops_core.facts import first_broken
from resources.data.dataset_commit import EMAIL, GitDvcCommits
from tests.fakes.arriving import Arriving, arriving_at
from tests.fakes.git_with_data import DATA, MODEL
from tests.fakes.platform_doors import World
from tests.fakes.ticking import Ticking

NEW = ("What is new?", "this")
ALSO = ("What is new too?", "that")


@pytest.fixture
def arriving(begun: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arriving:
    arriving = arriving_at(begun, tmp_path / "place", monkeypatch)
    arriving.watch()
    return arriving


class KilledHereError(Exception):
    """The process ends here."""


def test_a_file_became_no_version_or_its_merge_no_release(arriving: Arriving, tmp_path: Path) -> None:
    world = arriving.world
    remote = tmp_path / "remote"
    config = f"[core]\n    analytics = false\n    remote = store\n['remote \"store\"']\n    url = {remote}\n"
    world.repository.commit({".dvc/config": config})
    world.repository.commit_model("training", train=["train.jsonl", "feedback.jsonl"])
    dvc(world.repository.path, "push")
    ticking = Ticking(world)
    ticking.tick()
    arriving.put("a.jsonl", NEW, ALSO)
    before = world.repository.head
    assert arriving.taken().success
    (branch,) = arriving.branches()
    assert world.repository.head == before and arriving.rows_at(branch) == [NEW, ALSO]
    message = world.repository.git("show", "--no-patch", "--format=%ae%n%B", branch)
    for words in (EMAIL, "Add 2 rows from annotators", str(arriving.folder), "a.jsonl: 2 new of 2", "learns from this"):
        assert words in message
    colleague = tmp_path / "colleague"
    world.repository.git("clone", "--quiet", "--branch", branch, str(world.repository.path), str(colleague))
    dvc(colleague, "pull")
    assert "What is new?" in (colleague / "data/tiny/feedback.jsonl").read_text()
    assert (colleague / "data/tiny/train.jsonl").is_file()
    assert ticking.tick() == [], "a branch that waits for review started a release"
    world.repository.git("merge", "--quiet", "--ff-only", branch)
    (request,) = ticking.tick()
    assert request.partition_key == "tiny"
    assert arriving.tick() == [] and "nothing new" in arriving.said
    assert first_broken(world.doors().ledger.facts()) is None


def dvc(folder: Path, *arguments: str) -> None:
    program = [sys.executable, "-m", "dvc", *arguments, "--quiet"]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_half_file_was_taken(arriving: Arriving) -> None:
    arriving.put("a.jsonl", NEW)
    assert arriving.tick() == []
    with (arriving.folder / "a.jsonl").open("a") as writer:
        writer.write('{"prompt": "What is n')
    assert arriving.tick() == [] and "a.jsonl: changed lately" in arriving.said
    arriving.put("b.jsonl.part", ALSO)
    (request,) = arriving.tick()
    assert list(request.run_config["ops"]["take_files"]["config"]["files"]) == ["a.jsonl"]
    with (arriving.folder / "a.jsonl").open("a") as writer:
        writer.write('ew too?", "response": "that"}\n')  # after the tick, before the run
    assert arriving.run(request).success and arriving.branches() == []
    assert arriving.taken().success
    assert arriving.rows_at(arriving.branches()[0]) == [NEW, ALSO]


def test_repeated_and_overlapping_ticks_asked_for_two_runs(arriving: Arriving) -> None:
    arriving.put("a.jsonl", NEW)
    arriving.tick()
    keys = {request.run_key for _ in range(3) for request in arriving.tick(keep_cursor=False)}
    assert len(keys) == 1


def test_two_runs_of_one_batch_had_two_effects(arriving: Arriving) -> None:
    arriving.put("a.jsonl", NEW)
    request = arriving.settled()
    assert arriving.run(request).success and arriving.run(request).success
    assert len(arriving.branches()) == 1 and len(arriving.facts("produced")) == 1


def killed_in(patch: pytest.MonkeyPatch, step: str) -> None:
    """The next run ends before or after a step, whatever else it had to do."""

    def ends(*_: Any, **__: Any) -> None:
        raise KilledHereError

    if step == "before the commit":
        patch.setattr(GitDvcCommits, "propose", ends)
    elif step == "after the commit":
        patch.setattr(operation, "_record", ends)
    elif step == "before the refusals":
        patch.setattr(operation, "_refuse", ends)


@pytest.mark.parametrize("step", ["before the commit", "after the commit", "before the refusals"])
@pytest.mark.parametrize("more", [False, True])
def test_a_killed_run_lost_its_files_or_took_them_twice(
    arriving: Arriving, monkeypatch: pytest.MonkeyPatch, step: str, more: bool
) -> None:
    arriving.put("a.jsonl", NEW)
    arriving.put("bad.jsonl", ("What is bad?", ""))
    with monkeypatch.context() as patch:
        killed_in(patch, step)
        assert not arriving.taken().success
    if more:  # it settles beside those that the killed run had
        arriving.put("c.jsonl", ALSO)
        arriving.tick()
    go_on(arriving)
    (branch,) = arriving.branches()
    begun = not (more and step == "before the commit")  # else nothing had happened: all that lies there is taken
    assert arriving.rows_at(branch) == ([NEW] if begun else [NEW, ALSO])
    assert len(arriving.facts("produced")) == 1
    arriving.world.repository.git("merge", "--quiet", "--ff-only", branch)
    go_on(arriving)
    assert len(arriving.facts("refused")) == 1
    taken = [file["name"] for fact in arriving.facts("produced") for file in fact.body["files"]]
    assert sorted(taken) == (["a.jsonl", "c.jsonl"] if more else ["a.jsonl"])
    rows = [fact.body["rows"] for fact in arriving.facts("produced")]
    assert sum(rows) == (2 if more else 1), "a row was taken twice"


def go_on(arriving: Arriving) -> None:
    """The daemon again, for some minutes."""
    for _ in range(4):
        arriving.now += 120
        for request in arriving.tick():
            arriving.run(request)


def test_a_run_that_ended_without_an_outcome_was_repeated_at_once_or_never(
    arriving: Arriving, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving.now = time.time() - 1000  # runs have real times, and a clock that goes back would make files settle anew
    arriving.put("a.jsonl", NEW)
    with monkeypatch.context() as patch:
        killed_in(patch, "before the commit")
        request = arriving.settled()
        arriving.run(request)
    arriving.now = time.time()
    assert arriving.tick() == [] and "again in" in arriving.said
    arriving.now += 60
    (again,) = arriving.tick()
    assert again.run_key != request.run_key and arriving.run(again).success


def test_a_batch_that_failed_fifty_times_was_never_tried_again(arriving: Arriving) -> None:
    arriving.put("a.jsonl", NEW)
    request, keys = arriving.settled(), []
    for number in range(54):
        keys.append(request.run_key)
        tags = {**request.tags, "dagster/run_key": str(request.run_key)}
        run = DagsterRun(take_arrivals.name, make_new_run_id(), status=DagsterRunStatus.FAILURE, tags=tags)
        arriving.world.instance.add_run(run)
        if number in (0, 49, 50, 51, 52, 53):
            arriving.now += LONGEST_PAUSE_SECONDS
            (request,) = arriving.tick()
            assert request.run_key not in keys


@pytest.mark.parametrize("cursor", ['{"version": 2, "looks": {}}', "7", "{", '{"a.jsonl": ["x", NaN]}'])
def test_a_cursor_that_cannot_be_read_stopped_the_sensor(
    arriving: Arriving, cursor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arriving.cursor = cursor
    arriving.put("a.jsonl", NEW)
    assert arriving.settled().run_key and "the cursor cannot be read" in capfd.readouterr().err


def test_a_refused_file_was_moved_taken_or_judged_at_every_tick(arriving: Arriving) -> None:
    exam = next(iter(DATA["test.jsonl"]))
    arriving.put("bad.jsonl", NEW, (exam, "0"))
    arriving.put("good.jsonl", ALSO)
    result = arriving.taken()
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    told = str(failure.step_failure_data.error)
    assert "bad.jsonl: line 2: prompt: a model must not learn its exam" in told and "test.jsonl" in told
    assert arriving.rows_at(arriving.branches()[0]) == [ALSO]
    assert (arriving.folder / "bad.jsonl").is_file()
    assert arriving.tick() == [] and "refused: bad.jsonl: line 2" in arriving.said
    assert len(arriving.facts("refused")) == 1
    arriving.world.repository.git("branch", "-D", arriving.branches()[0])
    arriving.put("bad.jsonl", NEW)  # mended
    assert arriving.taken().success
    assert arriving.rows_at(arriving.branches()[0]) == [NEW]


def test_a_second_batch_was_built_beside_one_that_waits_for_review(arriving: Arriving) -> None:
    arriving.put("a.jsonl", NEW)
    arriving.taken()
    arriving.put("b.jsonl", ALSO)
    assert (arriving.tick(), arriving.tick()) == ([], [])
    (first,) = arriving.branches()
    assert f"1 files wait: the branch {first}" in arriving.said
    arriving.world.repository.git("merge", "--quiet", "--squash", first)  # another commit with the same data
    arriving.world.repository.commit({}, "squashed")
    (request,) = arriving.tick()
    assert arriving.run(request).success
    assert arriving.rows_at(next(b for b in arriving.branches() if b != first)) == [NEW, ALSO]


def second_place(arriving: Arriving, tmp_path: Path, **changes: str) -> tuple[WatchedPlace, WatchedPlace]:
    """Another place whose rows go into the same file, with a file that contradicts the first one's."""
    file = arriving.world.repository.path / "config" / "local.yaml"
    settings = yaml.safe_load(file.read_text())
    (first,) = settings["arrivals"]
    settings["arrivals"].append({**first, "name": "others", "place": str(tmp_path / "others"), **changes})
    arriving.world.repository.commit({"config/local.yaml": yaml.safe_dump(settings)})
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "b.jsonl").write_text(f'{{"prompt": "{NEW[0]}", "response": "not this"}}\n')
    one, other = arriving.world.doors().settings.arrivals
    return one, other


def test_two_places_made_two_branches_of_one_file_at_once(
    arriving: Arriving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving.put("a.jsonl", NEW)
    places, real = second_place(arriving, tmp_path), operation._read
    outcomes: list[operation.Outcome] = []

    def taken(watched: WatchedPlace) -> None:
        doors = arriving.world.doors()
        outcomes.append(operation.take(doors, watched, doors.place(watched).listed(), "run"))

    late = threading.Thread(target=taken, args=(places[1],))

    def meanwhile(*given: Any) -> Any:
        if late.ident is None:
            late.start()
            late.join(0.5)
        return real(*given)

    monkeypatch.setattr(operation, "_read", meanwhile)
    taken(places[0])
    late.join(30)
    (branch,) = arriving.branches()
    assert arriving.rows_at(branch) == [NEW]
    assert not outcomes[1].taken and f"the branch {branch} with earlier rows is open" in outcomes[1].passed_on


def test_two_models_that_share_their_data_got_two_branches_of_one_file(arriving: Arriving, tmp_path: Path) -> None:
    arriving.world.repository.commit({"models/twin/model.yaml": yaml.safe_dump({**MODEL, "name": "twin"})})
    arriving.put("a.jsonl", NEW)
    place, twin = second_place(arriving, tmp_path, model="twin")
    doors = arriving.world.doors()
    assert operation.take(doors, twin, doors.place(twin).listed(), "run").rows == 1
    (branch,) = arriving.branches()
    outcome = operation.take(doors, place, doors.place(place).listed(), "run")
    assert not outcome.taken and f"the branch {branch} with earlier rows is open" in outcome.passed_on
    assert arriving.branches() == [branch]


def test_what_another_place_s_killed_run_had_pushed_was_not_seen(
    arriving: Arriving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving.put("a.jsonl", NEW)
    _, other = second_place(arriving, tmp_path)
    with monkeypatch.context() as patch:
        killed_in(patch, "after the commit")
        assert not arriving.taken().success
    doors = arriving.world.doors()
    outcome = operation.take(doors, other, doors.place(other).listed(), "run")
    (branch,) = arriving.branches()
    assert branch in outcome.passed_on and not outcome.taken
    go_on(arriving)
    assert arriving.branches() == [branch] and len(arriving.facts("produced")) == 1


def test_what_a_reviewer_rejected_came_again(arriving: Arriving) -> None:
    arriving.put("a.jsonl", NEW)
    arriving.taken()
    arriving.world.repository.git("branch", "-D", arriving.branches()[0])
    arriving.put("a-renamed.jsonl", NEW)
    result = arriving.taken()
    assert result.success and arriving.branches() == []
    assert len(arriving.facts("produced")) == 2


def test_rows_that_are_known_made_an_empty_commit(arriving: Arriving) -> None:
    question, answer = next(iter(DATA["train.jsonl"].items()))
    arriving.put("a.jsonl", (question, answer))
    assert arriving.taken().success and arriving.branches() == []
    assert arriving.tick() == []


def test_the_policy_did_not_merge_or_changed_a_working_tree(arriving: Arriving) -> None:
    arriving.watch(merge="automatic", branch="released")
    arriving.world.repository.git("branch", "released")
    arriving.put("a.jsonl", NEW)
    main = arriving.world.repository.head
    assert arriving.taken().success
    assert arriving.rows_at("released") == [NEW] and arriving.world.repository.head == main
    arriving.put("b.jsonl", ALSO)
    assert arriving.taken().success and arriving.rows_at("released") == [NEW, ALSO]


def test_a_checked_out_branch_was_merged_into_or_nobody_was_told(arriving: Arriving) -> None:
    arriving.watch(merge="automatic")
    arriving.put("a.jsonl", NEW)
    before = arriving.world.repository.head
    assert arriving.taken().success and arriving.world.repository.head == before
    (produced,) = arriving.facts("produced")
    assert "waits for review: the branch is checked out" in produced.body["passed_on"]


def test_a_branch_that_moved_meanwhile_lost_a_commit_or_the_rows(
    arriving: Arriving, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving.watch(merge="automatic", branch="released")
    repository = arriving.world.repository
    repository.git("branch", "released")
    real, came = GitDvcCommits.propose, []

    def propose(self: GitDvcCommits, *given: Any, **named: Any) -> str:
        revision = real(self, *given, **named)
        if not came:
            came.append(repository.git("commit-tree", "released^{tree}", "-p", "released", "-m", "came meanwhile"))
            repository.git("update-ref", "refs/heads/released", came[0])
        return revision

    monkeypatch.setattr(GitDvcCommits, "propose", propose)
    arriving.put("a.jsonl", NEW)
    assert arriving.taken().success
    assert arriving.rows_at("released") == [NEW]
    repository.git("merge-base", "--is-ancestor", came[0], "released")
    assert len(arriving.facts("produced")) == 1


def test_an_outage_was_skipped_in_silence_or_lost_files(arriving: Arriving, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    address = {"place": "s3://annotations/tiny", "endpoint": "http://127.0.0.1:9", "region": "eu-central-1"}
    arriving.watch(**address, allowed_endpoints=["127.0.0.1:9"])
    with pytest.raises(TransientError, match="could not be reached"):
        arriving.tick()
    (arriving.folder / "nothing").mkdir()
    arriving.watch(place=str(arriving.folder / "unmounted"))
    with pytest.raises(LlmopsError, match="make or mount it"):
        arriving.tick()


def test_an_object_in_a_bucket_became_no_version_or_was_taken_while_it_is_uploaded(
    arriving: Arriving, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host = "{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=f"http://{host}", region_name="us-east-1")
        client.create_bucket(Bucket="annotations")
        address = {"place": "s3://annotations/tiny", "endpoint": f"http://{host}", "region": "us-east-1"}
        arriving.watch(**address, allowed_endpoints=[host])
        key = {"Bucket": "annotations", "Key": "tiny/a.jsonl"}
        begun = client.create_multipart_upload(**key)
        part = {**key, "PartNumber": 1, "UploadId": begun["UploadId"]}
        row = b'{"prompt": "What is new?", "response": "this"}\n'
        done = client.upload_part(**part, Body=row)
        assert (arriving.tick(), arriving.tick()) == ([], [])
        parts = {"Parts": [{"PartNumber": 1, "ETag": done["ETag"]}]}
        client.complete_multipart_upload(**key, UploadId=begun["UploadId"], MultipartUpload=parts)
        assert arriving.taken().success
        assert arriving.rows_at(arriving.branches()[0]) == [NEW]
        assert client.head_object(**key) and arriving.tick() == []
    finally:
        server.stop()


def test_an_output_of_a_stage_got_rows_that_the_stage_would_drop(arriving: Arriving) -> None:
    world = arriving.world
    pointer = yaml.safe_load((world.repository.path / "data" / "tiny.dvc").read_text())["outs"][0]
    lock = {"schema": "2.0", "stages": {"make": {"cmd": "x", "outs": [{**pointer, "path": "data/tiny"}]}}}
    (world.repository.path / "data" / "tiny.dvc").unlink()
    world.repository.commit({"dvc.lock": yaml.safe_dump(lock)})
    arriving.put("a.jsonl", NEW)
    result = arriving.taken()
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "a DVC stage makes it" in str(failure.step_failure_data.error) and arriving.branches() == []


def test_a_reviewer_was_not_told_that_nothing_learns_from_the_rows(arriving: Arriving) -> None:
    assert "feedback.jsonl" not in str(MODEL["training"])
    arriving.put("a.jsonl", NEW)
    arriving.taken()
    message = arriving.world.repository.git("show", "--no-patch", "--format=%B", arriving.branches()[0])
    assert "Training does not read this file: name it under training.train" in message


def test_a_place_that_is_watched_no_more_failed_its_sensor(arriving: Arriving) -> None:
    arriving.watch(name="others")
    assert arriving.tick() == [] and "watched no more" in arriving.said


def test_a_place_in_the_settings_has_no_sensor(arriving: Arriving) -> None:
    from llmops_assets.definitions import build

    names = {each.name for each in build(arriving.world.home).sensors or []}
    assert "arrivals_annotators" in names and "repository" in names
    (arriving.world.repository.path / "config" / "local.yaml").write_text("broken: [")
    assert "repository" in {each.name for each in build(arriving.world.home).sensors or []}
