"""How this project speaks to an S3-compatible store: one client, and each answer of it in our words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from llmops_core.errors import InputError, LlmopsError, Problem, TransientError
from llmops_core.uris import addressing_style

Result = TypeVar("Result")

REFUSED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401"}
ABSENT = {"NoSuchBucket", "NoSuchKey", "404"}


@dataclass(frozen=True)
class NamedPlace:
    """An address that the field `field` of `file` names; `endpoint` is None for AWS."""

    file: str
    field: str
    uri: str
    endpoint: str | None = None
    region: str | None = None

    def client(self, credentials: bool = True) -> Any:
        """Requests are signed only where `credentials` says so. Nothing is retried here."""
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        signing = None if credentials else UNSIGNED
        attempts = {"total_max_attempts": 1}
        style = {"addressing_style": addressing_style(self.endpoint)}
        config = Config(signature_version=signing, retries=attempts, connect_timeout=10, read_timeout=60, s3=style)
        # a session of its own: the shared one would keep credentials that were rotated since
        session = boto3.Session(region_name=self.region)
        return session.client("s3", endpoint_url=self.endpoint, config=config)

    def asked(self, action: Callable[[], Result]) -> Result:
        """Do it. Raises InputError for what a person must mend, ChangedMeanwhile, or TransientError."""
        from botocore import exceptions

        try:
            return action()
        except exceptions.ClientError as error:
            answer = error.response.get("Error", {})
            raise self._meaning(str(answer.get("Code", "")), error) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
            raise self._meaning("403", None) from None
        except exceptions.BotoCoreError as error:
            raise TransientError(f"{self.endpoint or 'S3'} could not be reached ({type(error).__name__})") from None

    def _meaning(self, code: str, error: Any) -> LlmopsError:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if error else 403
        if code in REFUSED:
            message = f"the store refuses access ({code}); give the platform credentials for it in the AWS chain"
            return InputError(Problem(self.file, self.field, self.uri, "a folder that may be read", message))
        if code in ABSENT:
            return NotThere(Problem(self.file, self.field, self.uri, "a folder there", f"it is not there ({code})"))
        if code == "PreconditionFailed":
            return ChangedMeanwhile(f"{self.uri} was changed while it was read")
        if status == 429 or status >= 500 or code == "SlowDown":
            return TransientError(f"{self.endpoint or 'S3'} cannot answer now ({code})")
        message = f"the store refuses the request ({code})"
        return InputError(Problem(self.file, self.field, self.uri, "a folder there", message))


class NotThere(InputError):
    """Fix: the store has no such bucket or object."""


class ChangedMeanwhile(TransientError):
    """Retry: an object is not the one that was listed."""
