"""Where one platform lives on a machine: its repository, its state folder and its ports.

Two platforms run side by side when both LLMOPS_HOME and LLMOPS_PORT_BASE differ. The environment is read where a
program starts (the command line, the code location), never on import of a library module.

In a pod nobody works in a checkout, and a commit is pushed elsewhere: LLMOPS_ORIGIN names where. The repository is then
a clone of the platform's own, which it fetches (resources/git/mirror.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from llmops_core.errors import EnvironmentLacks, InputError, Problem
from llmops_core.platform_settings import Secret
from llmops_core.repositories import FORMS, WatchedRepository

DEFAULT_PORT_BASE = 8600
PORTS_TAKEN = 60
HOST = "127.0.0.1"
# where the repository is, the branch to follow, and the file with the key (ssh) or the token (https) for it
ORIGIN_VARIABLES = ("LLMOPS_ORIGIN", "LLMOPS_BRANCH", "LLMOPS_ORIGIN_KEY", "LLMOPS_ORIGIN_TOKEN")
OWN = "own"


@dataclass(frozen=True)
class Home:
    """`root` holds all state and may be deleted as a whole; `environment` names the file in config/ that rules here.
    `origin` is where the repository is fetched from, with the branch that is followed; None for somebody's checkout."""

    repository: Path
    root: Path
    port_base: int
    environment: str = "local"
    origin: WatchedRepository | None = None

    @property
    def gateway_port(self) -> int:
        return self.port_base

    @property
    def dagster_port(self) -> int:
        return self.port_base + 1

    @property
    def mlflow_port(self) -> int:
        return self.port_base + 2

    @property
    def envoy_admin_port(self) -> int:
        return self.port_base + 3

    @property
    def code_port(self) -> int:
        return self.port_base + 4

    @property
    def intake_port(self) -> int:
        return self.port_base + 5

    @property
    def gateway_url(self) -> str:
        return f"http://{HOST}:{self.gateway_port}"

    @property
    def dagster_url(self) -> str:
        return f"http://{HOST}:{self.dagster_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{HOST}:{self.mlflow_port}"

    @property
    def intake_url(self) -> str:
        return f"http://{HOST}:{self.intake_port}"

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.root / 'ledger.db'}"

    def folder(self, name: str) -> Path:
        """A folder of the state, made if it is not there. What people asked and said lies in it: only the owner may
        look. Raises EnvironmentLacks where it cannot be made."""
        path = self.root / name
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentLacks(
                f"{path} cannot be made: {error.strerror}; choose another state folder with LLMOPS_HOME"
            ) from error
        return path

    def as_environment(self) -> dict[str, str]:
        """What a child process needs to find this platform again."""
        return {
            "LLMOPS_REPOSITORY": str(self.repository),
            "LLMOPS_HOME": str(self.root),
            "LLMOPS_PORT_BASE": str(self.port_base),
            "LLMOPS_ENVIRONMENT": self.environment,
            "DAGSTER_HOME": str(self.root / "dagster"),
            **self.origin_variables,
        }

    @property
    def origin_variables(self) -> dict[str, str]:
        """None of them holds a secret."""
        if self.origin is None:
            return {}
        token = self.origin.token.file if self.origin.token else ""
        values = (self.origin.url, self.origin.branch, self.origin.ssh_key, token)
        return {name: value for name, value in zip(ORIGIN_VARIABLES, values, strict=True) if value}


def home_from(environ: Mapping[str, str], folder: Path) -> Home:
    """The platform that these variables name; without an origin the repository is found from `folder` upwards."""
    environment = environ.get("LLMOPS_ENVIRONMENT") or "local"
    if origin := _origin(environ):
        root = Path(environ.get("LLMOPS_HOME") or "~/.llmops").expanduser().resolve()
        return Home(clone_of(root, OWN), root, _port_base(environ), environment, origin)
    named = environ.get("LLMOPS_REPOSITORY")
    repository = Path(named).resolve() if named else _repository_above(folder.resolve())
    root = Path(environ.get("LLMOPS_HOME") or repository / ".llmops").expanduser().resolve()
    return Home(repository, root, _port_base(environ), environment)


def clone_of(folder: Path, name: str) -> Path:
    """Where the platform's clone of a repository is, below the folder that is given for clones."""
    return folder / name / "clone"


def _origin(environ: Mapping[str, str]) -> WatchedRepository | None:
    """Whoever sets these variables owns the platform: an inner host is theirs to name."""
    url, branch, key, token = (environ.get(name, "") for name in ORIGIN_VARIABLES)
    if not url:
        return None
    if not branch:
        expected = "the branch that the environment follows, such as main"
        raise InputError(Problem("environment", "LLMOPS_BRANCH", "nothing", expected, "the origin has many branches"))
    given = {"name": OWN, "url": url, "branch": branch, "ssh_key": key or None}
    given["token"] = Secret(file=token) if token else None
    try:
        return WatchedRepository.model_validate(given, context={"allowed_endpoints": {urlsplit(url).netloc.lower()}})
    except ValidationError as error:
        reasons = "; ".join(each["msg"] for each in error.errors(include_url=False, include_input=False))
        expected = f"an address ({FORMS}), a branch, and the absolute path of a key (ssh) or token (https)"
        named = ", ".join(name for name in ORIGIN_VARIABLES if environ.get(name))
        raise InputError(Problem("environment", named, "what cannot be followed", expected, reasons)) from None


def _repository_above(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            return candidate
    raise EnvironmentLacks(
        f"no Git repository at {folder} or above it: every release is pinned to a commit, so run this inside a clone "
        "(or run `git init` and commit)"
    )


def _port_base(environ: Mapping[str, str]) -> int:
    text = environ.get("LLMOPS_PORT_BASE") or str(DEFAULT_PORT_BASE)
    if text.isdecimal() and 1024 <= int(text) <= 65535 - PORTS_TAKEN:
        return int(text)
    expected = f"a whole number from 1024 to {65535 - PORTS_TAKEN}"
    raise InputError(Problem("environment", "LLMOPS_PORT_BASE", text, expected, "no such port"))
