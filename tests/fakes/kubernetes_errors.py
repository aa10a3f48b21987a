"""Refusals of the Kubernetes API: a `Status` object with the code, the reason and the words of the real server."""

from typing import Any

from tests.fakes.kubernetes_kinds import Kind

Json = dict[str, Any]


class ApiError(Exception):
    """Becomes the response: `code`, the `Status` as body, `headers` beside it."""

    def __init__(
        self, code: int, reason: str, message: str, details: Json | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details
        self.headers = headers or {}

    def status(self) -> Json:
        body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": self.message}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return body | {"code": self.code}


def _of(kind: Kind, name: str, use_kind: bool = False) -> Json:
    details: Json = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    return details | {"kind": kind.kind if use_kind else kind.plural}


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.qualified} "{name}" not found', _of(kind, name))


def no_such_resource() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _of(kind, name))


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _of(kind, name))


def precondition_failed(kind: Kind, name: str, why: str) -> ApiError:
    """As `conflict`, but naming the kind instead of the resource, as deletions do."""
    message = f'Operation cannot be fulfilled on {kind.kind_qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _of(kind, name, use_kind=True))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(kind: Kind, name: str, why: str) -> ApiError:
    subject = f'{kind.qualified} "{name}"' if name else kind.qualified
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", _of(kind, name))


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def too_many_requests(seconds: int) -> ApiError:
    message = "the server has received too many requests and has asked us to try again later"
    details = {"retryAfterSeconds": seconds}
    return ApiError(429, "TooManyRequests", message, details, {"Retry-After": str(seconds)})


def internal(message: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})


Cause = tuple[str, str, str]  # field, reason (FieldValueInvalid …), message


def invalid(kind: Kind, name: str, causes: list[Cause]) -> ApiError:
    """422 with every wrong field: `Job.batch "x" is invalid: [a: Required value, b: …]`."""
    told = [f"{field}: {message}" for field, _, message in causes]
    said = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details = _of(kind, name, use_kind=True)
    details["causes"] = [{"reason": reason, "message": message, "field": field} for field, reason, message in causes]
    return ApiError(422, "Invalid", f'{kind.kind_qualified} "{name}" is invalid: {said}', details)
