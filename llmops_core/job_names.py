"""What a job on a cluster is called: the same name for the same work and attempt, whoever asks and however often.

A job is known by what it computes (`JobIdentity`); every try of it is an attempt with a number. The name holds both, so
that a second worker that asks for the same attempt meets "already exists" and attaches instead of starting another.
Names become labels, host names and parts of pods' names, which are longer: a TrainJob's is refused unless
`<name>-node-0-10-abcde` has at most 63 characters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_core.fingerprint import digest_of

NAME_LENGTH = 47
MANAGER = "llmops-assets"
MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_DOMAIN = "llmops.dev"
NAME_LABEL = f"{LABEL_DOMAIN}/job"
RUN_LABEL = f"{LABEL_DOMAIN}/run"
ATTEMPT_LABEL = f"{LABEL_DOMAIN}/attempt"
FINGERPRINT_ANNOTATION = f"{LABEL_DOMAIN}/fingerprint"
STORE_ANNOTATION = f"{LABEL_DOMAIN}/store"
SELECTOR = f"{MANAGED_BY}={MANAGER}"

_FINGERPRINT_DIGITS = 12
_HASH_DIGITS = 6
_LABEL_FINGERPRINT = 32
_STAGE_LENGTH = 12


@dataclass(frozen=True)
class JobIdentity:
    """`fingerprint` is 64 hexadecimal digits of all that decides the result: code, configuration and inputs."""

    model: str
    stage: str
    recipe: str
    fingerprint: str


def identify(model: str, stage: str, recipe: str, stage_fingerprint: str, order: Mapping[str, Any]) -> JobIdentity:
    """The identity of one recipe's run inside a stage; `order` is its configuration and the digests of its inputs.

    A stage may run several (evaluation asks two models), so its own fingerprint alone would give both one name.
    """
    fingerprint = digest_of({"stage": stage_fingerprint, "recipe": recipe, "order": dict(order)})
    return JobIdentity(model, stage, recipe, fingerprint)


def job_name(identity: JobIdentity, attempt: int) -> str:
    """A DNS-1035 label of at most 47 characters. Whatever had to be cut is told apart by a hash of the whole."""
    number = f"-a{attempt}"
    work = f"-{identity.fingerprint[:_FINGERPRINT_DIGITS]}-"
    room = NAME_LENGTH - len("llmops-") - len(work) - len(number)
    recipe, model = _slug(identity.recipe), _slug(identity.model)
    if recipe != identity.recipe or model != identity.model or len(recipe) > _STAGE_LENGTH:
        recipe = recipe[:_STAGE_LENGTH].strip("-")
    if model == identity.model and recipe == identity.recipe and len(model) + len(recipe) <= room:
        return f"llmops-{model}{work}{recipe}{number}"
    told = digest_of([identity.model, identity.recipe])[:_HASH_DIGITS]
    model = model[: room - len(recipe) - _HASH_DIGITS - 1].strip("-")
    return f"llmops-{model}-{told}{work}{recipe}{number}"


def labels(identity: JobIdentity, attempt: int, run_id: str) -> dict[str, str]:
    """What jobs and pods are selected by. `run_id` is the run that waits for the job now."""
    return {
        MANAGED_BY: MANAGER,
        NAME_LABEL: job_name(identity, attempt),
        RUN_LABEL: label_value(run_id),
        f"{LABEL_DOMAIN}/model": label_value(identity.model),
        f"{LABEL_DOMAIN}/stage": label_value(identity.stage),
        f"{LABEL_DOMAIN}/recipe": label_value(identity.recipe),
        f"{LABEL_DOMAIN}/fingerprint": identity.fingerprint[:_LABEL_FINGERPRINT],
        ATTEMPT_LABEL: str(attempt),
    }


def annotations(identity: JobIdentity, store: str) -> dict[str, str]:
    """What is too long for a label. `store` is where the platform exchanges its jobs: several may share a namespace,
    and none may touch what another one made."""
    return {FINGERPRINT_ANNOTATION: identity.fingerprint, STORE_ANNOTATION: store}


def label_value(text: str) -> str:
    """The text, or what may stand in a label for it: at most 63 letters, digits and - _ . between them."""
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", text):
        return text
    plain = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:48].strip("-")
    return f"{plain}-{digest_of(text)[:8]}" if plain else digest_of(text)[:8]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
