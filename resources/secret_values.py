"""Reading a secret that the settings name. It is read when it is needed, so that a changed file holds at once."""

from collections.abc import Mapping
from pathlib import Path

from llmops_core.errors import EnvironmentLacks
from llmops_core.platform_settings import Secret

MOST_BYTES = 65_536


def secret_value(secret: Secret, environ: Mapping[str, str]) -> str:
    """The secret, without the line's end of its file. Raises EnvironmentLacks, naming where it should be."""
    if secret.env is not None:
        value, place = environ.get(secret.env, ""), f"the variable {secret.env}"
    else:
        value, place = _read(Path(secret.file or "")), f"the file {secret.file}"
    if not value:
        raise EnvironmentLacks(f"{place} holds no secret: put it there")
    return value


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(MOST_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentLacks(f"the secret in {file} cannot be read: {type(error).__name__}") from error
