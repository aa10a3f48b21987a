"""Another repository's DVC settings: an address that leads inside must not be followed, an honest one must be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.dvc_config import followed_config
from llmops_core.errors import InputError


def config(**fields: str) -> bytes:
    lines = "".join(f"    {key} = {value}\n" for key, value in fields.items())
    return f"[core]\n    remote = store\n['remote \"store\"']\n{lines}".encode()


def test_an_honest_remote_was_not_followed() -> None:
    given = config(url="s3://team-data/dvc", endpointurl="https://object.example.com", region="eu-central-1")
    assert followed_config(given, (), here=False) == given.decode()
    assert "https://data.example.com/dvc" in followed_config(config(url="https://data.example.com/dvc"), (), here=False)
    inner = config(url="s3://team/dvc", endpointurl="http://minio:9000")
    assert "minio" in followed_config(inner, ("minio:9000",), here=False)


def test_a_comment_behind_an_address_was_taken_for_a_part_of_it() -> None:
    given = (
        b"[core]\n    remote = store  # the team's\n['remote \"store\"']\n    url = s3://team-data/dvc # since 2025\n"
    )
    found = followed_config(given, (), here=False)
    assert found == "[core]\n    remote = store\n['remote \"store\"']\n    url = s3://team-data/dvc\n"


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "/srv/another-team/cache"},
        {"url": "file:///srv/another-team/cache"},
        {"url": "../../../etc"},
        {"url": "http://169.254.169.254/latest/meta-data"},
        {"url": "https://localhost:8443/x"},
        {"url": "ssh://git@inner.example.com/data"},
        {"url": "remote://other/path"},
        {"url": "s3://team/dvc", "endpointurl": "http://10.0.0.7:9000"},
        {"url": "s3://team/dvc", "endpointurl": "http://minio:9000"},
        {"url": "s3://team/../other"},
        {"url": "s3://team/dvc", "region": "x; rm"},
        {"endpointurl": "https://object.example.com"},
    ],
)
def test_an_address_inside_was_followed(fields: dict[str, str]) -> None:
    with pytest.raises(InputError, match="remote store"):
        followed_config(config(**fields), (), here=False)


def test_a_folder_beside_a_repository_of_this_machine_was_refused() -> None:
    assert "/srv/data" in followed_config(config(url="/srv/data"), (), here=True)


@pytest.mark.parametrize("field", ["credentialpath", "configpath", "profile", "ssl_verify", "keyfile", "access_key_id"])
def test_a_field_that_reads_this_machine_was_handed_to_dvc(field: str) -> None:
    assert field not in followed_config(config(url="s3://team/dvc", **{field: "/etc/passwd"}), (), here=False)


def test_another_cache_or_state_folder_was_handed_to_dvc() -> None:
    given = config(url="s3://team/dvc") + b"[cache]\n    dir = /srv/another-team\n[core.x]\n    site_cache_dir = /etc\n"
    assert "another-team" not in followed_config(given, (), here=False)
    assert "site_cache_dir" not in followed_config(given, (), here=False)


def test_no_config_at_all_was_an_error() -> None:
    assert followed_config(b"", (), here=False).strip() == ""


@given(st.binary(max_size=300) | st.text("[]'\"=remote store\n url/:.#", max_size=120).map(str.encode))
def test_odd_bytes_crashed(content: bytes) -> None:
    try:
        followed_config(content, (), here=False)
    except InputError as error:
        assert error.problems
