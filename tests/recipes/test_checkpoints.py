"""Machines vanish; what a training reached must not, and going on must end where an uninterrupted one ends."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, Interrupted
from llmops_core.exit_codes import TRY_AGAIN, exit_code_of
from llmops_core.training_spec import Training as Plan
from recipes.checkpoint_store import MANIFEST, CheckpointStore, FolderStore, StoreFails, open_store
from recipes.checkpoints import FIGURES, TENSORS, Checkpoints, open_checkpoints
from recipes.process import be_a_good_neighbour
from recipes.progress import Progress
from recipes.training_identity import identity_of

be_a_good_neighbour()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: E402

from recipes.devices import prepare_torch  # noqa: E402
from recipes.packing import Document  # noqa: E402
from recipes.training_loop import Schedule, train  # noqa: E402
from recipes.training_report import Trained  # noqa: E402

STEPS = 12
SCHEDULE = Schedule(seed=3, steps=STEPS, learning_rate=0.01, tokens_per_step=64, row_tokens=32, warmup_steps=3)
DOCUMENTS = [Document(tuple(range(5 + n, 14 + 2 * n)), 2 + n % 3) for n in range(11)]


class Vanished(Exception):
    """Stands for the end of the process."""


class Watched(Progress):
    """Calls `at` after each step."""

    def __init__(self, at: Callable[[int], None]) -> None:
        super().__init__()
        self._at = at

    def report(self, done: int, total: int, **figures: float) -> None:
        self._at(done)


def fresh(tiny_llama: Path) -> PreTrainedModel:
    """With dropout, so that the random numbers of each step count."""
    prepare_torch(3)
    return AutoModelForCausalLM.from_pretrained(tiny_llama, attention_dropout=0.2)


def run(
    tiny_llama: Path, checkpoints: Checkpoints | None = None, at: Callable[[int], None] = lambda step: None
) -> tuple[dict[str, torch.Tensor], Trained]:
    model = fresh(tiny_llama)
    trained = train(model, DOCUMENTS, SCHEDULE, 0, Watched(at), checkpoints)
    return model.state_dict(), trained


def kept_in(folder: Path, identity: str = "this one", seconds: float = 0.0) -> Checkpoints:
    return Checkpoints(FolderStore(folder), identity, seconds)


def written_until(tiny_llama: Path, checkpoints: Checkpoints, last: int) -> None:
    """Train, write each step's checkpoint, and vanish after step `last`."""

    def at(step: int) -> None:
        checkpoints.finish()
        if step == last + 1:
            raise Vanished

    with pytest.raises(Vanished):
        run(tiny_llama, checkpoints, at)


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> tuple[dict[str, torch.Tensor], Trained]:
    return run(tiny_llama)


def test_training_that_was_cut_off_again_and_again_ended_with_other_weights(
    tmp_path: Path, tiny_llama: Path, whole: tuple[dict[str, torch.Tensor], Trained]
) -> None:
    chance, reached, ends = random.Random(5), 0, []
    while reached < STEPS - 3:
        ends.append(reached := reached + chance.randint(1, 4))
        written_until(tiny_llama, kept_in(tmp_path), reached)
    last = kept_in(tmp_path)
    weights, trained = run(tiny_llama, last)
    for name, weight in whole[0].items():
        assert torch.equal(weights[name], weight), name
    assert trained.losses == whole[1].losses and trained.tokens == whole[1].tokens
    assert last.as_report()["resumed_at_steps"] == ends


def test_the_seconds_before_the_interruption_were_forgotten(tmp_path: Path, tiny_llama: Path) -> None:
    written_until(tiny_llama, kept_in(tmp_path), 4)
    for path in tmp_path.glob(f"*/{FIGURES}"):
        assert json.loads(path.read_bytes())["seconds"] > 0
    state = kept_in(tmp_path).newest()
    assert state is not None and state.step == 4
    assert run(tiny_llama, kept_in(tmp_path))[1].seconds > state.figures["seconds"]


def test_sigterm_lost_the_steps_since_the_last_checkpoint(
    tmp_path: Path, tiny_llama: Path, whole: tuple[dict[str, torch.Tensor], Trained]
) -> None:
    def at(step: int) -> None:
        if step == 6:  # arrives in the next one
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="after step 7 of 12") as raised:
        run(tiny_llama, kept_in(tmp_path, seconds=3600.0), at)
    assert exit_code_of(raised.value) == TRY_AGAIN
    assert signal.getsignal(signal.SIGTERM) is before
    state = kept_in(tmp_path).newest()
    assert state is not None and state.step == 7
    weights, trained = run(tiny_llama, kept_in(tmp_path))
    assert all(torch.equal(weights[name], weight) for name, weight in whole[0].items())
    assert trained.losses == whole[1].losses


def test_only_the_last_two_are_kept(tmp_path: Path, tiny_llama: Path) -> None:
    written_until(tiny_llama, kept_in(tmp_path), 5)
    steps = [json.loads(path.read_bytes())["step"] for path in sorted(tmp_path.glob(f"*/{MANIFEST}"))]
    assert steps == [4, 5]


def test_a_folder_that_was_there_before_was_thrown_away(tmp_path: Path, tiny_llama: Path) -> None:
    for name in ("rows", "20261121", "20261121-release"):
        (tmp_path / name).mkdir()
    written_until(tiny_llama, kept_in(tmp_path), 3)
    assert {"rows", "20261121", "20261121-release"} < {each.name for each in tmp_path.iterdir()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", [MANIFEST, TENSORS, FIGURES])
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_a_harmed_checkpoint_was_gone_on_from(
    tmp_path: Path, tiny_llama: Path, file: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    written_until(tiny_llama, kept_in(tmp_path), 2)
    older, newer = sorted(tmp_path.iterdir())
    harm(newer / file)
    state = kept_in(tmp_path).newest()
    assert state is not None and state.step == 1
    said = capsys.readouterr().err
    assert f"{newer.name} is passed over" in said and f"after step 1, from checkpoint {older.name}" in said


def test_after_a_harmed_one_the_good_one_before_it_was_thrown_away(tmp_path: Path, tiny_llama: Path) -> None:
    written_until(tiny_llama, kept_in(tmp_path), 2)
    older, newer = sorted(tmp_path.iterdir())
    flip(newer / TENSORS)
    written_until(tiny_llama, kept_in(tmp_path), 2)  # from step 1, so one more is written
    assert older in (left := sorted(tmp_path.iterdir())) and newer not in left and len(left) == 2


def test_checkpoints_of_another_training_were_gone_on_from(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written_until(tiny_llama, kept_in(tmp_path), 3)
    assert kept_in(tmp_path, "another one").newest() is None
    said = capsys.readouterr().err
    assert "another training" in said and "starts anew" in said


class Torn(FolderStore):
    """Breaks off in the middle of the last file that it writes."""

    def __init__(self, folder: Path, files: int) -> None:
        super().__init__(folder)
        self._folder, self._files = folder, files

    def write(self, name: str, files: Mapping[str, Path]) -> None:
        chosen = dict(list(files.items())[: self._files])
        super().write(name, chosen)
        cut(self._folder / name / list(chosen)[-1])
        raise StoreFails("connection reset")


@pytest.mark.parametrize("files", [1, 2, 3])
def test_a_torn_upload_was_gone_on_from(tmp_path: Path, tiny_llama: Path, files: int) -> None:
    written_until(tiny_llama, kept_in(tmp_path), 3)
    torn = Checkpoints(Torn(tmp_path, files), "this one", 0.0)
    written_until(tiny_llama, torn, 5)
    assert torn.resumed_at == [3] and torn.as_report()["written"] == 0
    state = kept_in(tmp_path).newest()
    assert state is not None and state.step == 3


class Broken(FolderStore):
    def write(self, name: str, files: object) -> None:
        raise StoreFails("no answer")


def test_a_store_that_fails_cost_the_training(
    tmp_path: Path,
    tiny_llama: Path,
    whole: tuple[dict[str, torch.Tensor], Trained],
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoints = Checkpoints(Broken(tmp_path), "this one", 0.0)
    weights, _ = run(tiny_llama, checkpoints)
    assert all(torch.equal(weights[name], weight) for name, weight in whole[0].items())
    report = checkpoints.as_report()
    assert report["written"] == 0 and isinstance(report["failed"], int) and report["failed"] > 0
    assert "is not whole: no answer" in capsys.readouterr().err


class Keeping(FolderStore):
    def remove(self, name: str) -> None:
        raise EnvironmentLacks("may not remove")


def test_where_nothing_may_be_removed_whole_checkpoints_counted_as_failed(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(Keeping(tmp_path), "this one", 0.0)
    written_until(tiny_llama, checkpoints, 4)
    report = checkpoints.as_report()
    assert (report["written"], report["failed"]) == (4, 0)
    assert "older checkpoints are still there: may not remove" in capsys.readouterr().err


def test_every_input_of_a_training_is_part_of_what_it_is(tmp_path: Path) -> None:
    rows, base = tmp_path / "rows.jsonl", tmp_path / "base"
    base.mkdir()
    rows.write_bytes(b"1")
    (base / "model.safetensors").write_bytes(b"2")
    plan = Plan.model_validate({"method": "full", "train": "rows.jsonl"})
    before = {identity_of("finetune", plan, [rows], base)}
    assert identity_of("finetune", plan, [rows], base) in before
    before.add(identity_of("pretrain", plan, [rows], base))
    before.add(identity_of("finetune", plan.model_copy(update={"seed": 2}), [rows], base))
    before.add(identity_of("finetune", plan, [rows, rows], base))
    rows.write_bytes(b"3")
    before.add(identity_of("finetune", plan, [rows], base))
    (base / "model.safetensors").write_bytes(b"4")
    before.add(identity_of("finetune", plan, [rows], base))
    (base / "model.safetensors").rename(base / "other.safetensors")
    before.add(identity_of("finetune", plan, [rows], base))
    assert len(before) == 7


@pytest.mark.parametrize("seconds", ["often", "-1", "nan", "inf", ""])
def test_an_interval_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    monkeypatch.setenv("LLMOPS_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("LLMOPS_CHECKPOINT_SECONDS", seconds)
    with pytest.raises(InputError, match="LLMOPS_CHECKPOINT_SECONDS"):
        open_checkpoints(lambda: "this one")


def test_without_a_place_nothing_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMOPS_CHECKPOINTS", raising=False)
    assert open_checkpoints(lambda: pytest.fail("read the data")) is None


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CheckpointStore]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "kept"))
        return
    import boto3

    server = request.getfixturevalue("s3_server")
    names = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**names, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="training")
    yield open_store("s3://training/checkpoints/one")


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_what_was_written_is_read_again(store: CheckpointStore, tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"many bytes")
    assert store.names() == []
    for name in ("00000002-b", "00000001-a"):
        store.write(name, {TENSORS: tmp_path / "content", MANIFEST: tmp_path / "content"})
    assert store.names() == ["00000001-a", "00000002-b"]
    assert store.read("00000001-a", TENSORS, tmp_path / "read")
    assert (tmp_path / "read").read_bytes() == b"many bytes"
    assert not store.read("00000001-a", FIGURES, tmp_path / "none")
    assert not store.read("00000003-c", MANIFEST, tmp_path / "none")
    store.remove("00000001-a")
    assert store.names() == ["00000002-b"]


def test_training_goes_on_from_either_store(
    store: CheckpointStore, tiny_llama: Path, whole: tuple[dict[str, torch.Tensor], Trained]
) -> None:
    written_until(tiny_llama, Checkpoints(store, "this one", 0.0), 5)
    last = Checkpoints(store, "this one", 3600.0)
    weights, _ = run(tiny_llama, last)
    assert all(torch.equal(weights[name], weight) for name, weight in whole[0].items())
    assert last.as_report()["resumed_at_steps"] == [5]


def test_a_bucket_that_is_not_there_is_named(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**names, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentLacks, match="s3://absent/x/"):
        open_store("s3://absent/x").names()


@pytest.mark.parametrize("address", ["gs://bucket/x", "s3://", "s3://b/../x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="LLMOPS_CHECKPOINTS"):
        open_store(address)
