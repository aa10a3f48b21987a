"""What a Gateway's own status says: whether somebody serves it, and whether its listener has what it names.

Every implementation of the Gateway API answers with the same conditions. A Gateway that nobody looked at bears those
with which it was made, all of them `Unknown`: it is there, every API server has accepted it, and it leads nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmops_core.doctor import Diagnosis, Health

Manifest = Mapping[str, Any]


def judge_gateway(gateway: Manifest, listener: str | None) -> Diagnosis:
    """`listener` is the one that routes attach to; None for all of them."""
    named = f"gateway {gateway['metadata']['name']}"
    if faults := list(_faults(gateway, listener)):
        return Diagnosis(
            named, *min(faults, key=lambda fault: fault[0] is not Health.FAILED)
        )  # the first failure, if any
    addresses = [str(each.get("value", "")) for each in _every(_status(gateway), "addresses")]
    return Diagnosis(named, Health.OK, f"it is served at {', '.join(addresses) or 'an address that it does not tell'}")


def judge_class(name: str, found: Manifest | None) -> Diagnosis:
    """`found` is the GatewayClass that the Gateway asks for."""
    named = f"gateway class {name}"
    mend = "install an implementation of the Gateway API, and make its class: docs/kubernetes.md, step 2"
    if found is None:
        return Diagnosis(named, Health.FAILED, "the cluster has none", mend)
    accepted = _said(found).get("Accepted")
    if accepted is not None and accepted["status"] == "True":
        return Diagnosis(named, Health.OK, f"{found['spec']['controllerName']} serves it")
    why = _why(accepted) if accepted else f"{found['spec']['controllerName']} has not looked at it"
    return Diagnosis(named, Health.FAILED, why, mend)


def _faults(gateway: Manifest, listener: str | None) -> Iterator[tuple[Health, str, str]]:
    wanted, said = gateway["spec"]["gatewayClassName"], _said(gateway)
    if not said or all(condition["status"] == "Unknown" for condition in said.values()):
        yield Health.FAILED, "nobody serves it", f"see the gateway class {wanted}, and whether its controller runs"
        return
    names = [str(each["name"]) for each in gateway["spec"]["listeners"]]
    if listener is not None and listener not in names:
        mend = f"name one of {', '.join(names)} under serving.gateway.listener"
        yield Health.FAILED, f"it has no listener {listener}", mend
    yield from _unmet(said, ("Accepted", "Programmed"), "it", "see the Gateway's status, and its Service's address")
    told = {str(each["name"]): _conditions(each) for each in _every(_status(gateway), "listeners")}
    for name in [name for name in names if listener in (None, name)]:
        mend = "make what it names, such as the Secret with its certificate: docs/kubernetes.md, step 7"
        yield from _unmet(told.get(name, {}), ("ResolvedRefs", "Accepted", "Programmed"), f"listener {name}", mend)
    if any(int(each.get("observedGeneration", 0)) < _generation(gateway) for each in said.values()):
        yield Health.UNKNOWN, "its controller has not seen the last change of it", "ask again in a minute"


def _unmet(
    said: Mapping[str, Manifest], wants: Sequence[str], what: str, mend: str
) -> Iterator[tuple[Health, str, str]]:
    for kind in wants:
        if kind not in said:
            yield Health.UNKNOWN, f"nobody says whether {what} is {kind}", "see whether its controller runs"
        elif said[kind]["status"] != "True":
            health = Health.FAILED if said[kind]["status"] == "False" else Health.UNKNOWN
            yield health, f"{what} is not {kind}: {_why(said[kind])}", mend


def _why(condition: Manifest) -> str:
    return ": ".join(part for part in (str(condition.get("reason", "")), str(condition.get("message", ""))) if part)


def _said(found: Manifest) -> dict[str, Manifest]:
    return _conditions(_status(found))


def _conditions(found: Manifest) -> dict[str, Manifest]:
    return {str(each["type"]): each for each in _every(found, "conditions")}


def _every(found: Manifest, name: str) -> Sequence[Manifest]:
    several: Sequence[Manifest] | None = found.get(name)
    return several or ()


def _status(found: Manifest) -> Manifest:
    status: Manifest | None = found.get("status")
    return status or {}


def _generation(found: Manifest) -> int:
    return int(found["metadata"].get("generation", 0))
