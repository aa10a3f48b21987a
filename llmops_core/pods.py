"""What the settings must say where the platform works in pods: they share no folder, and each goes when its work ends.

A place that is left out means a folder of this machine. On one machine that is the sensible default; in a pod it means
that a version is signed with a key that nobody else knows, and that ratings are lost. So nothing starts without.
"""

from collections.abc import Iterator

from llmops_core.errors import Problem
from llmops_core.settings import Settings

SHARED = ("ledger", "mlflow", "artifacts", "feedback", "signing")


def unfit_for_pods(settings: Settings, branch: str, file: str) -> list[Problem]:
    """What is wrong with the settings in `file`, of a platform in pods that follows `branch`."""
    return list(_problems(settings, branch, file))


def _problems(settings: Settings, branch: str, file: str) -> Iterator[Problem]:
    if settings.branch != branch:
        message = "the platform follows the branch that LLMOPS_BRANCH names; let both say the same"
        yield Problem(file, "branch", settings.branch, branch, message)
    for part in SHARED:
        if getattr(settings.platform, part) is None:
            message = "pods share no folder, and what lies in one goes with it; say where they find it"
            yield Problem(file, f"platform.{part}", "nothing", "a place that every pod reaches", message)
    for part in ("jobs", "serving"):
        if (kind := getattr(settings, part).kind) == "local":
            message = "a pod of the platform is no place for them: it has other limits, and ends with its run"
            yield Problem(file, f"{part}.kind", kind, "kubernetes", message)
