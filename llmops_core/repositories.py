"""The repositories that an environment watches besides the platform's own checkout, and where they are.

An address comes from the platform's owner, but Git's addresses can name programs (`ext::`), options (`-u…`) and
passwords, so only the plain forms are taken: https and ssh to a host, and a folder of this machine. A password in an
address ends in logs and in the clone's configuration; a token is named by reference instead.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from llmops_core import uris
from llmops_core.fields import Label, Strict, Text, Violation, refuse
from llmops_core.platform_settings import Secret, SecretPath

CURRENT = "HEAD"
FORMS = "https://host/project.git, ssh://git@host/project.git, git@host:project.git or file:///folder"
_USER, _HOST, _PATH = r"[a-z_][a-z0-9_.-]*", r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", r"[A-Za-z0-9_.~+/-]*"
_SSH = re.compile(rf"ssh://({_USER}@)?{_HOST}(:[1-9][0-9]{{0,4}})?/(?P<path>{_PATH})")
_SHORT_SSH = re.compile(rf"{_USER}@{_HOST}:(?P<path>[A-Za-z0-9_.~/]{_PATH})")
_FILE = re.compile(r"file://(?P<path>/[A-Za-z0-9_.@+/-]+)")


def _fault_of_branch(text: str) -> str | None:
    """Git's own rules for names of branches (git check-ref-format) that the pattern does not say."""
    if ".." in text or "//" in text or text.endswith(("/", ".", ".lock")) or re.search(r"/\.|\.lock/", text):
        return "Git allows no branch of this name"
    return None


def _address(text: str, info: ValidationInfo) -> str:
    context: dict[str, frozenset[str]] = info.context or {}
    if fault := _fault_of_address(text, context.get("allowed_endpoints", frozenset())):
        raise PydanticCustomError(
            "text", "{message}", {"message": f"the address is refused: {fault}", "expected": FORMS}
        )
    return text


def _fault_of_address(text: str, allowed_endpoints: frozenset[str]) -> str | None:
    if re.match(r"[^/@]*(//)?[^/@]*:[^/@]*@", text):
        return "it holds a password; name the secret in `token` instead"
    if text.startswith(("https:", "http:")):
        try:
            uris.check_endpoint(text, allowed_endpoints)
        except uris.UnsafeUri as error:
            return str(error)
        return None
    match = _SSH.fullmatch(text) or _SHORT_SSH.fullmatch(text) or _FILE.fullmatch(text)
    if match is None:
        return "it has none of the forms that are read"
    if any(part in (".", "..") for part in match["path"].split("/")):
        return "its path holds . or ..; write the path out"
    return None


Branch = Annotated[
    str, Text(r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", "the name of a branch, such as main", 200, _fault_of_branch)
]
GitAddress = Annotated[str, Field(min_length=8, max_length=1024), AfterValidator(_address)]
User = Annotated[str, Text(r"^[A-Za-z0-9][A-Za-z0-9_.+@-]*$", "a user name, such as gitlab+deploy-token-1", 128)]


class WatchedRepository(Strict):
    """A repository whose commits release models here."""

    name: Label = Field(description="What it is called here; its sensor is repository_<name>.")
    url: GitAddress = Field(description=f"Where it is: {FORMS}.")
    branch: Branch | None = Field(default=None, description="The branch to watch; the environment's if absent.")
    token: Secret | None = Field(default=None, description="Where the access token is read, for https.")
    user: User = Field(
        default="x-access-token", description="The user of the token, where the host wants a certain one."
    )
    ssh_key: SecretPath | None = Field(default=None, description="The file with the private key, for ssh.")

    @property
    def scheme(self) -> str:
        """https, http, file or ssh."""
        return urlsplit(self.url).scheme if "://" in self.url else "ssh"

    @property
    def sensor(self) -> str:
        return f"repository_{re.sub('[-.]', '_', self.name)}"

    @model_validator(mode="after")
    def _secret_fits(self) -> Self:
        if self.token is not None and self.scheme not in ("https", "http"):
            message = f"{self.scheme} takes no token; remove it"
            refuse([Violation(("token",), "a token", "no such field without https", message)])
        if self.ssh_key is not None and self.scheme != "ssh":
            message = f"{self.scheme} takes no key; remove it"
            refuse([Violation(("ssh_key",), self.ssh_key, "no such field without ssh", message)])
        return self


def violations(repositories: Sequence[WatchedRepository], branch: str) -> Iterator[Violation]:
    """What is wrong with the list of an environment that follows `branch`."""
    for index, repository in enumerate(repositories):
        at = ("repositories", index)
        if (repository.branch or branch) == CURRENT:
            message = f"{CURRENT} is what somebody checked out, and nobody checks out a mirror; name a branch"
            yield Violation((*at, "branch"), repository.branch, "the name of a branch, such as main", message)
        if repository.sensor in {other.sensor for other in repositories[:index]}:
            message = f"another repository has the sensor {repository.sensor} too; rename one"
            yield Violation((*at, "name"), repository.name, "a name of its own", message)
