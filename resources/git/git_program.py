"""The git program, which speaks to other machines: with no question, no hook, no other protocol, and no secret on disk.

A token goes to git in variables that stand for configuration, so that it is in no argument, no file and no address;
what git says is searched for every form of it before anybody reads it. A redirection is not followed, since git would
send the token along. Of the caller's own GIT_ variables only those remain that say which certificates and which
configuration count.
"""

import base64
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from llmops_core.errors import EnvironmentLacks, TransientError
from llmops_core.repositories import WatchedRepository
from resources.secret_values import secret_value

LIMIT_SECONDS = 1800.0
LONGEST_SAID = 400
_INHERITED = re.compile(r"GIT_(SSL_.*|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)|EXEC_PATH)")
_URL_SAFE = str.maketrans("+/", "-_")
_SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=15 -o ServerAliveInterval=15"


class GitProgram:
    """git for one repository outside. Its secret is read anew at each call, so that it may change."""

    def __init__(self, repository: WatchedRepository, environ: Mapping[str, str] = os.environ) -> None:
        self._repository = repository
        self._environ = environ

    def run(self, *arguments: str | Path, lock: int | None = None) -> None:
        """Runs git; it inherits `lock`, a descriptor. Raises GitFailed with what it said, EnvironmentLacks without git
        or secret."""
        token = self._token()
        process = self._start(arguments, self._variables(token), lock)
        try:
            _, said = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # git's own children too
            process.communicate()
            raise GitFailed(f"git took more than {LIMIT_SECONDS:.0f} s") from None
        if process.returncode != 0:
            said = _without(_forms(self._repository.user, token), said)
            raise GitFailed(_reason(said) or f"git ended with status {process.returncode}")

    def _start(
        self, arguments: tuple[str | Path, ...], variables: dict[str, str], lock: int | None
    ) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                ["git", *map(str, arguments)],
                env=variables,
                pass_fds=() if lock is None else (lock,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError:
            raise EnvironmentLacks("git is not installed, or not in PATH") from None

    def _variables(self, token: str) -> dict[str, str]:
        kept = {k: v for k, v in self._environ.items() if not k.startswith("GIT_") or _INHERITED.fullmatch(k)}
        settings = self._settings(token)
        given = {"GIT_CONFIG_COUNT": str(len(settings))}
        for number, (name, value) in enumerate(settings.items()):
            given |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return kept | given | self._silence()

    def _settings(self, token: str) -> dict[str, str]:
        settings = {
            "protocol.allow": "never",
            f"protocol.{self._repository.scheme}.allow": "always",
            "core.hooksPath": os.devnull,
            "credential.helper": "",
            "http.followRedirects": "false",
            "http.lowSpeedLimit": "1",
            "http.lowSpeedTime": "60",
            # what was released stays readable when a force push takes it out of the history
            "core.logAllRefUpdates": "always",
            "gc.reflogExpire": "never",
            "gc.reflogExpireUnreachable": "never",
            "gc.pruneExpire": "never",
            "gc.autoDetach": "false",
        }
        if token:
            said = _encoded(f"{self._repository.user}:{token}")
            settings[f"http.{self._repository.url}.extraHeader"] = f"Authorization: Basic {said}"
        return settings

    def _silence(self) -> dict[str, str]:
        """Nobody is asked anything, and answers are in English, since one of them is looked for."""
        key = self._repository.ssh_key
        if key and not Path(key).is_file():
            raise EnvironmentLacks(f"the key of {self._repository.name} is not there: {key}")
        ssh = f"{_SSH} -o IdentitiesOnly=yes -i {key}" if key else _SSH
        quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "GIT_SSH_COMMAND": ssh, "GIT_SSH_VARIANT": "ssh"}
        return quiet | {"LC_ALL": "C", "LANGUAGE": ""}

    def _token(self) -> str:
        reference = self._repository.token
        return secret_value(reference, self._environ) if reference else ""


class GitFailed(TransientError):
    """Retry: git ended badly. The message is what it said, without secrets."""


def _reason(said: str) -> str:
    """The lines that say what went wrong, on one line. A server's own text is in them: only plain characters stay."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if re.match(r"(fatal|error|remote|ssh|!|Permission|Host key)", line)]
    verdicts_first = sorted(wrong, key=lambda line: not line.startswith("!"))  # a server may say much before them
    text = "; ".join(verdicts_first or lines)
    if "could not read Username" in text:
        text = "the host wants a token, or does not take this one"
    return "".join(sign for sign in text if sign.isprintable())[:LONGEST_SAID]


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _forms(user: str, token: str) -> list[str]:
    """All in which a server may send back what it was sent: the token and what the header holds, with or without its
    `=`, as text, in an address and in JSON. The longest first, so that none is cut in two."""
    if not token:
        return []
    encoded = [_encoded(text) for text in (f"{user}:{token}", token)]
    plain = [token, *encoded, *(text.translate(_URL_SAFE) for text in encoded)]
    plain += [text.rstrip("=") for text in encoded] + [text.translate(_URL_SAFE).rstrip("=") for text in encoded]
    forms = {form for text in plain for form in (text, quote(text, safe=""), text.replace("/", r"\/"))}
    return sorted(forms, key=len, reverse=True)


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "(hidden)")
    return text
