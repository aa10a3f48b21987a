"""Addresses that an input may name: parsed strictly, and never one that leads inside.

A `model.yaml` comes from whoever may push a branch, but the platform dereferences it with the platform's network and
rights. So an endpoint is https to a public host, unless the environment's settings list `host` or `host:port` under
`allowed_endpoints`; then http is allowed too. The addresses of cloud metadata services are refused even then.

Only the text is judged here: no name is resolved. Parsers that disagree about one text are how such checks are evaded,
so everything outside the plainest form is refused: user information, backslashes, percent signs, non-ASCII hosts, and
every host that ends in a number but is no canonical dotted quad (2130706433, 0x7f.1, 0177.0.0.1, 127.1). A public name
that resolves to a private address passes here; the door that connects must look at the address it connects to.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

_ENDPOINT = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[A-Za-z0-9._~/-]*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:(?P<port>[1-9][0-9]{0,4}))?")
_HOST_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]*[a-z0-9](\.[a-z0-9][a-z0-9-]*[a-z0-9])*")
_S3 = re.compile(r"s3://(?P<bucket>[^/]+)(/(?P<prefix>[A-Za-z0-9._=+~@/-]*))?")

# CoreWeave's stores know a bucket by the host's name alone; others that are not AWS (MinIO, Ceph) by the path at first
_BUCKET_IN_HOST = (".cwobject.com", ".cwlota.com")
_METADATA_HOSTS = {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}
_METADATA_ADDRESSES = {
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200")
} | {ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("fd20:ce::254")}
_INSIDE_SUFFIXES = (
    *("localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa"),
    *("svc", "cluster.local", "test", "invalid", "onion"),
)
# IPv6 ranges that carry another address inside: compatible, mapped, NAT64, 6to4, Teredo; and the old site-local one.
_WRAPPING = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "fec0::/10")
)


class UnsafeUri(ValueError):
    """Why an address is refused, as a sentence that also says what to write instead."""


@dataclass(frozen=True)
class Endpoint:
    """A parsed http(s) address. `host` has no brackets; `port` is None where the text names none."""

    scheme: str
    host: str
    port: int | None
    path: str

    def is_listed(self, allowed_endpoints: Collection[str]) -> bool:
        """Whether the settings list this host, for every port or for this one."""
        host = _written(self.host)
        port = self.port or (443 if self.scheme == "https" else 80)
        return host in allowed_endpoints or f"{host}:{port}" in allowed_endpoints


@dataclass(frozen=True)
class S3Location:
    bucket: str
    prefix: str


def parse_endpoint(text: str) -> Endpoint:
    """The parts of `https://host[:port][/path]`. Raises UnsafeUri for every other form."""
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        raise UnsafeUri("it is no plain address; write https://host or https://host:port/path, without ? # % or spaces")
    if match["scheme"] not in ("http", "https"):
        raise UnsafeUri(f"the scheme {match['scheme']} is not allowed; use https")
    if "@" in match["authority"]:
        raise UnsafeUri("it holds a user name or password; remove it and give the secret by reference")
    host, port = _parse_authority(match["authority"])
    path = match["path"] or ""
    if any(part in (".", "..") for part in path.split("/")):
        raise UnsafeUri("its path holds . or ..; write the path out")
    return Endpoint(match["scheme"], host, port, path)


def check_endpoint(text: str, allowed_endpoints: Collection[str] = ()) -> Endpoint:
    """The endpoint, if the platform may connect to it. Raises UnsafeUri."""
    endpoint = parse_endpoint(text)
    if _is_metadata(endpoint.host):
        raise UnsafeUri("it is the address of a cloud's metadata service, which hands out credentials")
    if endpoint.is_listed(allowed_endpoints):
        return endpoint
    if inside := why_inside(endpoint.host):
        raise UnsafeUri(f"{inside}; use a public host, or list it in allowed_endpoints of the environment's settings")
    if endpoint.scheme != "https":
        raise UnsafeUri("it is not encrypted; use https, or list it in allowed_endpoints of the environment's settings")
    return endpoint


def parse_listed_endpoint(text: str) -> str:
    """A `host` or `host:port` for allowed_endpoints, in the form that `is_listed` compares. Raises UnsafeUri."""
    host, port = _parse_authority(text)
    if _is_metadata(host):
        raise UnsafeUri("the address of a cloud's metadata service cannot be allowed")
    return _written(host) + (f":{port}" if port else "")


def parse_s3(text: str) -> S3Location:
    """The bucket and prefix of `s3://bucket/prefix`, the prefix without a slash at its end. Raises UnsafeUri."""
    match = _S3.fullmatch(text)
    if match is None:
        raise UnsafeUri("it is no plain S3 address; write s3://bucket/prefix, without ? # % or spaces")
    bucket, prefix = match["bucket"], (match["prefix"] or "").removesuffix("/")
    if not 3 <= len(bucket) <= 63 or _BUCKET.fullmatch(bucket) is None or _as_address(bucket) is not None:
        raise UnsafeUri("its bucket is no bucket name: 3 to 63 characters of a-z, 0-9, hyphen and dot, no IP address")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise UnsafeUri("its prefix holds an empty part, . or ..; write the prefix out")
    return S3Location(bucket, prefix)


def addressing_style(endpoint: str | None) -> Literal["virtual", "auto"]:
    """How requests to a store name a bucket, as botocore's `s3: {addressing_style: …}` says it: in the host's name, or
    as botocore does it by itself, which is the host's name for AWS (None) and the path for everybody else."""
    host = urlsplit(endpoint or "").hostname or ""
    return "virtual" if f".{host}".endswith(_BUCKET_IN_HOST) else "auto"


def why_inside(host: str) -> str | None:
    """Why `host` (from `parse_endpoint`) leads to a machine, a private network or nowhere; None for a public host."""
    address = _as_address(host)
    if address is not None:
        return None if _is_public(address) else "it is an address inside: private, loopback, link-local or reserved"
    if "." not in host:
        return "it is a name without a domain, which only an inner network resolves"
    if any(host == suffix or host.endswith(f".{suffix}") for suffix in _INSIDE_SUFFIXES):
        return "it is a name that only an inner network or this machine resolves"
    return None


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parse_authority(authority: str) -> tuple[str, int | None]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise UnsafeUri("its host is malformed; write a lower-case ASCII name or an IP address, then an optional :port")
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        raise UnsafeUri("its port is above 65535")
    return _parse_host(match["host"]), port


def _parse_host(text: str) -> str:
    if text.startswith("["):
        try:
            return ipaddress.IPv6Address(text[1:-1]).compressed
        except ValueError as error:
            raise UnsafeUri("its host is no IPv6 address") from error
    labels = text.removesuffix(".").split(".")
    if labels[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", labels[-1]):
        if _as_address(text) is None:
            raise UnsafeUri("its host is a number that only some programs take for an IP address; write a.b.c.d")
        return text
    if len(text) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise UnsafeUri("its host is no DNS name")
    return text.removesuffix(".")


def _as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in _WRAPPING):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_metadata(host: str) -> bool:
    if host in _METADATA_HOSTS:
        return True
    address = _as_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address in _METADATA_ADDRESSES or (any(address in n for n in _WRAPPING) and inner in _METADATA_ADDRESSES)
    return address in _METADATA_ADDRESSES
