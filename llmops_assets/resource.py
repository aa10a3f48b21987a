"""The platform as a Dagster resource: built when the first asset asks for it, and again when it is ruled by other
settings (a pod lives for weeks, and a commit may change them)."""

from functools import lru_cache
from pathlib import Path

from dagster import ConfigurableResource
from pydantic import Field

from llmops_core.errors import InputError
from llmops_core.outage import Reach
from resources.git.ruling_files import Followed, ruling_files
from resources.home import DEFAULT_PORT_BASE, Home, home_from
from resources.wiring import Platform, build_platform


class PlatformResource(ConfigurableResource):
    """All doors of one platform. The fields repeat `resources.home.Home`; definitions.py fills them once, and `shape`
    with what the definitions were made of (code_location.py)."""

    repository: str
    home: str
    port_base: int = DEFAULT_PORT_BASE
    environment: str = "local"
    origin: dict[str, str] = Field(default_factory=dict)
    shape: str = ""

    def open(self) -> Platform:
        home = self._home()
        ruling = ruling_files(home)
        try:
            self.refuse_broken_settings()
        except InputError:  # earlier ones rule, and which those are differs with the commit
            return _built(home, ruling.head())
        return _built(home, ruling.state(f"config/{home.environment}.yaml"))

    def refuse_broken_settings(self) -> None:
        """Raises InputError where the newest settings cannot rule, so that earlier ones do."""
        home = self._home()
        _checked(home, ruling_files(home).state(f"config/{home.environment}.yaml"))

    def fetch(self, interval_seconds: float) -> Reach:
        """Fetches the platform's own repository where it follows one, whether or not its settings can be read now."""
        ruling = ruling_files(self._home())
        return ruling.mirror.refresh(interval_seconds) if isinstance(ruling, Followed) else Reach()

    def _home(self) -> Home:
        variables = {
            "LLMOPS_REPOSITORY": self.repository,
            "LLMOPS_HOME": self.home,
            "LLMOPS_PORT_BASE": str(self.port_base),
            "LLMOPS_ENVIRONMENT": self.environment,
            **self.origin,
        }
        return home_from(variables, Path(self.repository))


@lru_cache(maxsize=4)
def _checked(home: Home, ruled_by: str) -> None:
    if home.origin is not None:
        build_platform(home, newest_only=True)


@lru_cache(maxsize=4)
def _built(home: Home, ruled_by: str) -> Platform:
    return build_platform(home)
