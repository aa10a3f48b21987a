"""Which rules of a bucket end what jobs leave, and which only look like it."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_core.doctor import Health
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.lifecycle import judge_lifecycle

READY = json.loads((Path(__file__).parents[2] / "deploy/object-store/lifecycle.json").read_text())["Rules"]
LONGEST = 2592000  # what jobs.deadline_seconds may be at most
NEVER = {"ID": "never", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
TAGGED = {
    **{"ID": "tagged", "Status": "Enabled", "Expiration": {"Days": 40}},
    "Filter": {"And": {"Prefix": "jobs/", "Tags": [{"Key": "a", "Value": "b"}]}},
}


def rule(prefix: str, days: int) -> dict[str, Any]:
    return {"Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


def test_the_rules_of_deploy_do_not_suit_the_longest_job() -> None:
    limit = ClusterJobsPlace.model_fields["deadline_seconds"].metadata
    assert any(getattr(each, "le", None) == LONGEST for each in limit)
    found = judge_lifecycle("jobs/", READY, LONGEST)
    assert found.verdict is Health.OK and "45" in found.found and "60" in found.found


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([], "records and folders of jobs stay"),
        ([NEVER, TAGGED], "records and folders of jobs stay"),
        (READY[:1], "folders of jobs stay"),
        (READY[1:], "records of jobs stay"),
        ([rule("jobs/jobs/", 30), rule("jobs/folders/", 60)], "a job may run longer"),
        ([rule("jobs/", 45)], "not after the records"),
        ([rule("other/", 1), *READY[1:]], "records of jobs stay"),
        ([*READY, rule("", 40)], "not after the records"),  # another rule of the bucket, for everything
    ],
)
def test_objects_that_stay_for_ever_or_go_too_soon_were_called_well(rules: list[Any], told: str) -> None:
    found = judge_lifecycle("jobs/", rules, LONGEST)
    assert found.verdict is Health.FAILED and told in found.found and "lifecycle.json" in found.mend


def test_rules_of_the_older_form_were_not_read() -> None:
    ages = {"x/jobs/": 45, "x/folders/": 60}
    old = [{"Status": "Enabled", "Prefix": prefix, "Expiration": {"Days": days}} for prefix, days in ages.items()]
    assert judge_lifecycle("x/", old, LONGEST).verdict is Health.OK
