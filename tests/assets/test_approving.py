"""Approvals: real SSH signatures by real keys, bound to digests, by people whom the platform's own checkout trusts."""

import pytest

from llmops_assets.operations.approving import approvals_of, approved_subject, policy_of, sign_locally
from llmops_core.errors import EnvironmentLacks, GateRefused, IntegrityError
from llmops_core.settings import load_settings
from tests.fakes.git_with_data import AUTHOR, ROOT
from tests.fakes.people import EVE, GRACE, signed
from tests.fakes.platform_doors import UNTIL_APPROVAL, World

TESTED = UNTIL_APPROVAL[:-1]


def _granted(world: World) -> bool:
    return world.materialize("approval").success


def test_nobody_signed_and_the_release_went_on(tested: World) -> None:
    assert not _granted(tested)
    command = "llmops approve tiny --environment production --role technical"
    assert f"waiting for technical: run `{command}`" in tested.reasons("approval")[0]


def test_the_signature_of_the_right_person_did_not_count(tested: World) -> None:
    signed(tested, GRACE)
    assert _granted(tested)
    fact = tested.release().evidence()["approval"]
    assert [a["identity"] for a in fact.body["approvals"]] == [GRACE]


def test_a_refusal_did_not_stop_the_release(tested: World) -> None:
    signed(tested, GRACE)
    assert _granted(tested)
    signed(tested, GRACE, "refuse")
    assert not _granted(tested)
    assert tested.reasons("approval")[-1].endswith(f"refused by {GRACE}: seen")


def test_the_author_of_the_commit_approved_it(tested: World) -> None:
    signed(tested, AUTHOR)
    assert not _granted(tested)
    assert "wrote the commit and may not approve it" in tested.reasons("approval")[0]


def test_an_approval_of_other_weights_counted(tested: World) -> None:
    signed(tested, GRACE, weights_digest="0" * 64)
    assert not _granted(tested)
    assert "signed for another weights_digest" in tested.reasons("approval")[0]


def test_an_approval_was_carried_over_to_the_next_commit(tested: World) -> None:
    signed(tested, GRACE)
    tested.repository.commit_model("training", seed=3)
    assert tested.materialize(*TESTED).success
    assert not _granted(tested)


def test_a_key_that_nobody_knowssigned(tested: World) -> None:
    with pytest.raises(IntegrityError, match=r"its key SHA256:\S+ belongs to no allowed signer"):
        signed(tested, "mallory@example.com")
    assert approvals_of(tested.doors(), "tiny") == []


def test_a_known_person_signed_in_a_role_that_is_not_theirs(tested: World) -> None:
    with pytest.raises(GateRefused, match=r"eve@example\.com does not hold the role technical"):
        signed(tested, EVE)


def test_a_commit_under_review_made_its_author_an_approver(tested: World) -> None:
    """Whom to trust is read from the platform's checkout; a branch that says otherwise changes nothing."""
    file = tested.repository.path / "config/approvers/allowed_signers"
    trusted = file.read_text()
    file.write_text("\n".join(line for line in trusted.splitlines() if not line.startswith(GRACE)))
    with pytest.raises(IntegrityError):
        signed(tested, GRACE)


def test_a_key_that_was_withdrawn_since_still_opened_the_gate(tested: World) -> None:
    signed(tested, GRACE)
    assert _granted(tested)
    file = tested.repository.path / "config/approvers/allowed_signers"
    trusted = file.read_text()
    file.write_text("")
    assert not _granted(tested)
    assert "waiting for technical" in tested.reasons("approval")[-1]
    file.write_text(trusted)
    assert _granted(tested)


def test_an_old_key_that_was_withdrawn_closed_the_gate_for_ever(tested: World) -> None:
    """The first version was signed by this machine's key, which nobody trusts any more."""
    assert [f.kind for f in tested.doors().ledger.facts("tiny")].count("approved") == 1
    signed(tested, GRACE)
    assert _granted(tested)


def test_approvers_that_are_missing_meant_that_everybody_may(tested: World) -> None:
    (tested.repository.path / "config/approvers/approvers.yaml").unlink()
    with pytest.raises(EnvironmentLacks, match="it says who may approve"):
        signed(tested, GRACE)
    (tested.repository.path / "config/approvers/allowed_signers").unlink()
    with pytest.raises(EnvironmentLacks, match="nobody's signature counts"):
        signed(tested, GRACE)


def test_the_platform_signed_for_itself_where_people_must(tested: World) -> None:
    with pytest.raises(GateRefused, match="does not sign for itself"):
        sign_locally(tested.doors(), approved_subject(tested.release()), ["technical"])


def test_a_revision_that_allows_itself_local_signatures_wassigned(tested: World) -> None:
    """The checkout demands people; a branch whose settings say sign_locally must not open its own gate."""
    strict = (tested.repository.path / "config/local.yaml").read_text()
    tested.repository.commit_settings("approvals", sign_locally=True)
    assert tested.materialize(*TESTED).success
    (tested.repository.path / "config/local.yaml").write_text(strict)
    assert load_settings(strict.encode(), "config/local.yaml").approvals.sign_locally is False
    assert not _granted(tested)


def test_something_was_approved_before_it_was_tested(begun: World) -> None:
    with pytest.raises(GateRefused, match="no current dataset"):
        approved_subject(begun.release())


def test_a_branch_lowered_what_its_own_release_needs() -> None:
    """Fewer roles, or an author who may approve: neither is for the revision under review to say."""
    text = (ROOT / "config" / "local.yaml").read_text().replace("[technical]", "[security, technical]")
    ruling = load_settings(text.replace("sign_locally: true", "sign_locally: false").encode(), "config/local.yaml")
    lenient = load_settings((ROOT / "config" / "local.yaml").read_bytes(), "config/local.yaml")
    policy = policy_of(ruling, lenient)
    assert policy.roles == ("security", "technical") and policy.forbid_self_approval
    assert policy_of(lenient, ruling).roles == ("technical", "security")  # it may demand more
