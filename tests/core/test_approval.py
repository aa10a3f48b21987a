"""Approval: what counts, what never counts, and that nobody can switch it off."""

import inspect
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops_core.approval import Approval, ApprovalPolicy, Statement, Subject, judge
from llmops_core.approvers import load_approvers
from llmops_core.errors import InputError, IntegrityError
from llmops_core.verdict import Finding, Verdict, overall

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SUBJECT = Subject(
    model="atlas-qa",
    version="1.2.0",
    environment="production",
    revision="a" * 40,
    data_digest="1" * 64,
    weights_digest="2" * 64,
    evaluation_digest="3" * 64,
    staging_tests_digest="4" * 64,
    deployment_fingerprint="5" * 64,
)
OTHER = {
    "model": "other",
    "version": "1.2.1",
    "environment": "staging",
    "revision": "b" * 40,
    "data_digest": "e" * 64,
    "weights_digest": "e" * 64,
    "evaluation_digest": "e" * 64,
    "staging_tests_digest": "e" * 64,
    "deployment_fingerprint": "e" * 64,
}
ADA, BEN, CAT = "ada@example.com", "ben@example.com", "cat@example.com"
ROLES = {
    ADA: {"technical", "security"},
    BEN: {"technical", "security", "business"},
    CAT: {"business", "legal"},
}
ONE = ApprovalPolicy(roles=("technical",), forbid_self_approval=True)
THREE = ApprovalPolicy(roles=("technical", "security", "business"), forbid_self_approval=True)


def says(identity: str, role: str = "technical", decision: str = "approve", **changes: Any) -> Approval:
    bound = {**SUBJECT.model_dump(), "role": role, "decision": decision, "comment": "", "at": NOW, **changes}
    return Approval(Statement.model_validate(bound), "signature", identity)


def judged(policy: ApprovalPolicy, *approvals: Approval, requester: str | None = "dev@example.com") -> list[Finding]:
    return judge(policy, ROLES, approvals, SUBJECT, requester, NOW)


def test_an_entitled_persons_yes_to_the_exact_subject_passes() -> None:
    findings = judged(ONE, says(ADA))
    assert [(f.name, f.verdict) for f in findings] == [("technical", Verdict.PASSED)]
    assert ADA in findings[0].reason


def test_nothing_signed_waits_and_says_which_command_to_run() -> None:
    (finding,) = judged(ONE)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "waiting for technical: run `llmops approve atlas-qa --environment production --role technical`" in (
        finding.reason
    )


@pytest.mark.parametrize("field", list(Subject.model_fields))
def test_one_changed_bound_field_invalidates_and_is_named(field: str) -> None:
    (finding,) = judged(ONE, says(ADA, **{field: OTHER[field]}))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert f"signed for another {field}" in finding.reason


def test_a_refusal_of_other_bytes_does_not_count_either() -> None:
    findings = judged(ONE, says(ADA), says(BEN, decision="refuse", weights_digest="e" * 64))
    assert overall(findings) is Verdict.PASSED


def test_a_role_that_the_signer_does_not_hold_does_not_count() -> None:
    (finding,) = judged(ONE, says(CAT))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "does not hold this role in production" in finding.reason


def test_a_stranger_counts_for_nothing_even_when_refusing() -> None:
    assert overall(judged(ONE, says(ADA), says("eve@example.com", decision="refuse"))) is Verdict.PASSED


def test_a_refusal_beats_any_number_of_approvals() -> None:
    (finding,) = judged(ONE, says(ADA), says(BEN, decision="refuse", comment="leaks names"), says(BEN))
    assert finding.verdict is Verdict.FAILED
    assert "leaks names" in finding.reason and BEN in finding.reason


def test_a_refusal_in_a_role_that_was_not_asked_for_still_stops() -> None:
    findings = judged(ONE, says(ADA), says(CAT, "legal", "refuse"))
    assert [(f.name, f.verdict) for f in findings] == [("technical", Verdict.PASSED), ("legal", Verdict.FAILED)]


def test_the_author_may_refuse_but_not_approve() -> None:
    (finding,) = judged(ONE, says(ADA), requester="Ada@Example.com ")
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "wrote the commit and may not approve it" in finding.reason
    assert overall(judged(ONE, says(ADA, decision="refuse"), requester=ADA)) is Verdict.FAILED


def test_an_unknown_author_is_not_taken_for_somebody_else() -> None:
    (finding,) = judged(ONE, says(ADA), requester=None)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "author is not known" in finding.reason


def test_self_approval_counts_only_where_the_policy_allows_it() -> None:
    policy = ApprovalPolicy(roles=("technical",), forbid_self_approval=False)
    assert overall(judged(policy, says(ADA), requester=ADA)) is Verdict.PASSED


def test_one_person_does_not_fill_two_roles() -> None:
    policy = ApprovalPolicy(roles=("technical", "security"), forbid_self_approval=True)
    findings = judged(policy, says(ADA), says(ADA, "security"))
    assert sorted(f.verdict for f in findings) == [Verdict.PASSED, Verdict.INCONCLUSIVE]
    assert "another person must fill this one" in " ".join(f.reason for f in findings)


def test_one_person_does_not_fill_two_roles_by_writing_the_address_differently() -> None:
    policy = ApprovalPolicy(roles=("technical", "security"), forbid_self_approval=True)
    roles = {ADA: {"technical"}, ADA.upper(): {"security"}}
    findings = judge(policy, roles, [says(ADA), says(ADA.upper(), "security")], SUBJECT, None, NOW)
    assert overall(findings) is Verdict.INCONCLUSIVE


def test_roles_are_shared_out_so_that_all_are_filled_where_that_is_possible() -> None:
    """The first comer for `technical` is the only one for `business`: a greedy choice would leave it open."""
    approvals = [says(BEN), says(BEN, "business"), says(ADA), says(ADA, "security")]
    policy = ApprovalPolicy(roles=("technical", "business"), forbid_self_approval=True)
    assert overall(judged(policy, *approvals)) is Verdict.PASSED


def test_a_statement_from_the_future_does_not_count() -> None:
    (finding,) = judged(ONE, says(ADA, at=NOW + timedelta(hours=1)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "in the future" in finding.reason


def test_a_naive_time_is_refused_on_either_side() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        says(ADA, at=datetime(2026, 3, 1))
    with pytest.raises(ValueError, match="time zone"):
        judge(ONE, ROLES, [says(ADA)], SUBJECT, None, datetime(2026, 3, 1))


def test_the_requester_has_no_switch_that_makes_approval_unnecessary() -> None:
    """The fault of the source texts: `require_approval=False` in the request itself."""
    with pytest.raises(ValidationError):  # a statement carries no such switch
        Statement.model_validate({**says(ADA).statement.model_dump(), "at": NOW, "approval_required": False})
    with pytest.raises(ValidationError):  # nor does what is approved
        Subject.model_validate({**SUBJECT.model_dump(), "require_approval": False})
    assert all(p.default is inspect.Parameter.empty for p in inspect.signature(judge).parameters.values())
    for missing in ("roles", "forbid_self_approval"):  # silence is no policy
        said = {"roles": ("technical",), "forbid_self_approval": False}
        said.pop(missing)
        with pytest.raises(ValidationError):
            ApprovalPolicy.model_validate(said)


@pytest.mark.parametrize(("roles", "message"), [((), "at least 1 item"), (("a", "a"), "twice")])
def test_a_policy_that_nobody_or_one_person_twice_could_meet_is_refused(roles: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ApprovalPolicy(roles=roles, forbid_self_approval=True)


def test_a_statement_survives_storage_byte_for_byte() -> None:
    statement = says(ADA, comment="gut für Œuvre").statement
    assert Statement.from_bytes(statement.to_bytes()) == statement


def test_the_same_moment_in_another_zone_is_the_same_statement() -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert says(ADA, at=local).statement.to_bytes() == says(ADA).statement.to_bytes()


def _bytes(**changes: object) -> bytes:
    return json.dumps({**json.loads(says(ADA).statement.to_bytes()), **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        _bytes(),  # the right content with spaces: not what was signed
        _bytes(kind="llmops.version/1"),
        _bytes(at="2026-03-01T12:00:00"),
        _bytes(at=1772366400),
        _bytes(role=1),
        _bytes(extra=1),
        says(ADA).statement.to_bytes().replace(b'{"at"', b'{"role":"security","at"'),  # a key twice
    ],
)
def test_what_is_not_exactly_a_statement_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        Statement.from_bytes(content)


people = st.sampled_from([ADA, BEN, CAT, "eve@example.com"])
role_names = st.sampled_from(["technical", "security", "business", "legal"])
decisions = st.sampled_from(["approve", "approve", "approve", "refuse"])
statements = st.lists(st.builds(says, people, role_names, decisions), max_size=8)


@given(statements, st.randoms())
def test_neither_order_nor_repetition_changes_the_answer(approvals: list[Approval], random: Any) -> None:
    shuffled = approvals + approvals[: len(approvals) // 2]
    random.shuffle(shuffled)
    assert judged(THREE, *shuffled) == judged(THREE, *approvals)


@given(statements)
def test_all_roles_pass_exactly_when_distinct_people_can_fill_them(approvals: list[Approval]) -> None:
    entitled = [a for a in approvals if a.statement.role in ROLES.get(a.identity, ())]
    can = any(
        len({one.identity, two.identity, three.identity}) == 3
        for one in entitled
        for two in entitled
        for three in entitled
        if (one.statement.role, two.statement.role, three.statement.role) == THREE.roles
        and {one.statement.decision, two.statement.decision, three.statement.decision} == {"approve"}
    )
    refused = any(a.statement.decision == "refuse" for a in entitled)
    verdict = overall(judged(THREE, *approvals))
    assert (verdict is Verdict.PASSED) == (can and not refused)
    assert (verdict is Verdict.FAILED) == refused


@given(statements, st.sampled_from(list(Subject.model_fields)))
def test_nothing_signed_before_a_change_counts_after_it(approvals: list[Approval], field: str) -> None:
    changed = SUBJECT.model_copy(update={field: OTHER[field]})
    verdicts = {f.verdict for f in judge(THREE, ROLES, approvals, changed, None, NOW)}
    assert verdicts == {Verdict.INCONCLUSIVE}


GOOD = b"""
approvers:
  ada@example.com:
    staging: [technical]
    production: [technical, security]
  ben@example.com: {staging: [business]}
"""


def test_roles_hold_only_in_the_environment_they_are_given_for() -> None:
    approvers = load_approvers(GOOD, "approvers.yaml")
    assert approvers.roles_in("production") == {ADA: frozenset({"technical", "security"})}
    assert approvers.roles_in("staging") == {ADA: frozenset({"technical"}), BEN: frozenset({"business"})}
    assert approvers.roles_in("nowhere") == {}


@pytest.mark.parametrize(
    "content",
    [
        b"approvers: {'*@example.com': {production: [technical]}}",
        b"approvers: {'a@example.com,b@example.com': {production: [technical]}}",
        b"approvers: {a@example.com: [technical]}",
        b"approvers: {a@example.com: {production: technical}}",
        b"people: {}",
        b"{}",
        b"[",
    ],
)
def test_a_list_of_approvers_that_is_unclear_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"approvers\.yaml"):
        load_approvers(content, "approvers.yaml")
