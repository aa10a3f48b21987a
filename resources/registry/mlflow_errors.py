"""MLflow's exceptions, and those of the store where its client puts files, told apart by who must act. They end at the
registry's door."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, LlmopsError, Problem, TransientError
from resources.storage.disk import disk_full
from resources.storage.object_store import ABSENT, REFUSED

Answer = TypeVar("Answer")

_RETRY = {
    "TEMPORARILY_UNAVAILABLE",
    "INTERNAL_ERROR",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "CANCELLED",
}
_DAMAGED = re.compile(r"DatabaseError|malformed|not a database|no such table|no such column", re.IGNORECASE)


@contextmanager
def mlflow_errors(doing: str) -> Iterator[None]:
    """Turns what MLflow and its database raise while `doing` something into an error of this project."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise _store_refuses(doing, code if code in REFUSED | ABSENT else "", str(error)) from error
    except Boto3Error as error:  # an upload that failed tells the code in its text alone
        refused = next((code for code in sorted(REFUSED | ABSENT) if f"({code})" in str(error)), "")
        raise _store_refuses(doing, refused, str(error)) from error
    except BotoCoreError as error:
        raise TransientError(f"{doing}: the registry's store of files could not be reached: {error}") from error
    except (MlflowException, SQLAlchemyError) as error:
        code = getattr(error, "error_code", "INTERNAL_ERROR")
        raise _translated(code, str(error).strip() or type(error).__name__, doing) from error
    except OSError as error:
        if disk_full(error):
            raise EnvironmentLacks(f"the registry cannot go on {doing}, the disk is full: free some space") from error
        raise TransientError(f"{doing}: {error}") from error


def _translated(code: str, said: str, doing: str) -> LlmopsError:
    summary = said.splitlines()[0]
    if _DAMAGED.search(said):
        return IntegrityError(f"{doing}: the registry's database is damaged: {summary}")
    if code in _RETRY:
        return TransientError(f"{doing}: the registry does not answer as it should: {summary}")
    return InputError(Problem("registry", doing, code, "what MLflow accepts", summary))


def _store_refuses(doing: str, code: str, said: str) -> LlmopsError:
    """`code` is empty for what may pass."""
    if not code:
        return TransientError(f"{doing}: the registry's store of files cannot answer: {said}")
    message = "the store of the registry's files refuses it: give the platform credentials, and rights there"
    return InputError(Problem("registry", doing, code, "a place that may be written", f"{message} ({said})"))


def or_none(read: Callable[[], Answer]) -> Answer | None:
    from mlflow.exceptions import MlflowException

    try:
        return read()
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def unless_there(create: Callable[[], object]) -> None:
    from mlflow.exceptions import MlflowException

    try:
        create()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def refuse_damaged(uri: str) -> None:
    """Raises IntegrityError for a file that is no database; MLflow would try it for two minutes."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        return  # locked for now: MLflow waits and retries
    except sqlite3.DatabaseError as error:
        raise IntegrityError(f"the registry's database {path} is damaged: {error}") from error
