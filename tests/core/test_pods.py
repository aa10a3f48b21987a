"""Settings that would lose a platform's state with its pods are refused, each place by its name."""

from pathlib import Path

import pytest

from llmops_core.pods import unfit_for_pods
from llmops_core.settings import Settings, load_settings
from tests.core.test_settings import FILE, FULL, in_blocks

ROOT = Path(__file__).parents[2]
FIT = load_settings(in_blocks({**FULL, "branch": "main"}), FILE)


def without(*parts: str) -> Settings:
    places = FIT.platform.model_copy(update=dict.fromkeys(parts))
    return FIT.model_copy(update={"platform": places})


def test_settings_that_fit_were_refused() -> None:
    assert unfit_for_pods(FIT, "main", FILE) == []


@pytest.mark.parametrize("part", ["ledger", "mlflow", "artifacts", "feedback", "signing"])
def test_what_lies_in_one_pod_was_not_named(part: str) -> None:
    (problem,) = unfit_for_pods(without(part), "main", FILE)
    assert (problem.file, problem.field) == (FILE, f"platform.{part}")


def test_another_branch_was_followed_than_the_settings_say() -> None:
    (problem,) = unfit_for_pods(FIT, "next", FILE)
    assert (problem.field, problem.found, problem.expected) == ("branch", "main", "next")


@pytest.mark.parametrize("environment", ["staging", "production", "development-cluster"])
def test_an_environment_of_this_repository_cannot_start_in_its_pods(environment: str) -> None:
    file = f"config/{environment}.yaml"
    settings = load_settings((ROOT / file).read_bytes(), file)
    assert unfit_for_pods(settings, settings.branch, file) == []
