"""Approvals in and out of the ledger. Who may approve is read from the platform's own checkout, or from the head of the
branch that it follows, never from the revision under review. It is read anew each time: who may no longer approve has
not approved."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from llmops_assets.operations.identity import APPROVER_KEY, former_signers
from llmops_assets.release import Release
from llmops_core.approval import APPROVAL_NAMESPACE, Approval, ApprovalPolicy, Statement, Subject, judge
from llmops_core.approvers import load_approvers
from llmops_core.errors import EnvironmentLacks, GateRefused, InputError, IntegrityError, Problem
from llmops_core.promotion import require
from llmops_core.settings import Role, Settings
from llmops_core.verdict import Finding
from resources.wiring import Platform

ENVIRONMENT = "production"
LOCAL_IDENTITY = "local-approver@localhost"


def approved_subject(release: Release) -> Subject:
    """What an approver of this release says yes to. Raises GateRefused while there is nothing to approve yet."""
    evidence = release.evidence()
    require("approval", evidence)
    version = evidence["registered_version"].body
    facts = version["facts"]
    return Subject(
        model=release.model,
        version=version["semver"],
        environment=ENVIRONMENT,
        revision=release.revision,
        data_digest=facts["data_digest"],
        weights_digest=facts["weights_digest"],
        evaluation_digest=facts["evaluation_digest"],
        staging_tests_digest=evidence["staging_tests"].body["digest"],
        deployment_fingerprint=release.fingerprints["canary"],
    )


def policy_of(ruling: Settings, released: Settings) -> ApprovalPolicy:
    """What the environment demands by the platform's own checkout (`ruling`). The revision under review may demand
    more roles, never fewer, and never that its author may approve."""
    roles = dict.fromkeys((*ruling.approvals.required, *released.approvals.required))
    return ApprovalPolicy(roles=tuple(roles), forbid_self_approval=not ruling.approvals.sign_locally)


def findings_of(release: Release, subject: Subject, approvals: Sequence[Approval]) -> list[Finding]:
    """What the environment's policy says of these approvals at this moment."""
    platform = release.platform
    policy = policy_of(platform.settings, release.inputs.production)
    author = platform.source.commit(release.revision).email
    return judge(policy, trusted_roles(platform), approvals, subject, author, datetime.now(UTC))


def refuse_unknown_role(platform: Platform, role: str) -> None:
    """Raises InputError for a role that no environment can demand and nobody holds."""
    known = {*get_args(Role), *(held for roles in trusted_roles(platform).values() for held in roles)}
    if role not in known:
        expected = f"one of: {', '.join(sorted(known))}"
        raise InputError(Problem("approval", "--role", role, expected, "there is no such role; name another"))


def sign(platform: Platform, statement: Statement, key: Path) -> Approval:
    """Signs, verifies against the trusted signers, and writes the approval down."""
    content = statement.to_bytes()
    signature = platform.signatures.sign(content, key, APPROVAL_NAMESPACE)
    identity = platform.signatures.verify(content, signature, trusted_signers(platform), APPROVAL_NAMESPACE)
    if statement.role not in trusted_roles(platform).get(identity, frozenset()):
        raise GateRefused("approval", f"{identity} does not hold the role {statement.role} in {statement.environment}")
    body = {"statement": content.decode(), "signature": signature}
    platform.ledger.append("approved", model=statement.model, subject="approval", body=body)
    return Approval(statement, signature, identity)


def sign_locally(platform: Platform, subject: Subject, roles: Iterable[str]) -> None:
    """Fills each of these roles that is still open with this machine's own key; only where the settings say so."""
    if not platform.settings.approvals.sign_locally:
        raise GateRefused("approval", f"{platform.settings.name} does not sign for itself")
    known = {a.statement.role for a in approvals_of(platform, subject.model) if not a.statement.unbound(subject)}
    platform.signatures.make_key(local_key(platform), LOCAL_IDENTITY)
    for role in roles:
        if role not in known:
            comment = "signed by the local environment's own key"
            statement = Statement(
                **subject.model_dump(), role=role, decision="approve", comment=comment, at=datetime.now(UTC)
            )
            sign(platform, statement, local_key(platform))


def approvals_of(platform: Platform, model: str) -> list[Approval]:
    """Every recorded approval whose signature holds today. Others count for nothing: a key that was withdrawn since
    must not open a gate, nor close it for ever to those who sign now."""
    found: list[Approval] = []
    signers = trusted_signers(platform)
    for fact in platform.ledger.facts(model):
        if fact.kind == "approved":
            content = str(fact.body["statement"]).encode()
            signature = str(fact.body["signature"])
            at = datetime.fromisoformat(fact.at)
            try:
                identity = platform.signatures.verify(content, signature, signers, APPROVAL_NAMESPACE, at)
                found.append(Approval(Statement.from_bytes(content), signature, identity))
            except IntegrityError:
                continue
    return found


def trusted_signers(platform: Platform) -> str:
    """The text of allowed_signers: the configured file, and the machine's own key where it may sign."""
    approvals = platform.settings.approvals
    content = platform.ruling.read_now(approvals.signers)
    if content is None:
        raise EnvironmentLacks(f"{approvals.signers} is not there: without it nobody's signature counts")
    configured = content.decode(errors="replace")
    if not approvals.sign_locally:
        return configured
    public = platform.signatures.make_key(local_key(platform), LOCAL_IDENTITY)
    own = f'{configured}\n{LOCAL_IDENTITY} namespaces="{APPROVAL_NAMESPACE}" {public}\n'
    return own + former_signers(platform, APPROVER_KEY, LOCAL_IDENTITY, APPROVAL_NAMESPACE)


def trusted_roles(platform: Platform) -> Mapping[str, frozenset[str]]:
    """{identity: roles in production}."""
    approvals = platform.settings.approvals
    content = platform.ruling.read_now(approvals.approvers)
    if content is None:
        raise EnvironmentLacks(f"{approvals.approvers} is not there: it says who may approve in which role")
    roles = load_approvers(content, approvals.approvers).roles_in(ENVIRONMENT)
    return {**roles, LOCAL_IDENTITY: frozenset(get_args(Role))} if approvals.sign_locally else roles


def local_key(platform: Platform) -> Path:
    return platform.home.folder("keys") / APPROVER_KEY
