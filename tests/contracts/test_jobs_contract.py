"""One contract for jobs, whether they are processes of this machine or Jobs of a cluster (its API's stand-in)."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, GateRefused, InputError, IntegrityError, LlmopsError, TransientError
from tests.fakes.job_worlds import ClusterWorld, World, stand_in
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.s3_servers import CREDENTIALS, moto_server


@pytest.fixture(scope="module")
def exchange() -> Iterator[tuple[KubernetesApi, str]]:
    with pytest.MonkeyPatch.context() as patch, moto_server() as s3:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with stand_in(s3) as api:
            yield api, s3


@pytest.fixture(params=["local", "kubernetes"])
def world(request: pytest.FixtureRequest, tmp_path: Path, exchange: tuple[KubernetesApi, str]) -> World:
    made: dict[str, Callable[[], World]] = {
        "local": lambda: World(tmp_path),
        "kubernetes": lambda: ClusterWorld(tmp_path, *exchange),
    }
    return made[request.param]()


def test_a_job_left_no_result_or_was_not_heard(world: World) -> None:
    ran = world.run("speaks")
    assert ran.errors == []
    assert (ran.out / "deep" / "rows.txt").read_text() == "a row\n" * 2
    assert json.loads((ran.out / "report.json").read_text()) == {"own": "variable", "path": True}
    assert [each["done"] for each in ran.progress] == [1, 2] and ran.progress[0]["loss"] == 0.5
    assert ran.events_with("said over pipes") and ran.events_with("speaks 2/2, loss 0.5")
    (ran.out / "deep" / "rows.txt").write_text("may be changed")
    assert world.admissions == ["begins", "asks", "ends"]


def test_a_job_that_waited_for_gpus_began_when_the_budget_was_spent_meanwhile(world: World) -> None:
    """Asked before the wait, ten jobs would be let in by the money for one."""
    world.budget_is_spent = True
    ran = world.run("speaks")
    (error,) = ran.errors
    assert isinstance(error, GateRefused) and error.stage == "budget"
    assert world.admissions == ["begins", "asks"] and not ran.out.exists() and ran.progress == []


def test_an_error_of_the_input_was_tried_again(world: World) -> None:
    (error,) = world.run("blames").errors
    assert isinstance(error, InputError)
    assert error.problems[0].message == "rows.jsonl: line 3 is no object" and "blames.py" in error.problems[0].file


def test_a_recipe_that_says_nothing_gave_no_error(world: World) -> None:
    (error,) = world.run("silent").errors
    assert isinstance(error, InputError) and error.problems[0].message == "it gave no reason"


@pytest.mark.parametrize(
    ("recipe", "kind", "told"),
    [("lacks", EnvironmentLacks, "vllm is not installed"), ("doubts", IntegrityError, "a digest is not what it was")],
)
def test_what_a_person_must_mend_was_tried_again(world: World, recipe: str, kind: type[LlmopsError], told: str) -> None:
    (error,) = world.run(recipe).errors
    assert type(error) is kind and told in str(error)


CRASHES = {
    "crashes": "exit code 9.*\nout of luck",
    "killed": "signal.*\nworking",
    "raises": "exit code 1.*\nKeyError: 'nobody expected this'",
    "interrupted": "interrupted: the store did not answer",
}


@pytest.mark.parametrize(("recipe", "told"), CRASHES.items())
def test_a_crash_was_blamed_on_the_input(world: World, recipe: str, told: str) -> None:
    (error,) = world.run(recipe).errors
    assert isinstance(error, TransientError)
    assert re.search(told, str(error), re.DOTALL)
