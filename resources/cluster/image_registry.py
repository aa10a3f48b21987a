"""Asking a registry whether it has an image, without pulling it: the registry API that all of them speak.

A registry that wants to know who asks says where a token is had; nodes get it with their pull secret, and so do we,
where somebody gives us the name and password that stand in it.
"""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urlencode

from llmops_core.errors import TransientError

SECONDS = 10
TYPES = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)


@dataclass(frozen=True)
class Image:
    """`reference` is a tag or a digest."""

    host: str
    name: str
    reference: str


class WhoAsks(Exception):
    """The registry shows this only to those who are logged in, and we were not, or not as somebody who may."""


def parse_image(text: str) -> Image:
    """Short names are Docker Hub's, as every engine reads them."""
    rest, _, digest = text.partition("@")
    first, _, others = rest.partition("/")
    host, name = (first, others) if others and re.search(r"[.:]|^localhost$", first) else ("docker.io", rest)
    name, _, tag = name.partition(":")
    if host == "docker.io":
        host, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
    return Image(host, name, digest or tag or "latest")


def has_image(image: Image, login: tuple[str, str] | None = None) -> bool:
    """Raises WhoAsks, or TransientError where the registry does not answer."""
    scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", image.host) else "https"
    address = f"{scheme}://{image.host}/v2/{image.name}/manifests/{image.reference}"
    status, headers = _head(address, {})
    if status == 401:
        given = _authorization(headers.get("www-authenticate", ""), image, login)
        status, _ = _head(address, given)
    if status in (401, 403):
        raise WhoAsks
    if status not in (200, 404):
        raise TransientError(f"{image.host} cannot answer now ({status})")
    return status == 200


def login_in(config: bytes, host: str) -> tuple[str, str] | None:
    """(name, password) for a registry in a docker config.json, such as a pull secret holds."""
    entries = json.loads(config).get("auths", {})
    known = {re.sub(r"^https?://|/.*$", "", key): value for key, value in entries.items()}
    entry = known.get(host) or (known.get("index.docker.io") if host == "registry-1.docker.io" else None)
    if not entry:
        return None
    if "auth" in entry:
        name, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return name, password
    return entry.get("username", ""), entry.get("password", "")


def _authorization(challenge: str, image: Image, login: tuple[str, str] | None) -> dict[str, str]:
    basic = {}
    if login is not None:
        basic = {"Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode()}
    told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.lower().startswith("bearer") or "realm" not in told:
        return basic
    query = urlencode({"service": told.get("service", ""), "scope": f"repository:{image.name}:pull"})
    answer = _token(f"{told['realm']}?{query}", basic)
    return {"Authorization": f"Bearer {answer}"} if answer else {}


def _token(address: str, headers: Mapping[str, str]) -> str:
    request = urllib.request.Request(address, headers=dict(headers))  # noqa: S310 -- the registry of the settings
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            answer = json.load(response)
            return str(answer.get("token") or answer.get("access_token") or "")
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        raise TransientError(f"no token was had ({type(error).__name__})") from None


def _head(address: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
    request = urllib.request.Request(address, headers={"Accept": TYPES, **headers}, method="HEAD")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            return response.status, _lowered(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, _lowered(error.headers)
    except (OSError, ValueError) as error:
        raise TransientError(f"it could not be reached ({type(error).__name__})") from None


def _lowered(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
