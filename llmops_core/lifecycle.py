"""What jobs leave in the object store, and the rules of the bucket that end it.

Of a job stay its records (`jobs/`: attempts, what pods said, checkpoints) and its folders (`folders/`: inputs, code,
results). Both have served when the result was fetched; the door removes the checkpoints of a job that is done itself,
and the store's lifecycle the rest, by age:

- records outlive the longest job that may still write them;
- folders outlive records: a record names folders, and one that names what is gone helps nobody.

A folder is shared by all jobs with the same content, so it may go while a late one uses it. That job's attempt fails,
and the next try sends the folder anew.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from llmops_core.doctor import Diagnosis, Health

RECORDS, FOLDERS = "jobs/", "folders/"
DAY_SECONDS = 86400
NAME = "lifecycle of the job store"


def judge_lifecycle(prefix: str, rules: Iterable[Mapping[str, Any]], longest_job_seconds: int) -> Diagnosis:
    """`prefix` is the exchange's in the bucket, ending with / or empty; `rules` are those of the bucket, as S3 tells
    them. A rule that looks at tags or sizes besides is not counted on."""
    kept = list(rules)
    records, folders = (_days(kept, f"{prefix}{part}") for part in (RECORDS, FOLDERS))
    if wrong := _wrong(records, folders, longest_job_seconds):
        mend = (
            "aws s3api put-bucket-lifecycle-configuration with deploy/object-store/lifecycle.json: docs/kubernetes.md"
        )
        return Diagnosis(NAME, Health.FAILED, wrong, mend)
    return Diagnosis(NAME, Health.OK, f"records of jobs go after {records} days, their folders after {folders}")


def _wrong(records: int | None, folders: int | None, longest_job_seconds: int) -> str:
    if records is None or folders is None:
        left = " and ".join(name for name, days in (("records", records), ("folders", folders)) if days is None)
        return f"the {left} of jobs stay in the bucket for ever: no rule ends them"
    if records * DAY_SECONDS <= longest_job_seconds:
        return f"records of jobs go after {records} days, while a job may run longer (jobs.deadline_seconds)"
    if folders <= records:
        return f"folders of jobs go after {folders} days, not after the records that name them ({records} days)"
    return ""


def _days(rules: list[Mapping[str, Any]], prefix: str) -> int | None:
    """After how many days objects below `prefix` go, by the first rule that takes them all."""
    found = [
        int(rule["Expiration"]["Days"])
        for rule in rules
        if rule.get("Status") == "Enabled"
        and "Days" in rule.get("Expiration", {})
        and (below := _prefix(rule)) is not None
        and prefix.startswith(below)
    ]
    return min(found, default=None)


def _prefix(rule: Mapping[str, Any]) -> str | None:
    """The prefix that a rule is for; None where it asks for more. `Prefix` beside `Filter` is S3's older form."""
    asked: Mapping[str, Any] = rule.get("Filter", {"Prefix": rule.get("Prefix", "")})
    return str(asked.get("Prefix", "")) if asked.keys() <= {"Prefix"} else None
