"""A model's HTTPRoute: what its definition refuses, what it misses, and what is read back from it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.errors import IntegrityError
from llmops_core.route_manifest import duration, http_route, route_name, route_of, version_of
from llmops_core.routing import Deployment, Route, Share
from llmops_core.serving_manifest import object_name
from llmops_core.serving_settings import GatewayPlace
from tests.core.kubernetes_schemas import check

PLACE = GatewayPlace.model_validate({"name": "models", "listener": "https", "url": "https://models.example.com"})


def deployment(name: str, timeout_seconds: float = 30) -> Deployment:
    return Deployment(
        name=name,
        model="llama-3.1-8b",
        version="3",
        weights_digest="d" * 64,
        host=f"{object_name(name)}.llm.svc",
        port=8000,
        timeout_seconds=timeout_seconds,
    )


OLD, NEW = deployment("llama-3.1-8b-production-v2-00000000"), deployment("llama-3.1-8b-production-v3-11111111", 0.5)


def route(*shares: tuple[Deployment, int], environment: Any = "production") -> Route:
    parts = tuple(Share(deployment=one, weight_percent=weight) for one, weight in shares)
    return Route(model="llama-3.1-8b", environment=environment, shares=parts)


CANARY = route((OLD, 90), (NEW, 10))


def made(one: Route = CANARY) -> dict[str, Any]:
    return http_route(one, PLACE, "llm")


@pytest.mark.parametrize("one", [CANARY, route((OLD, 100)), route((OLD, 100), (NEW, 0), environment="staging")])
def test_the_api_server_refused_a_route(one: Route) -> None:
    check(made(one))
    assert route_of(made(one)) == one


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(lambda weights: sum(weights) <= 100))
def test_a_weight_was_lost_on_the_way(weights: list[int]) -> None:
    weights = [*weights, 100 - sum(weights)]
    one = route(*((deployment(f"d-{number}"), weight) for number, weight in enumerate(weights)))
    assert route_of(made(one)) == one


def test_two_models_or_environments_shared_a_route() -> None:
    names = {route_name(model, place) for model in ("a.b", "a-b", "a") for place in ("staging", "production")}  # type: ignore[arg-type]
    assert len(names) == 6
    assert version_of(CANARY) != version_of(route((OLD, 89), (NEW, 11)))


def test_staging_was_reached_by_productions_path() -> None:
    for environment, base in (("production", "/models/llama-3.1-8b/"), ("staging", "/staging/models/llama-3.1-8b/")):
        rules = made(route((OLD, 100), environment=environment))["spec"]["rules"]
        assert all(match["path"]["value"].startswith(base) for rule in rules for match in rule["matches"])


def test_an_answer_did_not_say_whose_it_is() -> None:
    for rule in made()["spec"]["rules"][1:]:
        told = [ref["filters"][0]["responseHeaderModifier"]["set"] for ref in rule["backendRefs"]]
        assert [{header["name"]: header["value"] for header in each} for each in told] == [
            {
                "x-llmops-model": one.model,
                "x-llmops-version": one.version,
                "x-llmops-weights-digest": one.weights_digest,
            }
            for one in (OLD, NEW)
        ]


def test_the_gateway_gave_up_before_the_pod() -> None:
    (request,) = [rule["timeouts"]["request"] for rule in made()["spec"]["rules"] if "timeouts" in rule]
    assert request == "31s"
    assert (duration(0.5), duration(1.5), duration(3601)) == ("0s500ms", "1s500ms", "3601s")


def test_routes_that_a_hand_changed_were_believed() -> None:
    edited = made()
    edited["spec"]["rules"][2]["backendRefs"][0]["weight"] = 50
    edited["spec"]["rules"][2]["backendRefs"][1]["weight"] = 50
    assert [share.weight_percent for share in route_of(edited).shares] == [50, 50], "what rules is in the rules"
    for spoil in (_stranger, _over, _wordless, _empty):
        spoilt = copy.deepcopy(made())
        spoil(spoilt)
        with pytest.raises(IntegrityError, match="not as this platform wrote it"):
            route_of(spoilt)


def _stranger(found: dict[str, Any]) -> None:
    found["spec"]["rules"][2]["backendRefs"][0]["name"] = "somebody-else"


def _over(found: dict[str, Any]) -> None:
    found["spec"]["rules"][2]["backendRefs"][0]["weight"] = 91


def _wordless(found: dict[str, Any]) -> None:
    del found["metadata"]["annotations"]


def _empty(found: dict[str, Any]) -> None:
    found["spec"]["rules"] = []
