"""Where one platform lives on a machine: its repository, its state folder and its ports.

Two platforms run side by side when both LLMOPS_HOME and LLMOPS_PORT_BASE differ. The environment is read where a
program starts (the command line, the code location), never on import of a library module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops_core.errors import EnvironmentLacks, InputError, Problem

DEFAULT_PORT_BASE = 8600
PORTS_TAKEN = 60
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Home:
    """`root` holds all state and may be deleted as a whole; `environment` names the file in config/ that rules here."""

    repository: Path
    root: Path
    port_base: int
    environment: str = "local"

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
        }


def home_from(environ: Mapping[str, str], folder: Path) -> Home:
    """The platform that these variables name; the repository is found from `folder` upwards."""
    named = environ.get("LLMOPS_REPOSITORY")
    repository = Path(named).resolve() if named else _repository_above(folder.resolve())
    root = Path(environ.get("LLMOPS_HOME") or repository / ".llmops").expanduser().resolve()
    return Home(repository, root, _port_base(environ), environ.get("LLMOPS_ENVIRONMENT") or "local")


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
