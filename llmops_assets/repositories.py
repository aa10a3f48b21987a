"""Which repository a model is read from: the one that asked for its releases, as the ledger says.

A model's name belongs to one repository at a time, from its first request until it is retired there. What was made
keeps the name of its repository for ever, so that an audit reads the commit where it is.
"""

from llmops_core.facts import Fact
from resources.ledger.ledger import Ledger
from resources.wiring import Platform


def owner(newest: Fact | None) -> str | None:
    """The repository that a name belongs to, empty for the platform's own checkout; None for a free name. `newest` is
    the model's newest fact that asks for a release or retires it."""
    return repository_in(newest) if newest is not None and newest.kind == "requested" else None


def owners(ledger: Ledger) -> dict[str, str]:
    """{model: repository} of all names that are not free."""
    found = {fact.model: owner(fact) for fact in ledger.newest_of_each("requested", "retired")}
    return {model: repository for model, repository in found.items() if repository is not None}


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
