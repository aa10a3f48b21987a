"""Which repository a model is read from: the one that asked for its releases, as the ledger says.

A model's name belongs to one repository at a time, from its first request until it is retired there. What was made
keeps the name of its repository for ever, so that an audit reads the commit where it is.
"""

from llmops_core.facts import Fact
from resources.ledger import Ledger
from resources.wiring import Platform


def owner(ledger: Ledger, model: str) -> str | None:
    """The repository that this name belongs to now, empty for the platform's own checkout; None for a free name."""
    known = ledger.newest(model, "requested", "retired")
    return repository_in(known) if known is not None and known.kind == "requested" else None


def doors_of(platform: Platform, model: str) -> Platform:
    """The platform, reading the repository that asked for this model last."""
    known = platform.ledger.newest(model, "requested")
    return platform.at(repository_in(known) if known else "")


def doors_for(platform: Platform, fact: Fact) -> Platform:
    """The platform, reading the repository from which this was made."""
    return platform.at(repository_in(fact))


def repository_in(fact: Fact) -> str:
    return fact.body.get("repository", "")


def named(repository: str) -> str:
    """For people."""
    return f"the repository {repository}" if repository else "the platform's own checkout"
