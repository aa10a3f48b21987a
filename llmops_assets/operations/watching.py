"""The watched repositories as people see them: where each stands, what is wrong, and which names belong to others."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from llmops_assets.release import head_of, models_at
from llmops_assets.repositories import named, owners
from llmops_core.errors import InputError
from resources.wiring import Platform


@dataclass(frozen=True)
class RepositoryStatus:
    """`head` is the newest commit that was fetched, empty before the first. `why` says what is wrong, empty when
    nothing is; after `failures` in a row the next try is at `next_try` (seconds since 1970). `refused` says for models
    of this repository why they are not released."""

    name: str
    url: str
    branch: str
    head: str
    why: str
    failures: int
    next_try: float
    refused: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def repositories(platform: Platform) -> list[RepositoryStatus]:
    """Every watched repository of the settings; asks none of them."""
    return [_status(platform.at(each.name)) for each in platform.settings.repositories]


def heads(platform: Platform) -> Iterator[tuple[Platform, str]]:
    """The platform for each repository that can be read here, and the head of its branch: its own checkout, and those
    that were fetched once."""
    yield platform.at(""), head_of(platform.at(""))
    views = (platform.at(each.name) for each in platform.settings.repositories)
    yield from ((view, head) for view in views if (head := _fetched(view)))


def own_models(view: Platform, head: str) -> list[str]:
    """The models at this commit whose names do not belong to another repository."""
    found = owners(view.ledger)
    return [model for model in models_at(view, head) if found.get(model, view.repository) == view.repository]


def _fetched(view: Platform) -> str:
    """The head of the branch when it was fetched last; empty before the first time."""
    try:
        return head_of(view)
    except InputError:
        return ""


def _status(view: Platform) -> RepositoryStatus:
    watched, reach, head = view.watched, view.mirror.reach(), _fetched(view)
    others = {model: other for model, other in owners(view.ledger).items() if other != view.repository}
    here = models_at(view, head) if head else []
    refused = {model: f"{named(others[model])} has a model of this name" for model in here if model in others}
    return RepositoryStatus(
        watched.name, watched.url, view.branch, head, reach.told, reach.failures, reach.next_try, refused
    )
