"""A repository elsewhere: its commits release its models and nobody else's, and an outage loses none of them."""

from pathlib import Path

import pytest
import yaml
from dagster import SkipReason

from llmops_assets.cli.following import resolve
from llmops_assets.operations.audit import audit
from llmops_assets.operations.overview import overview
from llmops_assets.operations.watching import repositories
from llmops_assets.repositories import doors_of
from llmops_assets.sensors.repository import watching
from llmops_assets.tags import REVISION_TAG
from llmops_core.errors import TransientError
from llmops_core.facts import Fact
from tests.fakes.git_with_data import GitWithData, made_repository
from tests.fakes.platform_doors import World
from tests.fakes.ticking import Ticking


@pytest.fixture
def team(tmp_path: Path) -> GitWithData:
    """A repository elsewhere with the model `tiny`; its DVC remote is a folder."""
    repository = made_repository(tmp_path / "team")
    remote = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {repository.path}/.dvc/cache\n"
    repository.commit({".dvc/config": remote}, "where the data is")
    return repository


@pytest.fixture
def world(begun: World, team: GitWithData) -> World:
    """A platform that watches `team` and has no model of its own."""
    watch(begun, team)
    begun.repository.git("rm", "-r", "--quiet", "models/tiny")
    begun.repository.git("commit", "--quiet", "--message", "no models here")
    return begun


def watch(world: World, team: GitWithData) -> None:
    path = world.repository.path / "config" / "local.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["repositories"] = [{"name": "team", "url": f"file://{team.path}", "branch": "main"}]
    path.write_text(yaml.safe_dump(settings))


def ticking_of(world: World) -> Ticking:
    (watched,) = world.doors().settings.repositories
    return Ticking(world, sensor=watching(watched))


@pytest.fixture
def ticking(world: World) -> Ticking:
    return ticking_of(world)


def facts_of(world: World, kind: str) -> list[Fact]:
    return [fact for fact in world.doors().ledger.facts() if fact.kind == kind]


def test_a_commit_elsewhere_released_nothing_or_said_nothing_of_itself(ticking: Ticking, team: GitWithData) -> None:
    (request,) = ticking.tick()
    assert (request.partition_key, request.tags[REVISION_TAG]) == ("tiny", team.head)
    assert (request.tags["llmops/repository"], request.tags["llmops/branch"]) == ("team", "main")
    assert ticking.tick() == [] and ticking.said.startswith("nothing new at ")
    team.commit({"README.md": "Hello."})
    assert ticking.tick() == []
    team.commit_model("training", seed=2)
    assert [one.tags[REVISION_TAG] for one in ticking.tick()] == [team.head]


def test_a_release_read_another_repository_or_an_audit_did(ticking: Ticking, world: World, team: GitWithData) -> None:
    (request,) = ticking.tick()
    done = world.materialize(tags=dict(request.tags))
    assert done.success, [str(event.message) for event in done.all_events if event.is_failure]
    assert {fact.body["repository"] for kind in ("pinned", "produced") for fact in facts_of(world, kind)} == {"team"}
    chain = {link.name: (link.verdict, link.detail) for link in audit(world.doors(), "tiny")}
    assert {state for name, (state, _) in chain.items() if name != "served file"} == {"verified"}, chain
    assert team.head[:12] in chain["commit"][1]
    (status,) = overview(world.doors())
    assert status.environments["production"].revision == team.head


def test_a_person_got_the_head_of_another_repository(ticking: Ticking, world: World, team: GitWithData) -> None:
    ticking.tick()
    doors = doors_of(world.doors(), "tiny")
    assert resolve(doors, "tiny", None) == team.head != world.repository.head


def test_an_outage_was_silent_or_lost_a_commit(ticking: Ticking, world: World, team: GitWithData) -> None:
    ticking.tick()
    team.path.rename(team.path.with_name("away"))
    cursor = ticking.cursor
    with pytest.raises(TransientError, match=r"team .*cannot be fetched"):
        ticking.evaluate()
    assert isinstance(ticking.evaluate(), SkipReason)
    assert "cannot be fetched" in ticking.said and "tried 1 times, next at" in ticking.said
    (status,) = repositories(world.doors())
    assert "cannot be fetched" in status.why and status.failures == 1 and status.head
    assert [one.model for one in overview(world.doors())] == ["tiny"]  # still read from what was fetched
    team.path.with_name("away").rename(team.path)
    team.commit_model("training", seed=2)
    (world.home.root / "mirrors" / "team" / "reach.json").unlink()  # the pause is over
    assert ticking.cursor == cursor and [one.tags[REVISION_TAG] for one in ticking.tick()] == [team.head]
    assert repositories(world.doors())[0].why == ""


def test_a_repository_that_is_watched_no_more_had_its_models_told_as_removed(ticking: Ticking, world: World) -> None:
    ticking.tick()
    path = world.repository.path / "config" / "local.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "repositories": []}))
    (status,) = overview(world.doors())
    assert status.retired is None and "not watched any more" in status.blocked[0].reason


def test_a_repository_that_was_never_reached_stopped_status(ticking: Ticking, world: World, team: GitWithData) -> None:
    team.path.rename(team.path.with_name("away"))
    with pytest.raises(TransientError):
        ticking.evaluate()
    assert overview(world.doors()) == [] and repositories(world.doors())[0].head == ""


def test_a_deleted_branch_retired_or_released_something(ticking: Ticking, world: World, team: GitWithData) -> None:
    ticking.tick()
    before = world.doors().ledger.facts()
    team.git("branch", "--move", "main", "elsewhere")
    assert ticking.tick() == [] and "has no branch main" in ticking.said
    assert world.doors().ledger.facts() == before and "has no branch" in repositories(world.doors())[0].why
    team.git("branch", "--move", "elsewhere", "main")
    team.commit_model("training", seed=2)
    (request,) = ticking.tick()
    assert request.tags[REVISION_TAG] == team.head and facts_of(world, "requested")[-1].body["history"] == "forward"


def test_a_force_push_was_not_told(ticking: Ticking, world: World, team: GitWithData) -> None:
    first = team.head
    team.commit_model("training", seed=2, message="will be dropped")
    ticking.tick()
    team.git("reset", "--hard", "--quiet", first)
    team.commit_model("training", seed=3, message="instead")
    assert len(ticking.tick()) == 1
    body = facts_of(world, "requested")[-1].body
    assert body["history"] == "rewritten"
    assert [line.partition(" ")[2] for line in body["dropped"]] == ["will be dropped"]


def test_two_models_of_one_name_were_mixed(begun: World, team: GitWithData) -> None:
    watch(begun, team)
    own, other = Ticking(begun), ticking_of(begun)
    assert len(own.tick()) == 1
    assert other.tick() == [] and "tiny: refused: the platform's own checkout has a model of this name" in other.said
    (refused,) = [fact for fact in facts_of(begun, "refused") if fact.subject == "repository"]
    assert refused.body["repository"] == "team" and "rename models/tiny" in refused.body["reason"]
    assert repositories(begun.doors())[0].refused.keys() == {"tiny"}
    team.commit_model("training", seed=2)
    other.tick()
    assert len(facts_of(begun, "requested")) == 1
    team.git("rm", "-r", "--quiet", "models/tiny")
    team.git("commit", "--quiet", "--message", "gone here")
    other.tick()
    assert facts_of(begun, "retired") == [] and doors_of(begun.doors(), "tiny").repository == ""


def test_a_name_that_became_free_was_never_taken(begun: World, team: GitWithData) -> None:
    watch(begun, team)
    own, other = Ticking(begun), ticking_of(begun)
    own.tick()
    other.tick()
    begun.repository.git("rm", "-r", "--quiet", "models/tiny")
    begun.repository.git("commit", "--quiet", "--message", "it moves")
    own.tick()
    launched = [request for _ in range(3) for request in other.tick()]
    assert [request.tags[REVISION_TAG] for request in launched] == [team.head]
    assert doors_of(begun.doors(), "tiny").repository == "team"


def test_a_model_was_retired_by_a_repository_that_never_had_it(ticking: Ticking, world: World) -> None:
    """The own checkout decides everything anew, and has no such folder."""
    ticking.tick()
    Ticking(world).tick()
    assert facts_of(world, "retired") == []


def test_data_on_no_remote_was_released(ticking: Ticking, team: GitWithData) -> None:
    (team.path / ".dvc" / "cache").rename(team.path / "elsewhere")
    assert ticking.tick() == [] and "waits for data" in ticking.said


def test_a_folder_that_came_back_after_a_killed_tick_stayed_retired(ticking: Ticking, team: GitWithData) -> None:
    ticking.tick()
    before = team.head
    team.git("rm", "-r", "--quiet", "models/tiny")
    team.git("commit", "--quiet", "--message", "gone")
    ticking.tick(keep_cursor=False)
    team.git("reset", "--quiet", "--hard", before)
    assert [request.tags[REVISION_TAG] for request in ticking.tick()] == [before]


def test_a_retirement_elsewhere_was_told_of_this_repository(ticking: Ticking, world: World, team: GitWithData) -> None:
    ticking.tick()
    own = Ticking(world)
    own.tick()
    team.git("rm", "-r", "--quiet", "models/tiny")
    team.git("commit", "--quiet", "--message", "gone")
    ticking.tick()
    own.tick()
    assert "tiny" not in own.said
