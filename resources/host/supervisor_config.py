"""supervisord's configuration as text, and the address of its socket. Pure but for the paths it is given.

supervisord expands `%` (in some values twice), globs its include patterns, and cuts values at ` ;` and ` #`. Paths are
the only foreign text that enters its files (commands live in a file of their own, see launch.py), so a home whose path
could be misread is refused.
"""

import hashlib
import os
import re
import shlex
from pathlib import Path

from llmops_core.errors import InputError, Problem

LONGEST_SOCKET_PATH = 90  # the kernel takes 107 bytes; supervisord binds a draft name with its process id first
_READABLE_PATH = re.compile(r"[\w./ +@:,=~-]+")


def refuse_unreadable(path: Path, what: str) -> None:
    if not _READABLE_PATH.fullmatch(str(path)):
        expected = "an absolute path of letters, digits, blanks and . / + @ : , = ~ _ -"
        raise InputError(Problem("environment", what, str(path), expected, "supervisord cannot read this path"))


def home_mark(home: Path) -> str:
    """What every process kept for this home carries in its environment, so that it can be found again."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def socket_path(home: Path) -> Path:
    """In the home if it fits into a socket address; otherwise in a folder in /tmp named after the home's digest.

    Not TMPDIR: a daemon and a shell with different ones would look for each other in vain.
    """
    near = home / "supervisor" / "supervisor.sock"
    if len(os.fsencode(near)) <= LONGEST_SOCKET_PATH:
        return near
    return Path("/tmp") / f"llmops-{os.geteuid()}-{home_mark(home)}" / "supervisor.sock"  # noqa: S108 (see docstring)


def daemon_text(home: Path) -> str:
    folder = home / "supervisor"
    return "\n".join(
        (
            "[supervisord]",
            f"identifier={home_mark(home)}",
            f"pidfile={folder / 'supervisord.pid'}",
            f"logfile={home / 'logs' / 'supervisord.log'}",
            "logfile_maxbytes=1MB",
            "logfile_backups=2",
            f"childlogdir={home / 'logs'}",
            "umask=077",
            "",
            "[unix_http_server]",
            f"file={socket_path(home)}",
            "chmod=0700",
            "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "",
            "[include]",
            "files=programs/*.ini",
            "",
        )
    )


def program_text(
    home: Path, name: str, launcher: list[str], program_digest: str, *, autorestart: bool, stop_wait_seconds: int
) -> str:
    """The digest makes supervisord see a change of anything in the program's own file."""
    return "\n".join(
        (
            f"[program:{name}]",
            f"command={shlex.join(launcher)}",
            f'environment=LLMOPS_PROGRAM_DIGEST="{program_digest}"',
            f"autorestart={'true' if autorestart else 'false'}",
            # Ending within a second is a failed start, tried three times more; a program that may end may end at once.
            f"startsecs={1 if autorestart else 0}",
            "startretries=3",
            f"stopwaitsecs={stop_wait_seconds}",
            "stopasgroup=true",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={home / 'logs' / f'{name}.log'}",
            "stdout_logfile_maxbytes=5MB",
            "stdout_logfile_backups=2",
            "",
        )
    )
