import base64
import json

import pytest

from llmops_core.errors import TransientError
from resources.cluster.image_registry import Image, WhoAsks, has_image, login_in, parse_image
from tests.fakes.image_registry import image_registry
from tests.fakes.ports import free_port


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("busybox", Image("registry-1.docker.io", "library/busybox", "latest")),
        ("docker.io/library/python:3.11", Image("registry-1.docker.io", "library/python", "3.11")),
        ("grafana/grafana:1", Image("registry-1.docker.io", "grafana/grafana", "1")),
        ("registry.example.com:5000/a/b:1.0", Image("registry.example.com:5000", "a/b", "1.0")),
        ("r.example.com/a@sha256:" + "0" * 64, Image("r.example.com", "a", "sha256:" + "0" * 64)),
    ],
)
def test_a_short_name_was_looked_for_at_the_wrong_registry(text: str, image: Image) -> None:
    assert parse_image(text) == image


def test_an_image_that_was_never_pushed_was_called_there() -> None:
    with image_registry(free_port(), {"llmops/training:0.1.0"}) as host:
        assert has_image(parse_image(f"{host}/llmops/training:0.1.0"))
        assert not has_image(parse_image(f"{host}/llmops/training:0.2.0"))


def test_a_login_was_sent_to_another_registry_or_a_refusal_taken_for_absence() -> None:
    with image_registry(free_port(), {"llmops/training:0.1.0"}, "robot:secret") as host:
        image = parse_image(f"{host}/llmops/training:0.1.0")
        config = {"auths": {host: {"auth": base64.b64encode(b"robot:secret").decode()}}}
        assert has_image(image, login_in(json.dumps(config).encode(), host))
        for login in (None, ("robot", "wrong")):
            with pytest.raises(WhoAsks):
                has_image(image, login)
        assert login_in(json.dumps(config).encode(), "other.example.com") is None


def test_a_registry_that_is_down_was_taken_for_an_empty_one() -> None:
    with pytest.raises(TransientError):
        has_image(parse_image(f"127.0.0.1:{free_port()}/a:1"))
