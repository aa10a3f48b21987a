"""What a run says of itself in the UI: which commit, whose, why, and which request of its model it answers."""

from llmops_core.facts import Fact
from resources.wiring import Platform

PARTITION_TAG = "dagster/partition"
REVISION_TAG, FINGERPRINT_TAG, GENERATION_TAG = "llmops/revision", "llmops/fingerprint", "llmops/generation"
REQUEST_TAG, REASON_TAG = "llmops/request", "llmops/reason"


def tags_of(platform: Platform, request: Fact, revision: str = "") -> dict[str, str]:
    """The tags of the run that a `requested` fact asks for, without its partition. `revision` is the run's where it
    is not the fact's, but depends on the same."""
    body = request.body
    revision = revision or body["revision"]
    link = platform.source.web_link(revision)
    return {
        REVISION_TAG: revision,
        FINGERPRINT_TAG: request.fingerprint,
        GENERATION_TAG: str(body["generation"]),
        REQUEST_TAG: request.digest,
        "llmops/author": body["author"],
        "llmops/branch": platform.branch,
        **({"llmops/repository": platform.repository} if platform.repository else {}),
        REASON_TAG: body["reason"] or "no message",
        **({"llmops/commit": link} if link else {}),
    }
