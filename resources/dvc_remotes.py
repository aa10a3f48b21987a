"""DVC's remotes, asked through the program resources/dvc_pull.py: bring objects, or look whether they are there."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmops_core.errors import TransientError
from resources.dvc_pull import MEND

NO_OBJECT = "0" * 32  # an MD5 that no file has


class DvcRemotes:
    """The remotes of the repository whose .dvc folder configures them. Methods raise TransientError for an unreachable
    one. `remote` names one of them; None is the default."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def bring(self, md5s: Iterable[str], remote: str | None, cache: Path) -> tuple[Path, str]:
        """(folder of the cache, what DVC says must be mended; "" when it had nothing to say)"""
        answer = self._ask(md5s, remote)
        return (cache, answer) if isinstance(answer, str) else (Path(answer["cache"]), "")

    def missing(self, md5s: Iterable[str], remote: str | None) -> tuple[str, ...]:
        """Those of the objects that the remote lacks; all of them where there is no remote to ask."""
        wanted = tuple(md5s)
        answer = self._ask(wanted, remote, look_only=True)
        return wanted if isinstance(answer, str) else tuple(md5 for md5 in wanted if md5 in answer["missing"])

    def default(self) -> str:
        """The name of the default remote; empty where none is configured."""
        found = ""
        for name in ("config", "config.local"):
            for line in _lines(self._repository / ".dvc" / name):
                key, _, value = line.partition("=")
                found = value.strip() if key.strip() == "remote" else found
        return found

    def trouble(self) -> str:
        """What DVC says must be mended before the default remote can be read; empty when it answers."""
        answer = self._ask([NO_OBJECT], None, look_only=True)
        return answer.strip(" ()") if isinstance(answer, str) else ""

    def _ask(self, md5s: Iterable[str], remote: str | None, look_only: bool = False) -> dict[str, Any] | str:
        """The program's answer, or what DVC says must be mended."""
        if not (self._repository / ".dvc").is_dir():
            return "; the repository has no .dvc folder: run `dvc init`"
        objects = [{"md5": md5, "remote": remote} for md5 in md5s]
        request = {"repository": str(self._repository), "objects": objects, "look_only": look_only}
        program = [sys.executable, "-P", "-m", "resources.dvc_pull"]  # -P: not a `resources` of the current folder
        done = subprocess.run(program, input=json.dumps(request), capture_output=True, text=True)
        said = without_passwords(done.stderr.strip().rpartition("\n")[2])
        if done.returncode == MEND:
            return f" ({said})"
        if done.returncode != 0:
            raise TransientError(f"DVC's remote could not be reached: {said}")
        return json.loads(done.stdout)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def without_passwords(text: str) -> str:
    """What a program said, without user names and passwords in addresses and without keys in queries."""
    text = re.sub(r"://[^/@\s]+@", "://", text)
    return re.sub(r"(?i)((?:secret|token|password|key|signature)[\w-]*=)[^&\s]+", r"\1…", text)
