"""A model that is ended: nothing serves it, nothing brings it back unasked, and what proves its past stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dagster import Failure

from llmops_assets import canary_run
from llmops_assets.deploying import deploy
from llmops_assets.operations.audit import audit
from llmops_assets.operations.changes import change_since, decide, request
from llmops_assets.operations.overview import overview
from llmops_assets.operations.retiring import Retired, retire
from llmops_assets.sensors.repository import watching
from llmops_assets.step import stage
from llmops_core.errors import GateRefused, InputError, TransientError
from llmops_core.facts import Fact, Kind, first_broken
from llmops_core.open_canary import OpenCanary
from llmops_core.status import ModelStatus
from resources.ledger.ledger import SqlLedger
from tests.fakes.git_with_data import made_repository
from tests.fakes.platform_doors import Turn, World
from tests.fakes.ticking import Ticking


@pytest.fixture
def removed(released: World) -> World:
    """Version 1 serves, its folder is gone, and the sensor has seen that."""
    request(released.release(), "repository")
    released.repository.git("rm", "-rq", "models/tiny")
    released.repository.git("commit", "--quiet", "--message", "Remove tiny")
    Ticking(released).tick()
    return released


def _retire(world: World, **more: bool) -> Retired:
    return retire(world.doors(), "tiny", "ada", "nobody asks it", **more)


def _status(world: World) -> ModelStatus:
    (found,) = [status for status in overview(world.doors()) if status.model == "tiny"]
    return found


def _serves(world: World) -> bool:
    names = [one.model for one in world.serving.running()]
    table = world.gateway.current()
    return bool(names or table.route("tiny", "production") or table.route("tiny", "staging"))


def test_an_ended_model_was_still_served_somewhere(removed: World) -> None:
    assert _status(removed).told_of_retirement.endswith("production keeps serving until `llmops retire tiny`")
    assert removed.registry.alias("tiny", "production") == 1
    done = _retire(removed)
    assert done.ended == {"production": "1", "staging": "1"} and (done.by, done.reason) == ("ada", "nobody asks it")
    assert not _serves(removed) and removed.registry.alias("tiny", "production") is None
    status = _status(removed)
    assert status.environments == {} and status.as_dict()["retired"]["state"] == "ended"
    assert "was ended by ada" in status.told_of_retirement and "still serves" not in status.told_of_retirement


def test_what_proves_the_past_was_deleted(removed: World) -> None:
    before = [path for path in (removed.home.root / "artifacts").rglob("*") if path.is_file()]
    facts = removed.doors().ledger.facts()
    _retire(removed)
    assert [path for path in (removed.home.root / "artifacts").rglob("*") if path.is_file()] == before
    after = removed.doors().ledger.facts()
    assert after[: len(facts)] == facts and first_broken(after) is None
    assert [version.version for version in removed.registry.versions("tiny")] == [1]


def test_an_audit_of_an_ended_model_did_not_say_that_nothing_serves(removed: World) -> None:
    _retire(removed)
    (link,) = audit(removed.doors(), "tiny")
    assert (link.name, link.verdict) == ("production", "incomplete")
    assert "nothing does since ada ended it on" in link.detail and "nobody asks it" in link.detail


def test_ending_it_twice_did_it_twice(removed: World) -> None:
    first = _retire(removed)
    facts, tables = removed.doors().ledger.facts(), len(removed.gateway.applied)
    again = retire(removed.doors(), "tiny", "eve", "again")
    assert again.ended == {} and (again.by, again.at) == ("ada", first.at)
    assert removed.doors().ledger.facts() == facts and len(removed.gateway.applied) == tables


class Killed(BaseException):
    """The process ends here."""


KILLED_AT: list[tuple[str, str]] = [
    ("gateway", "revise"),
    ("serving", "retire"),
    ("registry", "remove_alias"),
    ("ledger", "append"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("door", "method"), KILLED_AT)
@pytest.mark.parametrize("which", [1, 2])
def test_a_killed_retirement_was_not_finished_by_the_next(
    removed: World, door: str, method: str, after: bool, which: int
) -> None:
    doors = removed.doors()
    broken, count = getattr(doors, door), [0]
    real: Callable = getattr(broken, method)

    def killed(*arguments: object, **named: object) -> object:
        count[0] += 1
        if count[0] < which:
            return real(*arguments, **named)
        if after:
            real(*arguments, **named)
        raise Killed

    setattr(broken, method, killed)
    try:
        retire(doors, "tiny", "ada", "nobody asks it")
    except Killed:
        pass
    else:
        assert count[0] < which  # there is no second one
    finally:
        delattr(broken, method)
    done = _retire(removed)
    assert not _serves(removed) and _status(removed).environments == {} and done.by == "ada"
    assert removed.registry.alias("tiny", "production") is None
    kinds = [(fact.kind, fact.subject) for fact in removed.doors().ledger.facts()]
    assert kinds.count(("retired", "production")) == 1
    assert kinds[-2:].count(("switched", "production")) <= 1
    assert audit(removed.doors(), "tiny")[0].verdict == "incomplete"


def test_it_was_ended_although_its_folder_is_committed(released: World) -> None:
    facts = released.doors().ledger.facts()
    with pytest.raises(GateRefused, match=rf"models/tiny is still there at {released.repository.head[:12]}"):
        _retire(released)
    assert _serves(released) and released.doors().ledger.facts() == facts
    _retire(released, even_though_committed=True)
    assert not _serves(released)


def test_a_model_of_a_watched_repository_was_looked_for_in_the_platform_s_own(begun: World, tmp_path: Path) -> None:
    team = made_repository(tmp_path / "team")
    begun.repository.git("rm", "-rq", "models/tiny")
    begun.repository.git("commit", "--quiet", "--message", "no models here")
    file = begun.repository.path / "config" / "local.yaml"
    own = file.read_text()
    file.write_text(f"{own}\nrepositories: [{{name: team, url: 'file://{team.path}', branch: main}}]\n")
    (watched,) = begun.doors().settings.repositories
    Ticking(begun, sensor=watching(watched)).tick()
    body = {"generation": 1, "repository": "team", "by": "repository"}
    begun.doors().ledger.append("requested", model="tiny", subject="run", body=body, once="requested:tiny:1")
    with pytest.raises(GateRefused, match=rf"still there at {team.head[:12]} of the repository team"):
        _retire(begun)
    file.write_text(own)
    assert _retire(begun).by == "ada"


@pytest.mark.parametrize("taken_by", ["a release", "the sensor"])
def test_a_number_that_was_taken_at_that_moment_lost_the_end(
    released: World, monkeypatch: pytest.MonkeyPatch, taken_by: str
) -> None:
    """The ledger answers with the fact that holds the number: what was asked for, or that the folder is gone."""
    request(released.release(), "repository")
    doors, real, late = released.doors(), SqlLedger.append, []

    def append(self: SqlLedger, kind: Kind, **named: Any) -> Fact:
        if kind == "retired" and not late:
            released.repository.commit_model("training", seed=2)
            if taken_by == "a release":
                late.append(request(released.release(), "repository"))
            else:
                late.append(real(self, "retired", **{**named, "subject": "folder"}))
        return real(self, kind, **named)

    monkeypatch.setattr(SqlLedger, "append", append)
    retire(doors, "tiny", "ada", "nobody asks it", even_though_committed=True)
    newest = doors.ledger.newest("tiny", "requested", "retired")
    assert newest is not None and (newest.kind, newest.subject) == ("retired", "production")
    assert newest.body["generation"] == late[0].body["generation"] + 1 and not _serves(released)


def test_a_server_that_began_just_before_the_end_went_on(released: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, serving = SqlLedger.append, released.serving
    plan = next(iter(serving.plans.values()))

    def append(self: SqlLedger, kind: Kind, **named: Any) -> Fact:
        if kind == "retired":
            serving.deploy(plan.model_copy(update={"name": f"{plan.name}-late"}))
        return real(self, kind, **named)

    monkeypatch.setattr(SqlLedger, "append", append)
    _retire(released, even_though_committed=True)
    assert not _serves(released)


def test_a_server_that_began_while_the_end_was_under_way_went_on(
    candidate: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ended the model had looked at what runs before this server was there."""
    runs = [fact.body["run_id"] for fact in candidate.doors().ledger.facts("tiny") if fact.kind == "pinned"]
    step, real = candidate.step("staging_deployment", run_id=runs[-1]), candidate.serving.deploy

    def deploy_late(plan: Any) -> Any:
        _retire(candidate, even_though_committed=True)
        return real(plan)

    monkeypatch.setattr(candidate.serving, "deploy", deploy_late)
    with pytest.raises(GateRefused, match="ada ended tiny meanwhile"):
        deploy(step, "staging")
    assert not _serves(candidate)


def test_a_model_that_never_was_was_ended(begun: World) -> None:
    with pytest.raises(InputError, match="nothing was ever done for a model of this name"):
        retire(begun.doors(), "nobody", "ada", "why not")
    assert begun.doors().ledger.facts() == []


def test_a_release_asked_for_before_brought_it_back(released: World) -> None:
    released.repository.commit_model("training", seed=2)
    asked = request(released.release(), "repository")
    _retire(released, even_though_committed=True)
    tags = {"llmops/generation": str(asked.body["generation"]), "llmops/revision": asked.body["revision"]}
    with (
        pytest.raises(Failure, match="ada ended tiny meanwhile"),
        stage(Turn("late", tags=tags), released.doors(), "dataset"),
    ):  # type: ignore[arg-type]
        pass
    again = request(released.release(), "llmops release")
    assert again.body["generation"] == asked.body["generation"] + 2
    tags["llmops/generation"] = str(again.body["generation"])
    with stage(Turn("later", tags=tags), released.doors(), "dataset") as step:  # type: ignore[arg-type]
        assert step.name == "dataset"


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_run_under_way_gave_it_traffic_again(candidate: World, environment: str) -> None:
    """It was pinned before; its next step would deploy and route."""
    runs = [fact.body["run_id"] for fact in candidate.doors().ledger.facts("tiny") if fact.kind == "pinned"]
    step = candidate.step("staging_deployment", run_id=runs[-1])
    (second,) = [one for one in candidate.serving.running() if "-staging-v2" in one.name]
    _retire(candidate, even_though_committed=True)
    with pytest.raises(GateRefused, match="ada ended tiny meanwhile"):
        step.refuse_if_retired()
    with pytest.raises(GateRefused):
        deploy(step, environment)  # type: ignore[arg-type]
    with pytest.raises(GateRefused):
        canary_run._put_in_force(step, second, None, 100, OpenCanary(candidate.doors().ledger.facts("tiny")[-1]))
    assert not _serves(candidate)


def test_a_tick_brought_back_what_a_person_ended(released: World) -> None:
    """A cursor that nobody can read any more makes all models be decided again."""
    ticking = Ticking(released)
    ticking.tick()
    _retire(released, even_though_committed=True)
    change = change_since(released.doors(), None, released.repository.head)
    decision = decide(released.doors(), "tiny", change, "repository")
    assert decision.verb == "nothing" and "ada ended it" in decision.why
    released.repository.commit_model("training", seed=2)
    assert [run.partition_key for run in ticking.tick()] == ["tiny"]


def test_a_commit_just_before_the_end_brought_it_back(released: World) -> None:
    """No tick has seen it yet, but the person who ended the model was told of it."""
    ticking = Ticking(released)
    ticking.tick()
    released.repository.commit_model("training", seed=2)
    with pytest.raises(GateRefused, match=released.repository.head[:12]):
        _retire(released)
    _retire(released, even_though_committed=True)
    assert ticking.tick() == []
    released.repository.commit_model("training", steps="many")
    assert ticking.tick() == []
    released.repository.git("revert", "--no-edit", "HEAD")
    assert ticking.tick() == [], "it asks for what was ended"


def test_a_folder_that_came_back_was_not_released(removed: World) -> None:
    _retire(removed)
    removed.repository.git("revert", "--no-edit", "HEAD")
    ticking = Ticking(removed)
    assert len(ticking.tick()) == 1
    assert _status(removed).retired is None


def test_a_gateway_that_is_down_ended_half_of_it_for_good(removed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(change: object) -> None:
        raise TransientError("the gateway does not answer: start the platform (make run)")

    monkeypatch.setattr(removed.gateway, "revise", down)
    with pytest.raises(TransientError):
        _retire(removed)
    assert _serves(removed) and "ends what still serves" in _status(removed).told_of_retirement
    monkeypatch.undo()
