"""Approval: named people, in named roles, said yes to exactly these bytes.

A statement names everything it is bound to: the digests of weights, evaluation, data and staging tests, the revision
and the deployment. It is signed with the approver's key; a door verifies the signature and says whose key it was, so
an `Approval` is a statement plus a proven identity. One changed digest and the approval is for something else.

Who may approve comes from two lists of the trusted configuration: OpenSSH's allowed_signers (key -> identity) and the
environment's approvers (identity -> roles). Neither these lists nor the policy is read from the change under review,
and a statement cannot carry them: whoever asks for a release has no switch that makes approval unnecessary.

Limit known: self-approval is recognised by the commit's author, which Git does not prove unless commits are signed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, field_serializer, field_validator, model_validator

from llmops_core.errors import IntegrityError
from llmops_core.fields import Label, Listing, ModelName, Strict, Version
from llmops_core.fingerprint import canonical_json
from llmops_core.registration import Digest, Revision
from llmops_core.verdict import Finding, Verdict

APPROVAL_NAMESPACE = "llmops-approval"  # of the signature: a signature made for anything else is refused
CLOCK_SKEW = timedelta(minutes=5)


class Subject(Strict):
    """What is approved. Every field is bound: an approval counts only where all of them are equal."""

    model: ModelName
    version: Version
    environment: Label
    revision: Revision
    data_digest: Digest
    weights_digest: Digest
    evaluation_digest: Digest
    staging_tests_digest: Digest
    deployment_fingerprint: Digest


class Statement(Subject):
    """What one person signs. `at` is an aware time, written in UTC; a naive one is refused."""

    kind: Literal["llmops.approval/1"] = "llmops.approval/1"
    role: Label
    decision: Literal["approve", "refuse"]
    comment: Annotated[str, Field(max_length=2000)] = ""
    at: AwareDatetime

    @field_validator("at")
    @classmethod
    def _in_utc(cls, at: datetime) -> datetime:
        return at.astimezone(UTC)

    @field_serializer("at")
    def _iso(self, at: datetime) -> str:
        return at.isoformat()

    def to_bytes(self) -> bytes:
        """The canonical bytes that are signed under APPROVAL_NAMESPACE."""
        return canonical_json(self.model_dump())

    @classmethod
    def from_bytes(cls, content: bytes) -> "Statement":
        """Reads a stored statement. Raises IntegrityError for anything that to_bytes would not have written."""
        try:
            statement = cls.model_validate_json(content)
        except ValueError as error:
            raise IntegrityError(f"this is no approval statement: {error}") from error
        if statement.to_bytes() != content:
            raise IntegrityError("the approval statement is not in canonical form; what was signed was something else")
        return statement

    def unbound(self, expected: Subject) -> list[str]:
        """The names of the bound fields in which this statement is about something other than `expected`."""
        return [name for name in Subject.model_fields if getattr(self, name) != getattr(expected, name)]


@dataclass(frozen=True)
class Approval:
    """A statement whose signature a door has verified; `identity` is the principal whose key made it."""

    statement: Statement
    signature: str
    identity: str


class ApprovalPolicy(Strict):
    """Whose signatures an environment demands: one for each role, and never none. Nothing has a default."""

    roles: Listing[Label] = Field(min_length=1)
    forbid_self_approval: bool

    @model_validator(mode="after")
    def _roles_once(self) -> "ApprovalPolicy":
        if len(set(self.roles)) != len(self.roles):
            raise ValueError("a role is listed twice; list each once")
        return self


def judge(
    policy: ApprovalPolicy,
    roles_of: Mapping[str, Iterable[str]],
    approvals: Sequence[Approval],
    expected: Subject,
    requester: str | None,
    now: datetime,
) -> list[Finding]:
    """One finding per required role, plus one per refusal in another role; the worst of them is the gate's answer.

    `roles_of` maps an identity to its roles in `expected.environment`; `requester` is the author of the commit, None
    where nobody knows. Approvals may come in any order and any number of times.
    """
    if now.tzinfo is None:
        raise ValueError("the present time must say its time zone")
    faults = {a: _why_not(a, roles_of, expected) or _why_barred(a, policy, requester, now) for a in approvals}
    entitled = sorted((a for a in faults if not _why_not(a, roles_of, expected)), key=_order)
    refusals = {a.statement.role: a for a in entitled if a.statement.decision == "refuse"}
    counted = [a for a in entitled if a.statement.decision == "approve" and not faults[a]]
    chosen = _one_person_per_role(policy.roles, counted)
    findings: list[Finding] = []
    for role in [*policy.roles, *sorted(set(refusals) - set(policy.roles))]:
        if role in refusals:
            findings.append(_refused(role, refusals[role]))
        elif role in chosen:
            findings.append(Finding(role, Verdict.PASSED, f"approved by {chosen[role].identity}"))
        else:
            findings.append(_waiting(role, expected, faults))
    return findings


def _why_not(approval: Approval, roles_of: Mapping[str, Iterable[str]], expected: Subject) -> str:
    """Why a statement is not about this subject by someone entitled; empty when it is."""
    other = approval.statement.unbound(expected)
    if other:
        return f"signed for another {', '.join(other)}"
    if approval.statement.role not in set(roles_of.get(approval.identity, ())):
        return f"does not hold this role in {expected.environment}"
    return ""


def _why_barred(approval: Approval, policy: ApprovalPolicy, requester: str | None, now: datetime) -> str:
    """Why an entitled yes does not count all the same; empty when it does. A refusal always counts."""
    if approval.statement.at > now + CLOCK_SKEW:
        return f"is dated {approval.statement.at.isoformat()}, in the future"
    if not policy.forbid_self_approval:
        return ""
    if requester is None:
        return "may have written the commit: its author is not known, and self-approval is forbidden"
    if _person(approval.identity) == _person(requester):
        return "wrote the commit and may not approve it"
    return ""


def _person(identity: str) -> str:
    return identity.strip().casefold()


def _order(approval: Approval) -> tuple[datetime, str, str]:
    return approval.statement.at, approval.identity, approval.signature


def _one_person_per_role(roles: Sequence[str], approvals: Sequence[Approval]) -> dict[str, Approval]:
    """{role: approval} with as many roles filled as possible and no person twice.

    A maximum bipartite matching by augmenting paths (Kuhn 1955): giving each role to the first comer could leave a
    role open that a swap would have filled.
    """
    held: dict[str, Approval] = {}  # by person

    def place(role: str, tried: set[str]) -> bool:
        for approval in approvals:
            person = _person(approval.identity)
            if approval.statement.role != role or person in tried:
                continue
            tried.add(person)
            if person not in held or place(held[person].statement.role, tried):
                held[person] = approval
                return True
        return False

    for role in roles:
        place(role, set())
    return {approval.statement.role: approval for approval in held.values()}


def _refused(role: str, refusal: Approval) -> Finding:
    comment = refusal.statement.comment or "no reason was given"
    return Finding(role, Verdict.FAILED, f"refused by {refusal.identity}: {comment}")


def _waiting(role: str, expected: Subject, faults: Mapping[Approval, str]) -> Finding:
    """`faults` says for each approval why it does not count; one without a fault was needed for another role."""
    command = f"llmops approve {expected.model} --environment {expected.environment} --role {role}"
    notes = {
        f"{approval.identity} {fault or 'already fills another role; another person must fill this one'}"
        for approval, fault in faults.items()
        if approval.statement.role == role
    }
    return Finding(role, Verdict.INCONCLUSIVE, "; ".join([f"waiting for {role}: run `{command}`", *sorted(notes)]))
