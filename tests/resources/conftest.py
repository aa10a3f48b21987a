"""Real Git and DVC repositories, small and made in milliseconds."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import Hub
from model_samples import model_files

from tests.fakes.kubernetes_api import KubernetesApi as StandIn
from tests.resources.kubernetes_samples import NAMESPACE

QUIET_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


class GitRepository:
    """A clone that tests commit to. Keys of `files` are paths; None deletes, bytes and str are contents."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, stdin: bytes | None = None, **environment: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            input=stdin,
            env={**os.environ, **QUIET_GIT, **environment},
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def write(self, files: dict[str, str | bytes | None]) -> None:
        for name, content in files.items():
            place = self.path / name
            if content is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: dict[str, str | bytes | None] | None = None, message: str = "change") -> str:
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def commit_tree(self, entries: list[tuple[str, str, bytes]]) -> str:
        """A commit of a tree that `git add` would refuse to make: (mode, name, content or object id for submodules)."""
        raw = b""
        for mode, name, content in entries:
            identity = content.decode() if mode == "160000" else self.git("hash-object", "-w", "--stdin", stdin=content)
            raw += f"{mode} {name}".encode() + b"\0" + bytes.fromhex(identity)
        tree = self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=raw)
        return self.git("commit-tree", tree, "-m", "odd")


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[str], GitRepository]:
    def make(name: str) -> GitRepository:
        path = tmp_path / name
        path.mkdir()
        repository = GitRepository(path)
        repository.git("init", "--quiet", "--initial-branch", "main")
        return repository

    return make


@pytest.fixture
def repository(make_repository: Callable[[str], GitRepository]) -> GitRepository:
    return make_repository("repository")


class DvcRepository(GitRepository):
    """A Git repository with DVC, whose default remote is the folder `remote` beside it."""

    @property
    def remote(self) -> Path:
        return self.path.with_name(f"{self.path.name}-remote")

    def object(self, md5: str) -> Path:
        return self.path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]

    def dvc(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.path,
            env={**os.environ, **QUIET_GIT, "DVC_NO_ANALYTICS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


STAGES = """
stages:
  build:
    cmd: mkdir -p built && cp raw.txt built/train.jsonl
    deps: [raw.txt]
    outs: [built]
  inner:
    wdir: sub
    cmd: cp ../raw.txt copy.txt && cp ../raw.txt score.txt
    deps: [../raw.txt]
    outs: [copy.txt]
    metrics: [score.txt: {cache: false}]
"""


@pytest.fixture(scope="session")
def dvc_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pushed DVC repository with a tracked folder, a tracked file and two stages; two seconds, once."""
    repository = DvcRepository(tmp_path_factory.mktemp("dvc") / "template")
    repository.path.mkdir()
    repository.git("init", "--quiet", "--initial-branch", "main")
    repository.dvc("init", "--quiet")
    repository.dvc("remote", "add", "--quiet", "--default", "store", "../repository-remote")
    repository.write(
        {
            "data/atlas/train.jsonl": '{"prompt": "a", "response": "b"}\n',
            "data/atlas/deep/test.jsonl": '{"prompt": "c", "response": "d"}\n',
            "weights.bin": b"\0\1",
            "raw.txt": "raw",
            "sub/.keep": "",
            "dvc.yaml": STAGES,
        }
    )
    repository.dvc("add", "--quiet", "data/atlas", "weights.bin")
    repository.dvc("repro", "--quiet")
    repository.commit(message="data")
    repository.dvc("push", "--quiet", "--remote", "store")
    return repository.path.parent


@pytest.fixture
def dvc_repository(dvc_template: Path, tmp_path: Path) -> DvcRepository:
    shutil.copytree(dvc_template / "template", tmp_path / "repository")
    shutil.copytree(dvc_template / "repository-remote", tmp_path / "repository-remote")
    return DvcRepository(tmp_path / "repository")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_address(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A real S3 server on loopback, with credentials for it in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return s3_server


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    """Of the Kubernetes API, with one namespace of ours."""
    with StandIn() as api:
        api.create_namespace(NAMESPACE)
        yield api


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts, ours and the clients', take no time."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.001)))


@pytest.fixture
def hub(no_pauses: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback with a tiny model."""
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    hub = Hub()
    hub.files = model_files()
    yield hub
    hub.close()
