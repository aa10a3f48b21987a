"""What the API server refuses with 422 although the schema allows it: names, labels, required fields of pods and jobs,
choices, quantities, selectors that do not select, and fields that may not change. Only what our objects can get wrong
is here; messages are the real server's."""

import re
from typing import Any

from tests.fakes.kubernetes_errors import Cause
from tests.fakes.kubernetes_kinds import DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, Kind
from tests.fakes.kubernetes_names import DNS_LABEL, missing, of_labels, of_metadata, unsupported, wrong
from tests.fakes.kubernetes_pod_validation import of_pod_spec
from tests.fakes.kubernetes_selectors import matches

Json = dict[str, Any]

PLACEMENT = ("nodeSelector", "tolerations", "affinity", "schedulingGates")


def of_new(kind: Kind, found: Json) -> list[Cause]:
    causes = of_metadata(kind, found["metadata"])
    if kind == JOBS:
        causes += of_job(found)
    elif kind == PODS:
        causes += of_pod_spec(found["spec"], "spec")
    elif kind in (DEPLOYMENTS, REPLICA_SETS):
        causes += of_scaled(found)
    elif kind.plural in ("secrets", "configmaps"):
        causes += _of_data(found)
    return causes


def of_job(job: Json) -> list[Cause]:
    spec, template = job["spec"], job["spec"]["template"]
    causes = _of_job_numbers(job)
    if _selects_more(spec):
        causes.append(wrong("spec.selector", spec["selector"], "`selector` not auto-generated"))
    labels = (template.get("metadata") or {}).get("labels") or {}
    causes += of_labels("spec.template.labels", labels)
    if not matches(spec.get("selector"), labels):
        causes.append(wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    causes += of_pod_spec(template["spec"], "spec.template.spec")
    policy = template["spec"].get("restartPolicy")
    if policy == "Always":
        message = 'Required value: valid values: "OnFailure", "Never"'
        causes.append(("spec.template.spec.restartPolicy", "FieldValueRequired", message))
    elif policy not in ("OnFailure", "Never"):
        causes.append(unsupported("spec.template.spec.restartPolicy", policy, ("OnFailure", "Never")))
    return causes


def _of_job_numbers(job: Json) -> list[Cause]:
    spec, causes = job["spec"], []
    for field in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if spec.get(field, 0) < 0:
            causes.append(wrong(f"spec.{field}", spec[field], "must be greater than or equal to 0"))
    mode, replaced = spec["completionMode"], spec["podReplacementPolicy"]
    if mode not in ("NonIndexed", "Indexed"):
        causes.append(unsupported("spec.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed" and "completions" not in spec:
        causes.append(missing("spec.completions", "when completion mode is Indexed"))
    if mode == "Indexed" and not causes:
        causes += _of_index_names(job)
    if replaced not in ("Failed", "TerminatingOrFailed"):
        causes.append(unsupported("spec.podReplacementPolicy", replaced, ("Failed", "TerminatingOrFailed")))
    return causes


def _of_index_names(job: Json) -> list[Cause]:
    name, last = job["metadata"].get("name", ""), job["spec"]["completions"] - 1
    pod = f"{name}-{last}"
    if last < 0 or (re.fullmatch(DNS_LABEL, pod) and len(pod) <= 63):
        return []
    return [wrong("metadata.name", name, f"will not able to create pod with invalid DNS label: {pod}")]


def _selects_more(spec: Json) -> bool:
    """Does the selector of a job have more than the server generated?"""
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    return not spec.get("manualSelector") and len(labels) > 1


def of_scaled(found: Json) -> list[Cause]:
    spec, causes = found["spec"], []
    selector = spec.get("selector")
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not selector:
        causes.append(missing("spec.selector"))
    if not selector or not matches(selector, labels):
        causes.append(wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    causes += of_pod_spec(spec["template"]["spec"], "spec.template.spec")
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy != "Always":
        causes.append(unsupported("spec.template.spec.restartPolicy", policy, ("Always",)))
    return causes


def _of_data(found: Json) -> list[Cause]:
    rule = (
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
        "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
    )
    keys = [*(found.get("data") or {}), *(found.get("binaryData") or {})]
    return [wrong(f"data[{key}]", key, rule) for key in keys if not re.fullmatch(r"[-._a-zA-Z0-9]+", key)]


def of_change(kind: Kind, found: Json, before: Json) -> list[Cause]:
    """Fields that may not change."""
    causes = []
    if kind == JOBS:
        old, new = before["spec"], found["spec"]
        suspended = bool(old.get("suspend")) and "startTime" not in before.get("status", {})
        fixed = ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy"]
        if not suspended:
            fixed.append("template")
        elif _fixed_part(old["template"]) != _fixed_part(new["template"]):
            causes.append(_immutable("spec.template.spec", new["template"]["spec"]))
        fixed += [] if new.get("completionMode") == "Indexed" else ["completions"]
        causes += [_immutable(f"spec.{name}", new.get(name)) for name in fixed if old.get(name) != new.get(name)]
    elif kind == DEPLOYMENTS and before["spec"]["selector"] != found["spec"].get("selector"):
        causes.append(_immutable("spec.selector", found["spec"].get("selector")))
    elif (
        kind.plural in ("configmaps", "secrets") and before.get("immutable") and found.get("data") != before.get("data")
    ):
        causes.append(("data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"))
    return causes


def of_leaving(metadata: Json, before: Json) -> list[Cause]:
    """What is being deleted takes no new finalizers."""
    new = [name for name in metadata.get("finalizers") or [] if name not in (before.get("finalizers") or [])]
    if "deletionTimestamp" not in before or not new:
        return []
    listed = ", ".join(f'"{name}"' for name in new)
    why = "no new finalizers can be added if the object is being deleted, found new finalizers"
    return [("metadata.finalizers", "FieldValueForbidden", f"Forbidden: {why} []string{{{listed}}}")]


def _fixed_part(template: Json) -> Json:
    """All but where a suspended job shall run, which a queue may still decide."""
    return {name: value for name, value in template["spec"].items() if name not in PLACEMENT}


def _immutable(field: str, value: Any) -> Cause:
    return wrong(field, value, "field is immutable")


def warnings_of(kind: Kind, found: Json) -> list[str]:
    """What the server takes but warns of."""
    if kind in (PODS, JOBS) and "." in found["metadata"].get("name", ""):
        rule = "this is used in Pod names and hostnames, which can result in surprising behavior"
        return [f"metadata.name: {rule}; a DNS label is recommended: [must not contain dots]"]
    return []
