"""Addresses from inputs: no way inside, whatever the spelling; nothing that two parsers read as two things."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmops_core.uris import UnsafeUri, check_endpoint, parse_endpoint, parse_listed_endpoint, parse_s3, why_inside

INSIDE = [
    *("http://127.0.0.1", "https://127.0.0.1:8080/x", "https://10.1.2.3", "https://172.16.0.1", "https://192.168.1.1"),
    *("https://0.0.0.0", "https://100.64.0.1", "https://169.254.1.1", "https://224.0.0.1", "https://255.255.255.255"),
    *("https://198.18.0.1", "https://192.0.2.1", "https://240.0.0.1"),
    *(
        "https://[::1]",
        "https://[::]",
        "https://[fe80::1]",
        "https://[fc00::1]",
        "https://[ff02::1]",
        "https://[fec0::1]",
    ),
    *("https://[::ffff:8.8.8.8]", "https://[::ffff:7f00:1]", "https://[::127.0.0.1]", "https://[64:ff9b::7f00:1]"),
    *("https://[2002:7f00:1::]", "https://[2001:0:7f00:1::]", "https://[2001:db8::1]"),
    *("https://localhost", "https://localhost.", "https://a.localhost", "https://minio", "https://printer.local"),
    *("https://db.internal", "https://mlflow.llmops.svc", "https://x.svc.cluster.local", "https://router.home.arpa"),
]
ODD = [
    *("2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.0.1.", "1.2.3.4.5", "256.1.1.1", "0x"),
    *("[::1%eth0]", "[fe80::1%25eth0]", "[1.2.3.4]", "[", "::1", "user@example.com", "example.com@127.0.0.1"),
    *("user:pw@example.com", "example.com:0", "example.com:99999", "example.com:", "example.com:80:80", "exam ple.com"),
    *(
        "example.com\\@127.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "ｅxample.com",
        "EXAMPLE.com",
        "%31%32%37.0.0.1",
        "a..com",
    ),
    *("-a.com", "a-.com", "a" * 64 + ".com", ".com", "", "example.com\n", "example.com\t", "example.com\r\nHost: x"),
    *("example.com?x", "example.com#x", "example.com/a?b", "example.com/a/../b", "example.com/%2e%2e", "a.com;b.com"),
]
METADATA = [
    *("http://169.254.169.254", "https://169.254.170.2", "https://[fd00:ec2::254]", "https://metadata.google.internal"),
    *("http://[::ffff:169.254.169.254]", "https://[64:ff9b::a9fe:a9fe]", "https://metadata", "https://168.63.129.16"),
]


@pytest.mark.parametrize("text", INSIDE)
def test_an_inner_address_is_refused_unless_listed(text):
    with pytest.raises(UnsafeUri, match="allowed_endpoints"):
        check_endpoint(text)
    endpoint = parse_endpoint(text)
    written = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    assert check_endpoint(text, {parse_listed_endpoint(written)}) == endpoint


@pytest.mark.parametrize("host", ODD)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_odd_spelling_is_refused_even_if_listed(scheme, host):
    with pytest.raises(UnsafeUri):
        check_endpoint(f"{scheme}://{host}", {host, "127.0.0.1", "localhost", "example.com"})


@pytest.mark.parametrize("text", METADATA)
def test_metadata_services_are_refused_even_if_listed(text):
    host = parse_endpoint(text).host
    with pytest.raises(UnsafeUri, match="metadata"):
        check_endpoint(text, {host, f"[{host}]"})
    with pytest.raises(UnsafeUri, match="metadata"):
        parse_listed_endpoint(f"[{host}]" if ":" in host else host)


@pytest.mark.parametrize(
    "scheme", ["file", "ftp", "gopher", "git", "ssh", "s3", "data", "javascript", "HTTPS", "ht tp", "", "https:https"]
)
def test_other_schemes_are_refused(scheme):
    with pytest.raises(UnsafeUri):
        check_endpoint(f"{scheme}://example.com/x")


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("https://example.com", "example.com", None, ""),
        ("https://example.com.", "example.com", None, ""),
        ("https://s3.eu-central-1.example.com:9000/a/b-c_d.~e", "s3.eu-central-1.example.com", 9000, "/a/b-c_d.~e"),
        ("https://8.8.8.8:8443/", "8.8.8.8", 8443, "/"),
        ("https://[2606:4700:4700::1111]:443", "2606:4700:4700::1111", 443, ""),
        ("https://xn--bcher-kva.example.com", "xn--bcher-kva.example.com", None, ""),
    ],
)
def test_a_public_address_is_accepted(text, host, port, path):
    endpoint = check_endpoint(text)
    assert (endpoint.host, endpoint.port, endpoint.path) == (host, port, path)


def test_plain_http_is_only_for_listed_endpoints():
    with pytest.raises(UnsafeUri, match="not encrypted"):
        check_endpoint("http://example.com")
    assert check_endpoint("http://example.com", {"example.com:80"}).scheme == "http"
    with pytest.raises(UnsafeUri):
        check_endpoint("http://example.com:8080", {"example.com:80"})


def test_a_listed_entry_has_one_form():
    assert parse_listed_endpoint("[0:0:0::1]:9000") == "[::1]:9000"
    assert parse_listed_endpoint("minio:9000") == "minio:9000"
    for bad in ("http://minio", "minio/x", "a b", "", "u@h", "minio:0"):
        with pytest.raises(UnsafeUri):
            parse_listed_endpoint(bad)


@settings(deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9.:@\[\]%\\/x-]{0,30}", fullmatch=True))
@example("https://example.com\x00")
def test_what_is_accepted_goes_where_other_parsers_think(text):
    """Differential test with urllib: the host we judged is the host that a client would connect to."""
    try:
        endpoint = check_endpoint(text)
    except UnsafeUri as error:
        assert str(error)
        return
    parts = urlsplit(text)
    assert (parts.scheme, parts.port, parts.username, parts.query) == ("https", endpoint.port, None, "")
    assert (parts.hostname or "").removesuffix(".") == endpoint.host or ipaddress.ip_address(
        parts.hostname or ""
    ) == ipaddress.ip_address(endpoint.host)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address))
def test_no_address_that_python_calls_private_passes(address):
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert why_inside(str(address)) is not None


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [("s3://abc", "abc", ""), ("s3://my.bucket-1/a/b=c/", "my.bucket-1", "a/b=c"), ("s3://abc/", "abc", "")],
)
def test_an_s3_location_is_taken_apart(text, bucket, prefix):
    assert (parse_s3(text).bucket, parse_s3(text).prefix) == (bucket, prefix)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "s3://",
            "s3:///x",
            "s3://ab/x",
            "s3://Upper/x",
            "s3://a_b_c/x",
            "s3://1.2.3.4/x",
            "s3://abc/../x",
            "s3://abc//x",
        ),
        *(
            "s3://abc/a/./b",
            "s3://abc/x?y",
            "s3://abc/a b",
            "s3://key:secret@abc/x",
            "http://abc/x",
            "s3://abc/x\n",
            "abc",
        ),
        *("s3://-abc/x", "s3://abc-/x", "s3://a..b/x", "s3://" + "a" * 64, "S3://abc/x"),
    ],
)
def test_another_s3_form_is_refused(text):
    with pytest.raises(UnsafeUri):
        parse_s3(text)
