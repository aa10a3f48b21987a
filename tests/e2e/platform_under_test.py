"""A clone of this repository with a platform of its own, driven as a user drives it: by files, commits and commands."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LLMOPS = Path(sys.executable).with_name("llmops")
MODEL = "atlas-qa"


class Clone:
    """The working tree's committed state, cloned; its platform listens on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "clone"
        self.git_at(folder, "clone", "--quiet", str(ROOT), str(self.path))
        for name, value in (("user.name", "Test"), ("user.email", "test@example.com")):
            self.git("config", name, value)
        self.port_base = _free_base()
        self.home = self.path / ".llmops"

    def llmops(self, *arguments: str, check: bool = True, seconds: float = 900) -> subprocess.CompletedProcess[str]:
        # measured for coverage, seven programs start three times slower and stop being what users have
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        environment = {
            **inherited,
            "PYTHONPATH": str(self.path),
            "LLMOPS_HOME": str(self.home),
            "LLMOPS_PORT_BASE": str(self.port_base),
        }
        command = [str(LLMOPS), *arguments]
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=seconds)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} exited {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}")
        return done

    def json(self, *arguments: str, check: bool = True) -> Any:
        return json.loads(self.llmops(*arguments, "--json", check=check).stdout)

    def status(self) -> dict[str, Any]:
        return next(m for m in self.json("status")["models"] if m["model"] == MODEL)

    def production(self) -> dict[str, Any]:
        return self.status()["environments"]["production"]

    def edit(self, path: str, old: str, new: str, message: str) -> str:
        """Commits a change of one text; returns the commit."""
        file = self.path / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"{path} does not hold {old!r}"
        file.write_text(text.replace(old, new), encoding="utf-8")
        self.git("commit", "--quiet", "--all", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        return self.git_at(self.path, *arguments)

    @staticmethod
    def git_at(folder: Path, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout

    def facts(self, kind: str, subject: str) -> list[dict[str, Any]]:
        import sqlite3

        query = "SELECT body FROM facts WHERE kind = ? AND subject = ? AND model = ? ORDER BY sequence"
        with sqlite3.connect(self.home / "ledger.db") as connection:
            return [json.loads(body) for (body,) in connection.execute(query, (kind, subject, MODEL))]

    def ask(self, question: str, path: str = "/v1/chat/completions", **more: Any) -> tuple[str, dict[str, str]]:
        """The answer and the headers of one request to the gateway."""
        body = {"messages": [{"role": "user", "content": question}], **more}
        if path.endswith("/completions") and "chat" not in path:
            body = {"prompt": question, **more}
        url = f"http://127.0.0.1:{self.port_base}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            choice = json.load(response)["choices"][0]
            headers = {name.lower(): value for name, value in response.headers.items()}
        return (choice.get("text") or choice["message"]["content"]).strip(), headers

    def page(self, path: str, offset: int = 0) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port_base + offset}{path}", timeout=30) as response:
            return response.status, response.read().decode()

    def server_process(self, deployment: str) -> int:
        """The process id of a deployment's server, as the process keeper knows it."""
        from resources.host.processes import SupervisorProcesses

        state = SupervisorProcesses(self.home).state_of(f"serve.{deployment}")
        assert state is not None and state.pid is not None
        return state.pid

    def pause(self, deployment: str) -> None:
        os.kill(self.server_process(deployment), signal.SIGSTOP)


def wait_for(what: str, happened: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := happened():
            return result
        time.sleep(0.3)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


def _free_base() -> int:
    for base in range(18600, 30000, 100):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", base))
                other.bind(("127.0.0.1", base + 1))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports for a platform")
