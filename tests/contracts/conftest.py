"""Real parts that are worth starting once for many tests."""

from collections.abc import Iterator

import pytest

from tests.fakes.platform import Platform, running_platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    with running_platform() as started:
        yield started
