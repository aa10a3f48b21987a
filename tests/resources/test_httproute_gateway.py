"""Routes of a cluster: what several processes do to them at one moment, and what a gateway that does not follow is
told as."""

import threading
from collections.abc import Callable, Iterator

import pytest

from llmops_core.errors import GateRefused, IntegrityError, TransientError
from llmops_core.route_manifest import base_path, route_name
from llmops_core.routing import Deployment, RouteTable
from resources.traffic.httproute_gateway import HttpRouteGateway
from tests.fakes.platform import deployment, route, table
from tests.fakes.serving_clusters import NAMESPACE, ServingCluster, serving_cluster

MODEL = "llama-3.1"
NAME = route_name(MODEL, "production")


def server(version: int) -> Deployment:
    return deployment(f"{MODEL}-production-v{version}", 8000, MODEL)


OLD, NEW = server(1), server(2)


@pytest.fixture
def cluster() -> Iterator[ServingCluster]:
    with serving_cluster() as made:
        yield made


def gateway(cluster: ServingCluster, limit_seconds: float = 10) -> HttpRouteGateway:
    return HttpRouteGateway(cluster.place, cluster.client(), limit_seconds)


def meanwhile(
    act: Callable[[], object], change: Callable[[RouteTable], RouteTable]
) -> Callable[[RouteTable], RouteTable]:
    """The change, with what somebody else does between reading and writing, once."""
    done: list[bool] = []

    def changed(found: RouteTable) -> RouteTable:
        made = change(found)
        if not done:
            done.append(True)
            act()
        return made

    return changed


def test_a_change_overwrote_what_somebody_else_changed_meanwhile(cluster: ServingCluster) -> None:
    mine, other = gateway(cluster), gateway(cluster)
    mine.apply(table(route((OLD, 100))))

    def canary(found: RouteTable) -> RouteTable:
        """Adds ten percent for the new one to whatever serves."""
        now = found.route(MODEL, "production")
        assert now is not None
        return found.with_route(route((now.shares[0].deployment, 90), (NEW, 10)))

    rolled_back = table(route((server(7), 100)))
    found = mine.revise(meanwhile(lambda: other.apply(rolled_back), canary))
    assert [share.deployment.name for share in found.routes[0].shares] == [server(7).name, NEW.name]
    assert mine.current() == found


def test_a_route_that_somebody_else_made_was_asked_for_again_and_again(cluster: ServingCluster) -> None:
    mine = gateway(cluster)
    mine.apply(table(route((OLD, 100))))
    (found,) = cluster.api.objects("httproutes", NAMESPACE)
    theirs = {**found, "metadata": {**found["metadata"], "labels": {"app": "theirs"}}}
    cluster.api.store.put(cluster.api._kind("httproutes"), theirs)
    with pytest.raises(IntegrityError, match=rf"httproutes {NAME} is there, .*look who made it"):
        mine.apply(table(route((NEW, 100))))


def test_a_retirement_lost_against_a_release_that_had_begun(cluster: ServingCluster) -> None:
    """The permit is asked again when a route was made that did not exist: a deleted one has no version to compare."""
    retired: list[bool] = []

    def permitted(found: RouteTable) -> RouteTable:
        if retired:
            raise GateRefused("retirement", "a person ended the model")
        return found.with_route(route((OLD, 100)))

    mine = gateway(cluster)
    with pytest.raises(GateRefused, match="ended the model"):
        mine.revise(meanwhile(lambda: retired.append(True), permitted))
    assert mine.current() == RouteTable() and cluster.api.objects("httproutes", NAMESPACE) == []


def test_a_retirement_of_what_serves_was_undone(cluster: ServingCluster) -> None:
    mine, other = gateway(cluster), gateway(cluster)
    mine.apply(table(route((OLD, 100))))
    retired: list[bool] = []

    def retire() -> None:
        retired.append(True)
        other.apply(RouteTable())

    def permitted(found: RouteTable) -> RouteTable:
        if retired:
            raise GateRefused("retirement", "a person ended the model")
        return found.with_route(route((NEW, 100)))

    with pytest.raises(GateRefused):
        mine.revise(meanwhile(retire, permitted))
    assert mine.current() == RouteTable()


def test_an_answer_that_was_lost_let_a_retired_model_through(cluster: ServingCluster) -> None:
    retired: list[bool] = []

    def permitted(found: RouteTable) -> RouteTable:
        if retired:
            raise GateRefused("retirement", "a person ended the model")
        return found.with_route(route((OLD, 100)))

    cluster.api.faults.lose_answer(verb="create", resource="httproutes")
    with pytest.raises(GateRefused):
        gateway(cluster).revise(meanwhile(lambda: retired.append(True), permitted))
    assert cluster.api.objects("httproutes", NAMESPACE) == []
    cluster.api.faults.lose_answer(verb="create", resource="httproutes")
    gateway(cluster).apply(table(route((OLD, 100))))


def test_canaries_of_one_model_by_many_workers_left_a_mixture(cluster: ServingCluster) -> None:
    wanted = [table(route((OLD, 100 - weight), (NEW, weight))) for weight in (1, 10, 25, 50, 75, 99)]
    threads = [threading.Thread(target=gateway(cluster).apply, args=(each,)) for each in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gateway(cluster).current() in wanted


def test_a_route_that_the_gateway_refuses_ruled_or_left_none(cluster: ServingCluster) -> None:
    mine = gateway(cluster)
    before = mine.revise(lambda _: table(route((OLD, 100))))
    cluster.played.refused.add(NAME)
    with pytest.raises(IntegrityError, match=r"refuses the HTTPRoute .*Accepted is False: UnsupportedValue: played"):
        mine.apply(table(route((NEW, 100))))
    assert mine.current() == before
    cluster.played.refused.add(route_name("other", "production"))
    with pytest.raises(IntegrityError):
        mine.revise(lambda found: found.with_route(route((deployment("other-v1", 1, "other"), 100))))
    assert mine.current() == before


def test_a_gateway_that_does_not_look_was_called_in_force(cluster: ServingCluster) -> None:
    cluster.played.blind = True
    with pytest.raises(TransientError, match="no controller of the Gateway models has looked at it"):
        gateway(cluster, 0.2).apply(table(route((OLD, 100))))


def test_an_accepted_route_that_proxies_do_not_follow_yet_was_called_in_force(cluster: ServingCluster) -> None:
    mine = gateway(cluster, 0.5)
    mine.apply(table(route((OLD, 100))))
    stale = cluster.played.rule_for
    before = stale(f"{base_path(MODEL, 'production')}/route")
    cluster.played.rule_for = lambda path: before  # type: ignore[method-assign]
    with pytest.raises(TransientError, match=r"answers with /models/llama-3.1/route/\w+, and not with"):
        mine.apply(table(route((NEW, 100))))
    with pytest.raises(TransientError, match="does not forget the HTTPRoute"):
        mine.apply(RouteTable())


def test_a_route_whose_writer_died_was_called_in_force_by_the_next(cluster: ServingCluster) -> None:
    cluster.played.blind = True
    for _ in range(2):  # the second changes nothing, and must not be content with that
        mine = gateway(cluster, 0.2)
        with pytest.raises(TransientError, match="no controller"):
            mine.revise(lambda found: found.with_route(route((OLD, 100))))
            mine.confirm(MODEL, "production")
    cluster.played.blind = False
    gateway(cluster).confirm(MODEL, "production")


def test_a_gateway_that_nobody_reaches_was_believed(cluster: ServingCluster) -> None:
    mine = gateway(cluster, 0.3)
    place = cluster.place.model_copy(
        update={"gateway": cluster.place.gateway.model_copy(update={"url": "http://127.0.0.1:9"})}
    )
    mine._place = place
    with pytest.raises(TransientError, match=r"answers with nothing \(.*refused"):
        mine.apply(table(route((OLD, 100))))


def test_another_models_spoilt_route_held_up_a_release_or_was_believed(cluster: ServingCluster) -> None:
    mine = gateway(cluster)
    mine.apply(table(route((OLD, 100))))
    spoilt = cluster.api.get("httproutes", NAME, NAMESPACE) or {}
    spoilt["spec"]["rules"][2]["backendRefs"][0]["name"] = "somebody-else"
    cluster.api.verbs.replace(cluster.api._kind("httproutes"), (NAMESPACE, NAME), spoilt)
    with pytest.raises(IntegrityError, match="not as this platform wrote it"):
        mine.current()
    mine.revise(lambda found: found.with_route(route((deployment("other-v1", 1, "other"), 100))))
    mine.revise(lambda found: found.with_route(route((NEW, 100))))  # its own next release mends it
    assert {one.model for one in mine.current().routes} == {MODEL, "other"}


def test_other_peoples_routes_were_touched(cluster: ServingCluster) -> None:
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "to-https"}}
    cluster.api.put("httproutes", body | {"spec": {"parentRefs": [{"name": "models"}], "rules": []}}, NAMESPACE)
    mine = gateway(cluster)
    mine.apply(table(route((OLD, 100))))
    mine.apply(RouteTable())
    assert [one["metadata"]["name"] for one in cluster.api.objects("httproutes", NAMESPACE)] == ["to-https"]
