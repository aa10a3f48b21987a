"""What every implementation of the door to signatures keeps, the fake too."""

from pathlib import Path

import pytest

from llmops_core.errors import InputError, IntegrityError
from resources.signatures import Signatures, SshSignatures
from tests.fakes.signatures import FakeSignatures

PURPOSE = "llmops-approval"


@pytest.fixture(params=[SshSignatures, FakeSignatures])
def door(request: pytest.FixtureRequest) -> Signatures:
    return request.param()


def allowed(*people: tuple[str, str]) -> str:
    """An allowed_signers text from (identity, public key) pairs."""
    return "".join(f"{identity} {' '.join(public.split()[:2])}\n" for identity, public in people)


def test_the_signer_is_named_for_what_was_signed(door: Signatures, tmp_path: Path) -> None:
    ada, ben = tmp_path / "ada", tmp_path / "ben"
    signers = allowed(("ada@example.com", door.make_key(ada, "a")), ("ben@example.com", door.make_key(ben, "b")))
    for key, identity in ((ada, "ada@example.com"), (ben, "ben@example.com")):
        assert door.verify(b"text", door.sign(b"text", key, PURPOSE), signers, PURPOSE) == identity


def test_a_key_is_made_once_and_stays(door: Signatures, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "local"
    first = door.make_key(path, "local")
    before = path.read_bytes()
    assert door.make_key(path, "local") == first
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("other", [b"", b"Text", b"text\n", b"text\0"])
def test_a_changed_statement_is_found(door: Signatures, tmp_path: Path, other: bytes) -> None:
    signers = allowed(("ada@example.com", door.make_key(tmp_path / "ada", "a")))
    with pytest.raises(IntegrityError, match="not the one that was signed"):
        door.verify(other, door.sign(b"text", tmp_path / "ada", PURPOSE), signers, PURPOSE)


def test_a_signature_for_another_purpose_is_found(door: Signatures, tmp_path: Path) -> None:
    signers = allowed(("ada@example.com", door.make_key(tmp_path / "ada", "a")))
    with pytest.raises(IntegrityError, match="another purpose than llmops-approval"):
        door.verify(b"text", door.sign(b"text", tmp_path / "ada", "git"), signers, PURPOSE)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_stranger_is_not_an_approver(door: Signatures, tmp_path: Path, as_file: bool) -> None:
    text = allowed(("ada@example.com", door.make_key(tmp_path / "ada", "a")))
    door.make_key(tmp_path / "eve", "ada@example.com")
    signers = tmp_path / "allowed_signers"
    signers.write_text(text)
    with pytest.raises(IntegrityError, match="no allowed signer"):
        door.verify(b"text", door.sign(b"text", tmp_path / "eve", PURPOSE), signers if as_file else text, PURPOSE)


def test_nobody_allowed_means_nobody_verifies(door: Signatures, tmp_path: Path) -> None:
    door.make_key(tmp_path / "ada", "a")
    with pytest.raises(IntegrityError, match="no allowed signer"):
        door.verify(b"text", door.sign(b"text", tmp_path / "ada", PURPOSE), "", PURPOSE)


@pytest.mark.parametrize("damaged", ["", "no signature", "-----BEGIN SSH SIGNATURE-----\nU1NI"])
def test_a_damaged_signature_is_said_to_be_damaged(door: Signatures, tmp_path: Path, damaged: str) -> None:
    signers = allowed(("ada@example.com", door.make_key(tmp_path / "ada", "a")))
    with pytest.raises(IntegrityError, match="damaged"):
        door.verify(b"text", damaged, signers, PURPOSE)


def test_a_missing_key_is_said_to_be_missing(door: Signatures, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no key to sign with"):
        door.sign(b"text", tmp_path / "nobody", PURPOSE)
