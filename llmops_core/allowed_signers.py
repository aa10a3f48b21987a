"""Whether each line of an allowed_signers file is one that ssh-keygen(1) reads ("ALLOWED SIGNERS").

A line is `principals [options] keytype base64-key [comment]`. ssh-keygen skips a line that it cannot read, so a typing
error there shows only when a signature that should count does not. Nothing of a line but its number of words is shown:
somebody may have pasted a private key.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice

from llmops_core.errors import Problem
from llmops_core.strict_yaml import LIMIT_PROBLEMS

EXPECTED = "principals, options or none, a key type and a base64 key"
KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_TIME = r"[0-9]{8}([0-9]{4}([0-9]{2})?)?Z?"
_OPTION = rf'(cert-authority|namespaces="(\\"|[^"])+"|valid-(after|before)="{_TIME}")'
_OPTIONS = re.compile(rf"({_OPTION}(,{_OPTION})*)[ \t]+", re.IGNORECASE)
_PRINCIPALS = re.compile(r'("[^"]+"|[^\s"]+)[ \t]+')
_LENGTH_BYTES = 4


def problems_of_signers(content: bytes, file: str) -> list[Problem]:
    """One problem for each line that would be skipped, the first fifty of them."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return [Problem(file, "", "bytes that are no UTF-8", "UTF-8 text", "the file is no text; save it as UTF-8")]
    return list(islice(_problems(text, file), LIMIT_PROBLEMS))


def keys_of(text: str) -> list[str]:
    """`keytype base64-key` of each line that is read, in order, each once."""
    entries = [line.strip(" \t\r") for line in text.split("\n")]
    rests = (_rest(entry) for entry in entries if entry and not entry.startswith("#") and _fault(entry) is None)
    return list(dict.fromkeys(" ".join(rest.split()[:2]) for rest in rests))


def identities_of(text: str, namespace: str) -> frozenset[str]:
    """Who may sign for this purpose: the names of the lines that are read and are about one person alone."""
    entries = [line.strip(" \t\r") for line in text.split("\n")]
    read = [entry for entry in entries if entry and not entry.startswith("#") and _fault(entry) is None]
    names = (_one_name(entry) for entry in read if _is_for(entry, namespace))
    return frozenset(name for name in names if name)


def _one_name(entry: str) -> str:
    """Empty for several names or a pattern, which are nobody in particular."""
    principals = _PRINCIPALS.match(entry)
    name = principals[1].strip('"') if principals else ""
    return "" if re.search(r"[*?!,]", name) else name


def _is_for(entry: str, namespace: str) -> bool:
    """Whether the line's `namespaces`, patterns after ssh_config(5), let its key sign for this one."""
    principals = _PRINCIPALS.match(entry)
    options = _OPTIONS.match(entry[principals.end() :]) if principals else None
    named = re.search(r'namespaces="([^"]*)"', options[1], re.IGNORECASE) if options else None
    return named is None or any(fnmatchcase(namespace, each.strip()) for each in named[1].split(","))


def _problems(text: str, file: str) -> Iterator[Problem]:
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip(" \t\r")
        if entry and not entry.startswith("#") and (fault := _fault(entry)) is not None:
            words = len(entry.split())
            found = f"a line of {words} word{'' if words == 1 else 's'}"
            yield Problem(file, "", found, EXPECTED, f"line {number}: {fault}; correct or remove the line")


def _fault(entry: str) -> str | None:
    rest = _rest(entry)
    if not rest:
        return "it names nobody, or nothing follows the name"
    kind, key = [*rest.split(), "", ""][:2]
    if kind not in KEY_TYPES:
        return f"what follows the name is no option and no key type ({', '.join(KEY_TYPES[:2])}, …)"
    if not _is_key(kind, key):
        return f"the key is not one of type {kind}, or a part of it is missing"
    return None


def _rest(entry: str) -> str:
    """What follows the names and the options; empty where there are no names."""
    principals = _PRINCIPALS.match(entry)
    if principals is None:
        return ""
    rest = entry[principals.end() :]
    options = _OPTIONS.match(rest)
    return rest[options.end() :] if options else rest


def _is_key(kind: str, text: str) -> bool:
    """Whether these are whole fields, each behind its length (RFC 4253, 6.6), and the first one is the type."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    fields: list[bytes] = []
    while blob:
        end = _LENGTH_BYTES + int.from_bytes(blob[:_LENGTH_BYTES])
        if len(blob) < end:
            return False
        fields.append(blob[_LENGTH_BYTES:end])
        blob = blob[end:]
    return len(fields) > 1 and fields[0] == kind.encode()
