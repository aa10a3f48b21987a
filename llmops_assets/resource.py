"""The platform as a Dagster resource: built once in each process, when the first asset asks for it."""

from functools import lru_cache
from pathlib import Path

from dagster import ConfigurableResource

from resources.home import DEFAULT_PORT_BASE, Home, home_from
from resources.wiring import Platform, build_platform


class PlatformResource(ConfigurableResource):
    """All doors of one platform. The fields repeat `resources.home.Home`; definitions.py fills them once."""

    repository: str
    home: str
    port_base: int = DEFAULT_PORT_BASE
    environment: str = "local"

    def open(self) -> Platform:
        variables = {
            "LLMOPS_REPOSITORY": self.repository,
            "LLMOPS_HOME": self.home,
            "LLMOPS_PORT_BASE": str(self.port_base),
            "LLMOPS_ENVIRONMENT": self.environment,
        }
        return _built(home_from(variables, Path(self.repository)))


@lru_cache(maxsize=4)
def _built(home: Home) -> Platform:
    return build_platform(home)
