"""DVC's remotes: one that says nothing must not hold up a sensor, somebody else's must not lead inside."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from llmops_core.errors import InputError, TransientError
from resources.data import dvc_remotes
from resources.data.dataset_store import DvcStore
from resources.data.dvc_pull import MEND
from resources.git.source import GitSource

ROOT = Path(__file__).parents[2]


class Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def answering(status: int, location: str = "") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of a web server that answers everything alike, and the headers of all requests."""
    asked: list[dict[str, str]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if location:
                self.send_header("Location", location + self.path)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 (the name that http.server looks for)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    with Server(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture
def remoteless(dvc_repository):
    shutil.rmtree(dvc_repository.path / ".dvc/cache")
    return dvc_repository


def store_of(repository, *allowed: str) -> DvcStore:
    return DvcStore(repository.path, GitSource(repository.path), allowed)


def use(repository, url: str, name: str = "store") -> None:
    text = f"[core]\n    remote = {name}\n['remote \"store\"']\n    url = {url}\n"
    (repository.path / ".dvc" / "config").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("kind", ["http", "s3"])
def test_a_remote_that_accepts_connections_and_never_answers_held_up_a_tick(remoteless, monkeypatch, kind) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr(dvc_remotes, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        use(remoteless, address if kind == "http" else f"s3://bucket/x\n    endpointurl = {address}")
        began = time.monotonic()
        with pytest.raises(TransientError, match="did not answer within 1 s"):
            store_of(remoteless, "127.0.0.1").lacking("HEAD", ["weights.bin"])
        assert time.monotonic() - began < 20


def test_a_program_that_hung_was_waited_for_for_ever(remoteless, monkeypatch) -> None:
    monkeypatch.setattr(dvc_remotes, "LIMIT_SECONDS", 0.0)
    with pytest.raises(TransientError, match="did not answer within 0 s"):
        store_of(remoteless).lacking("HEAD", ["weights.bin"])


def test_a_remote_of_another_repository_redirected_to_an_inner_host(remoteless) -> None:
    with answering(404) as (inner, asked_inside), answering(302, inner) as (outer, asked):
        use(remoteless, outer)
        said = store_of(remoteless, outer.removeprefix("http://")).lacking("HEAD", ["weights.bin"])["weights.bin"]
    assert asked and not asked_inside
    assert ".dvc/config: the default remote: url" in said and "another host" in said


def test_another_repository_was_given_the_credentials_of_this_machine(remoteless, tmp_path, monkeypatch) -> None:
    text = "['remote \"store\"']\n    auth = custom\n    custom_auth_header = X-Token\n    password = hunter2\n"
    (tmp_path / "config").write_text(text, encoding="utf-8")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path))
    with answering(404) as (url, asked):
        use(remoteless, url)
        store_of(remoteless, "127.0.0.1").lacking("HEAD", ["weights.bin"])
        assert asked and "hunter2" not in str(asked)
        DvcStore(remoteless.path, GitSource(remoteless.path)).lacking("HEAD", ["weights.bin"])
        assert "hunter2" in str(asked)  # the platform's own checkout


def test_another_repository_named_a_remote_of_this_machine(remoteless, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path))
    pointer = yaml.safe_load((remoteless.path / "weights.bin.dvc").read_text())
    pointer["outs"][0]["remote"] = "corp"
    remoteless.commit({"weights.bin.dvc": yaml.safe_dump(pointer)})
    with answering(404) as (url, asked):
        (tmp_path / "config").write_text(f"['remote \"corp\"']\n    url = {url}\n", encoding="utf-8")
        said = store_of(remoteless, "127.0.0.1").lacking("HEAD", ["weights.bin"])["weights.bin"]
        with pytest.raises(InputError, match=r"weights\.bin: remote"):
            store_of(remoteless, "127.0.0.1").fetch("HEAD", "weights.bin", tmp_path / "out")
    assert said.startswith("weights.bin.dvc: weights.bin: remote: ") and "corp" in said and not asked


@pytest.mark.parametrize("field", ["url", "endpointurl"])
def test_a_remote_of_another_repository_led_inside_when_it_was_asked(remoteless, field) -> None:
    """As a name that pointed outwards when the settings were read; here an address that is not in the settings."""
    with answering(404) as (url, asked):
        use(remoteless, url if field == "url" else f"s3://bucket/x\n    endpointurl = {url}")
        said = store_of(remoteless).lacking("HEAD", ["weights.bin"])["weights.bin"]
    assert f".dvc/config: the default remote: {field}" in said and not asked


def test_every_model_waited_as_long_for_a_remote_that_had_just_not_answered(remoteless, monkeypatch) -> None:
    monkeypatch.setattr(dvc_remotes, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use(remoteless, f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = store_of(remoteless, "127.0.0.1")
        for _ in range(20):
            with pytest.raises(TransientError, match="did not answer within 1 s"):
                store.lacking("HEAD", ["weights.bin"])
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    monkeypatch.setattr(dvc_remotes.time, "monotonic", lambda: time.time() + 1e9)
    with answering(404) as (url, asked):
        use(remoteless, url)
        assert "dvc push" in store.lacking("HEAD", ["weights.bin"])["weights.bin"] and asked


FLIPPING = """
import socket, sys
from resources.data import dvc_pull
real, asked = socket.getaddrinfo, []
def flips(name, *more, **named):
    if not str(name).endswith("rebinding.example.com"):
        return real(name, *more, **named)
    asked.append(name)
    return real("93.184.216.34" if len(asked) == 1 else "127.0.0.1", *more, **named)
socket.getaddrinfo = flips
code = dvc_pull.main()
assert len(asked) > 1, "it was never connected to"
sys.exit(code)
"""
LENIENT = """
import sys
from resources.data import dvc_pull
dvc_pull.check_destination, dvc_pull.hold_outside = lambda address, allowed, *_: bool(allowed), lambda host: None
sys.exit(dvc_pull.main())
"""


def pulled(program: str, repository, *allowed: str) -> subprocess.CompletedProcess[str]:
    """What the program said that asks for one object of another repository."""
    request = {"repository": str(repository.path), "objects": ["0" * 32], "remote": None, "look_only": True}
    request |= {"allowed_endpoints": list(allowed), "answer_seconds": 10}
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}
    environment = {**os.environ, **keys, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, input=json.dumps(request), env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["http", "s3"])
def test_a_name_that_leads_inside_after_it_was_checked_was_connected_to(remoteless, kind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside:
        address = f"https://rebinding.example.com:{inside.getsockname()[1]}"
        use(remoteless, address if kind == "http" else f"s3://bucket/x\n    endpointurl = {address}")
        done = pulled(FLIPPING, remoteless)
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.accept()
    assert done.returncode not in (0, MEND) and "never connected to" not in done.stderr, done.stderr
    assert "it is an address inside" in done.stderr


@pytest.mark.parametrize("listed", [True, False])
def test_somebody_else_s_store_was_sent_what_the_platform_s_keys_signed(remoteless, listed) -> None:
    with answering(404) as (url, asked):
        use(remoteless, f"s3://bucket/x\n    endpointurl = {url}")
        pulled(LENIENT, remoteless, *(["127.0.0.1"] if listed else []))
    assert asked and ("AKIDEXAMPLE" in str(asked)) is listed
