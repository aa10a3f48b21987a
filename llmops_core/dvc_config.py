"""What of another repository's `.dvc/config` this platform follows: which remote is the default, and where remotes are.

That file comes from whoever may push there, and DVC would do with the platform's rights whatever it says: call inner
addresses, read any folder, take another cache, load credentials from a path. So a new file is written with the few
fields below, each address judged as those of model.yaml are, and everything else is left out. Credentials are the
platform's own, from the environment.
"""

import re
from collections.abc import Callable, Collection, Iterator
from configparser import Error, RawConfigParser

from llmops_core.errors import InputError, Problem
from llmops_core.uris import UnsafeUri, check_endpoint, parse_s3

FILE = ".dvc/config"
LONGEST_BYTES = 65_536
FIELDS = ("url", "endpointurl", "region")
FORMS = "s3://bucket/prefix, or https://host/path"
_REMOTE = re.compile(r"""['"]?remote ["']?([A-Za-z0-9][A-Za-z0-9_.-]{0,62})["']?['"]?""")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_FOLDER = re.compile(r"(file://)?/[A-Za-z0-9_./+=@-]*")


def followed_config(content: bytes, allowed_endpoints: Collection[str], here: bool) -> str:
    """The text of the config to use. `here`: the repository is on this machine, and so its remotes may be.

    Raises InputError naming every remote that the platform must not ask.
    """
    document = _parsed(content)
    problems: list[Problem] = []
    lines: list[str] = []
    for section in document.sections():
        named = _REMOTE.fullmatch(section)
        if named is None:
            continue
        given = document[section]
        fields = {key: given[key].strip("\"' ") for key in FIELDS if key in given}
        found = [
            Problem(FILE, f"remote {named[1]}: {key}", fields.get(key, ""), expected, why)
            for key, expected, why in _faults(fields, allowed_endpoints, here)
        ]
        problems += found
        lines += [f"['remote \"{named[1]}\"']", *(f"    {key} = {value}" for key, value in fields.items())]
    if problems:
        raise InputError(*problems)
    default = document.get("core", "remote", fallback="").strip("\"' ")
    core = ["[core]", f"    remote = {default}"] if _NAME.fullmatch(default) else []
    return "\n".join([*core, *lines, ""])


def _parsed(content: bytes) -> RawConfigParser:
    document = RawConfigParser(
        delimiters=("=",), comment_prefixes=("#",), inline_comment_prefixes=("#",), empty_lines_in_values=False
    )
    try:
        if len(content) > LONGEST_BYTES:
            raise ValueError(f"more than {LONGEST_BYTES} bytes")
        document.read_string(content.decode())
    except (Error, ValueError) as error:
        raise InputError(Problem(FILE, "", str(error)[:200], "DVC's settings", "it cannot be read")) from None
    return document


def _faults(fields: dict[str, str], allowed: Collection[str], here: bool) -> Iterator[tuple[str, str, str]]:
    """(field, what was expected, why it is refused)"""
    url = fields.get("url", "")
    if here and _FOLDER.fullmatch(url):
        pass
    elif url.startswith("s3://"):
        yield from _fault_of("url", "s3://bucket/prefix", lambda: parse_s3(url))
    elif url.startswith(("https://", "http://")):
        yield from _fault_of("url", "https://host/path", lambda: check_endpoint(url, allowed))
    else:
        yield "url", FORMS, "the platform does not follow such an address of another repository"
    if "endpointurl" in fields:
        yield from _fault_of("endpointurl", "https://host", lambda: check_endpoint(fields["endpointurl"], allowed))
    if "region" in fields and not _REGION.fullmatch(fields["region"]):
        yield "region", "a region, such as eu-central-1", "the region is odd"


def _fault_of(field: str, expected: str, check: Callable[[], object]) -> Iterator[tuple[str, str, str]]:
    try:
        check()
    except UnsafeUri as error:
        yield field, expected, str(error)
