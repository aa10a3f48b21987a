"""Every order in which two processes move a model's traffic, with a kill of either at each of their effects.

Whatever happens: in the end the route leads to what the ledger says serves, its server runs, and no canary is open.
"""

import copy
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from llmops_assets import canary_run
from llmops_assets.assets import production
from llmops_assets.canary_end import baseline_of
from llmops_assets.deploying import deploy, deployment_named, serving_now
from llmops_assets.operations.open_canaries import Step, end_canary, open_canaries
from llmops_assets.operations.retiring import retire
from llmops_assets.operations.rollback import roll_back
from llmops_core.errors import GateRefused, LlmopsError
from llmops_core.open_canary import open_canary
from llmops_core.routing import RouteTable
from resources.ledger.ledger import SqlLedger
from tests.fakes.platform_doors import Snapshot, World
from tests.fakes.registry import FakeRegistry
from tests.fakes.serving import FakeServing
from tests.fakes.turns import Actor, Killed, point, seen

SECOND = "tiny-production-v2"
EFFECTS = [(SqlLedger, "append"), (FakeServing, "deploy"), (FakeServing, "retire"), (FakeRegistry, "set_alias")]


class Moment:
    """A world that can be put back to this moment as often as a test likes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows = self._ledger("SELECT * FROM facts")
        self._applied, self._parts = list(world.gateway.applied), copy.deepcopy((world.serving, world.registry))

    def restored(self) -> World:
        world = self._world
        self._ledger("DELETE FROM facts")
        self._ledger(f"INSERT INTO facts VALUES ({','.join('?' * len(self._rows[0]))})", self._rows)
        world.gateway.applied = list(self._applied)
        world.serving, world.registry = copy.deepcopy(self._parts)
        world.doors().__dict__.update(serving=world.serving, registry=world.registry)
        return world

    def _ledger(self, query: str, rows: Sequence[Any] = ((),)) -> list[Any]:
        with closing(sqlite3.connect(self._world.home.root / "ledger.db")) as database, database:
            return [found for row in rows for found in database.execute(query, row)]


def _compared(world: World) -> Callable[..., RouteTable]:
    """Routes as on a cluster: nobody holds a lock, and a write is refused if somebody else wrote since the read."""

    def revise(change: Callable[[RouteTable], RouteTable]) -> RouteTable:
        while True:
            before = world.gateway.current()
            table = change(before)
            if table == before:
                return table
            point()
            if world.gateway.current() == before:
                world.gateway.applied.append(table)
                point()
                return table

    return revise


@pytest.fixture(scope="module")
def candidate_world(moments: dict[str, Snapshot]) -> Iterator[World]:
    world = moments["candidate"].restored()
    with pytest.MonkeyPatch.context() as patch:
        doors = world.doors()
        patch.setattr(world, "doors", lambda: doors)  # its caches are read by all, what it leads to is put back
        for door, name in EFFECTS:
            patch.setattr(door, name, seen(getattr(door, name)))
        patch.setattr(world.gateway, "revise", _compared(world))
        yield world


@pytest.fixture(scope="module")
def half(candidate_world: World) -> Moment:
    """Version 2 has half of production, and its canary goes on."""
    step = candidate_world.step("canary")
    candidate = deploy(step, "production")
    baseline = baseline_of(step.platform, "tiny", candidate.name)
    canary_run._put_in_force(step, candidate, baseline, 50, canary_run._begin(step, candidate, baseline))
    return Moment(candidate_world)


@pytest.fixture(scope="module")
def passed(half: Moment) -> Moment:
    """Version 2 passed its canary and is not promoted."""
    world = half.restored()
    assert canary_run.run_canary(world.step("canary")).body["verdict"] == "passed"
    return Moment(world)


def _drive(world: World) -> None:
    """Two ticks of a canary: what may move traffic of it."""
    step = world.step("canary", "driving")
    for canary, _ in open_canaries(step.platform):
        candidate = deployment_named(step.platform, canary.candidate)
        assert candidate is not None
        baseline = baseline_of(step.platform, "tiny", candidate.name)
        with canary_run._given_back(step, baseline, canary):
            for weight in (10, 50):
                canary_run._put_in_force(step, candidate, baseline, weight, canary)


def _promote(world: World) -> None:
    step = world.step("production", "promoting")
    try:
        production._promoted(step)
    except GateRefused as error:
        body = {"reason": error.reason, "revision": step.release.revision, "run_id": "promoting"}
        step.platform.ledger.append("refused", model="tiny", subject=error.stage, body=body)
        raise


def _give_back(world: World) -> None:
    doors = world.doors()
    for canary, _ in open_canaries(doors):
        end_canary(doors, Step(canary, over="nobody judged it"))


def _roll_back(world: World) -> None:
    roll_back(world.doors(), "tiny", "users complain")


def _retire(world: World) -> None:
    retire(world.doors(), "tiny", "ann", "replaced", even_though_committed=True)


ACTS = {each.__name__: each for each in (_drive, _promote, _give_back, _roll_back, _retire)}
BY_A_PERSON = {"_roll_back", "_retire"}


@dataclass(frozen=True)
class Order:
    """Each act up to one of its points, the first one first; then the rest of both, but for one that is killed."""

    first: str
    to: int
    second: str
    till: int
    killed: str = ""


def _play(moment: Moment, order: Order) -> tuple[World, Actor, Actor]:
    world = moment.restored()
    first, second = (Actor(partial(ACTS[name], world)) for name in (order.first, order.second))
    first.go(order.to)
    second.go(order.till)
    for name, actor in ((order.first, first), (order.second, second)):
        actor.kill() if order.killed == name else actor.go()
    return world, first, second


def _settle(world: World, order: Order, first: Actor, second: Actor) -> None:
    """What comes by itself, and the same command again of a person who saw it end with an error."""
    for name, actor in ((order.first, first), (order.second, second)):
        if name in BY_A_PERSON and actor.error is not None:
            with suppress(GateRefused):
                ACTS[name](world)
    for _ in range(2):
        with suppress(GateRefused):
            _give_back(world)


def _wrong(world: World, order: Order) -> str:
    doors = world.doors()
    now = serving_now(doors, "tiny", "production")
    serving = now.body["deployment"] if now else None
    route = world.gateway.current().route("tiny", "production")
    shares = {share.deployment.name: share.weight_percent for share in route.shares} if route else {}
    found = [] if shares == ({serving: 100} if serving else {}) else [f"{serving} should serve, and {shares} do"]
    if not shares.keys() <= {one.name for one in world.serving.running()}:
        found.append(f"no server of {shares}")
    if (canary := open_canary(doors.ledger.facts("tiny"))) is not None:
        found.append(f"it is open: {canary.told}")
    if "_roll_back" in (order.first, order.second) and (serving or "").startswith(SECOND):
        found.append("what a person rolled back serves")
    if "_retire" in (order.first, order.second) and serving:
        found.append("what a person ended serves")
    if now and not order.killed and world.registry.alias("tiny", "production") != int(now.body["version"]):
        found.append("the registry calls another version production")
    return "; ".join(found)


PAIRS = [
    (first, second)
    for one, others in {
        _promote: (_give_back, _roll_back, _retire),
        _drive: (_give_back, _roll_back, _retire),
        _give_back: (_roll_back,),
    }.items()
    for other in others
    for first, second in ((one.__name__, other.__name__), (other.__name__, one.__name__))
]


@st.composite
def _orders(draw: st.DrawFn) -> Order:
    first, second = draw(st.sampled_from(PAIRS))
    to, till = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    return Order(first, to, second, till, draw(st.sampled_from(("", first, second))))


@settings(max_examples=100, deadline=None, phases=(Phase.explicit, Phase.generate))
@example(order=Order("_promote", 3, "_give_back", 3))  # it had no server, and all traffic
@example(order=Order("_promote", 5, "_roll_back", 5))
@example(order=Order("_drive", 1, "_give_back", 3))
@example(order=Order("_promote", 10, "_roll_back", 8))
@given(order=_orders())
def test_two_at_one_moment_left_the_route_and_the_ledger_at_odds(order: Order, passed: Moment, half: Moment) -> None:
    world, first, second = _play(half if "_drive" in (order.first, order.second) else passed, order)
    _settle(world, order, first, second)
    assert _wrong(world, order) == ""
    for error in (first.error, second.error):
        assert error is None or isinstance(error, (LlmopsError, Killed)), repr(error)
