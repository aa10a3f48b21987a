"""DVC's remotes, asked through the program resources/data/dvc_pull.py: bring objects, or look for them there."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from llmops_core.errors import InputError, Problem, TransientError
from resources.data.dvc_pull import MEND

NO_OBJECT = "0" * 32  # an MD5 that no file has
ANSWER_SECONDS = 10.0  # for the first answer of a remote
# in all, for what a sensor waits for: DVC's start on a busy machine, and a look at many objects or one long listing
LIMIT_SECONDS = 60.0
LIMIT_SECONDS_PER_OBJECT = 0.01
SILENCE_SECONDS = 10.0  # less than a sensor's shortest pause, so that its next look asks
_CONFIG_FOLDERS = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR")
_REMOTE = re.compile(r"""\['remote "([^"]+)"'\]""")


class DvcRemotes:
    """The remotes of the repository whose .dvc folder configures them. Methods raise TransientError for an unreachable
    one. `remote` names one of them; None is the default.

    Who looks for many models asks `briefly`: a remote that did not answer a moment ago is not asked again for the next
    one, which would wait as long.

    With `allowed_endpoints` the repository is somebody else's. It may lead outwards or to one of these only, and
    the remotes and credentials in this machine's own DVC configuration are not for it. InputError says what of it is
    refused.
    """

    def __init__(self, repository: Path, allowed_endpoints: Collection[str] | None = None) -> None:
        self._repository = repository
        self._allowed = allowed_endpoints
        self._silent: dict[str | None, tuple[float, str]] = {}  # until when (monotonic), and what was said

    def offers(self, remote: str) -> bool:
        """Whether data may name this remote: of another repository's, those that its followed configuration has."""
        if self._allowed is None:
            return True
        return remote in _REMOTE.findall("\n".join(_lines(self._repository / ".dvc" / "config")))

    def bring(self, md5s: Iterable[str], remote: str | None, cache: Path, briefly: bool = False) -> tuple[Path, str]:
        """(folder of the cache, what DVC says must be mended; "" when it had nothing to say)"""
        answer = self._ask_briefly(md5s, remote) if briefly else self._ask(md5s, remote)
        return (cache, answer) if isinstance(answer, str) else (Path(answer["cache"]), "")

    def missing(self, md5s: Iterable[str], remote: str | None) -> tuple[str, ...]:
        """Those of the objects that the remote lacks; all of them where there is no remote to ask. Asks briefly."""
        wanted = tuple(md5s)
        answer = self._ask_briefly(wanted, remote, look_only=True)
        return wanted if isinstance(answer, str) else tuple(md5 for md5 in wanted if md5 in answer["missing"])

    def default(self) -> str:
        """The name of the default remote; empty where none is configured."""
        found = ""
        for name in ("config", "config.local"):
            for line in _lines(self._repository / ".dvc" / name):
                key, _, value = line.partition("=")
                found = value.strip() if key.strip() == "remote" else found
        return found

    def address(self, name: str) -> str:
        """The url of one of the remotes, as it stands in the repository's settings; empty where it has none there."""
        found, section = "", ""
        for file in ("config", "config.local"):
            for line in _lines(self._repository / ".dvc" / file):
                section = line.strip() if line.strip().startswith("[") else section
                key, _, value = line.partition("=")
                if key.strip() == "url" and _REMOTE.findall(section) == [name]:
                    found = value.strip()
        return found

    def trouble(self) -> str:
        """What DVC says must be mended before the default remote can be read; empty when it answers."""
        answer = self._ask([NO_OBJECT], None, look_only=True)
        return answer.strip(" ()") if isinstance(answer, str) else ""

    def _ask_briefly(self, md5s: Iterable[str], remote: str | None, look_only: bool = False) -> dict[str, Any] | str:
        until, said = self._silent.get(remote, (0.0, ""))
        if time.monotonic() < until:
            raise TransientError(said)
        try:
            return self._ask(md5s, remote, look_only)
        except TransientError as error:
            self._silent[remote] = (time.monotonic() + SILENCE_SECONDS, str(error))
            raise

    def _ask(self, md5s: Iterable[str], remote: str | None, look_only: bool = False) -> dict[str, Any] | str:
        """The program's answer, or what DVC says must be mended."""
        if not (self._repository / ".dvc").is_dir():
            return "; the repository has no .dvc folder: run `dvc init`"
        wanted = list(md5s)
        allowed = None if self._allowed is None else sorted(self._allowed)
        request = {"repository": str(self._repository), "objects": wanted, "remote": remote, "look_only": look_only}
        request |= {"allowed_endpoints": allowed, "answer_seconds": ANSWER_SECONDS}
        limited = look_only or all(md5.endswith(".dir") for md5 in wanted)  # else data, which may be large
        limit = LIMIT_SECONDS + LIMIT_SECONDS_PER_OBJECT * len(wanted) if limited else None
        done = self._run(json.dumps(request), limit)
        said = without_passwords(done.stderr.strip().rpartition("\n")[2])
        if done.returncode == MEND:
            return f" ({said})"
        if done.returncode != 0:
            raise TransientError(f"DVC's remote could not be reached: {said}")
        answer = json.loads(done.stdout)
        if "refused" in answer:
            raise InputError(*(Problem(**problem) for problem in answer["refused"]))
        return answer

    def _run(self, request: str, limit_seconds: float | None) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-P", "-m", "resources.data.dvc_pull"]  # -P: not a `resources` of the current folder
        with tempfile.TemporaryDirectory() as empty:
            here = {} if self._allowed is None else dict.fromkeys(_CONFIG_FOLDERS, empty)
            with subprocess.Popen(
                program,
                env={**os.environ, **here},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as process:
                try:
                    said = process.communicate(request, timeout=limit_seconds)
                except subprocess.TimeoutExpired:
                    raise TransientError(f"DVC's remote did not answer within {limit_seconds:.0f} s") from None
                finally:
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(program, process.returncode, *said)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def without_passwords(text: str) -> str:
    """What a program said, without user names and passwords in addresses and without keys in queries."""
    text = re.sub(r"://[^/@\s]+@", "://", text)
    return re.sub(r"(?i)((?:secret|token|password|key|signature)[\w-]*=)[^&\s]+", r"\1…", text)
