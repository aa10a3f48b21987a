"""What the pods of jobs and of model servers need alike, and how a cluster is asked for it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmops_assets.operations.doctor_inside import RIGHTS, Hidden
from llmops_core.doctor import Diagnosis, Health, Right, ask_from_inside, judge_rights
from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.serving_settings import ClusterServingPlace
from resources.cluster.cluster_view import ClusterView
from resources.cluster.cluster_view import Hidden as HiddenPlace
from resources.cluster.image_registry import WhoAsks, has_image, login_in, parse_image

Examined = Iterator[Diagnosis]
Place = ClusterJobsPlace | ClusterServingPlace
Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """An object by its path in the API, and what it is called here."""

    name: str
    path: str


def guarded(name: str, part: Callable[[], Examined]) -> Examined:
    """A part that the cluster hides is unknown; one that it refuses, or does not answer for, has failed."""
    try:
        yield from part()
    except HiddenPlace as error:
        yield Diagnosis(name, Health.UNKNOWN, str(error), "ask as somebody who may look there")
    except TransientError as error:
        yield Diagnosis(name, Health.UNKNOWN, str(error), "ask again when it answers")
    except (EnvironmentLacks, InputError) as error:
        yield Diagnosis(name, Health.FAILED, str(error), "see the message")


def there(view: ClusterView, wanted: Wanted) -> Examined:
    def look() -> Examined:
        if view.exists(wanted.path):
            yield Diagnosis(wanted.name, Health.OK, "it is there")
        else:
            found, mend = f"there is none at {wanted.path}", "make it: docs/kubernetes.md says how"
            yield Diagnosis(wanted.name, Health.FAILED, found, mend)

    yield from guarded(wanted.name, look)


def trial(view: ClusterView, name: str, path: str, manifest: Manifest, mend: str) -> Examined:
    """A dry run of what the platform itself would create, so that every admission controller has its say."""
    try:
        view.try_to_create(path, manifest)
    except InputError as error:
        yield Diagnosis(name, Health.FAILED, f"would be refused: {error.problems[0].message}", mend)
        return
    yield Diagnosis(name, Health.OK, f"would be accepted in {manifest['metadata']['namespace']}")


def rights(view: ClusterView, name: str, namespace: str, wanted: list[Right], hidden: Hidden) -> Examined:
    """Of whoever asks; where that is not the platform, they say nothing about it."""
    if RIGHTS in hidden:
        yield ask_from_inside(f"rights of {name}", hidden[RIGHTS])
    else:
        yield judge_rights(f"rights of {name}", namespace, {right: view.granted(right, namespace) for right in wanted})


def needed_by(places: Iterable[Place]) -> list[Wanted]:
    """What the settings name and pods of these places do not start without; once where both name the same."""
    found: dict[Wanted, None] = {}
    for place in places:
        space = f"/api/v1/namespaces/{place.namespace}"
        for secret in (*place.secrets, *place.pull_secrets):
            found[Wanted(f"secret {place.namespace}/{secret}", f"{space}/secrets/{secret}")] = None
        if (account := place.service_account) is not None:
            found[Wanted(f"account {place.namespace}/{account}", f"{space}/serviceaccounts/{account}")] = None
        if (priority := place.priority_class) is not None:
            found[Wanted(f"priority {priority}", f"/apis/scheduling.k8s.io/v1/priorityclasses/{priority}")] = None
    return list(found)


def images_of(place: Place) -> dict[str, str]:
    """{what it is for: image}"""
    if isinstance(place, ClusterJobsPlace):
        return {"jobs": place.image}
    return {"servers": place.image} | ({"vLLM": place.vllm_image} if place.vllm_image else {})


def image(view: ClusterView, place: Place, purpose: str, text: str) -> Examined:
    """Whether the registry has it, and shows it to the pods' pull secrets."""
    name, wanted, login = f"image of {purpose}", parse_image(text), None
    for secret in place.pull_secrets:
        config = view.secret(place.namespace, secret).get(".dockerconfigjson")
        login = login or (login_in(config, wanted.host) if config else None)
    try:
        has_it = has_image(wanted, login)
    except WhoAsks:
        who = "the pull secret's user" if login else "nobody in particular"
        found, mend = f"{wanted.host} shows {text} to others than {who}", f"mend the pull_secrets of {purpose}"
        yield Diagnosis(name, Health.UNKNOWN, found, mend)
        return
    if has_it:
        yield Diagnosis(name, Health.OK, f"{text} is in the registry")
    else:
        yield Diagnosis(name, Health.FAILED, f"{wanted.host} has no {text}", "build and push it: deploy/images")
