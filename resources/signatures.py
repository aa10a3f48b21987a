"""The door to signatures: who signed exactly these bytes, for exactly this purpose.

`SshSignatures` uses OpenSSH's own program (`ssh-keygen -Y`, the SSHSIG format), because that is what people already
have keys for. A namespace in each signature says what it was made for, so that a signature over a Git commit or a
version can never be shown as an approval. Whose key made it is answered by an allowed_signers file, which may limit a
key in time (valid-before, valid-after) and to namespaces.

Nothing here asks a question on a terminal or talks to an agent: a key with a passphrase is an error that says so.
"""

import base64
import hashlib
import os
import re
import subprocess
import tempfile
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from pathlib import Path

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, Problem, TransientError, UnknownSigner
from resources.storage.disk import sync_file

_PROGRAM = "ssh-keygen"
_LIMIT_SECONDS = 20
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")

# What ssh-keygen says, and what that means for the person who reads it. The first that occurs is the reason.
_STRANGER = "its key belongs to no allowed signer"
_REASONS = {
    "key is not permitted for use in signature namespace": "the signer's key may not sign for {namespace}",
    "namespace does not match": "it was signed for another purpose than {namespace}",
    "incorrect signature": "the statement is not the one that was signed",
    "key has expired": "the signer's key has expired",
    "key is not yet valid": "the signer's key is not valid yet",
    "Couldn't parse signature": "it is no SSH signature, or is damaged",
    "invalid format": "it is no SSH signature, or is damaged",
    "No principal matched": _STRANGER,
}


class Signatures(ABC):
    """Makes keys, signs statements, and proves who signed them."""

    @abstractmethod
    def make_key(self, path: Path, comment: str) -> str:
        """The public key (one line of OpenSSH text) of the private key at `path`, which is made if it is not there."""

    @abstractmethod
    def sign(self, statement: bytes, key: Path, namespace: str) -> str:
        """An armoured signature of `statement` with the private key at `key`. Raises InputError for an unfit key."""

    @abstractmethod
    def verify(
        self,
        statement: bytes,
        signature: str,
        allowed_signers: str | Path,
        namespace: str,
        at: datetime | None = None,
    ) -> str:
        """The identity whose key signed exactly `statement` for `namespace`. Raises IntegrityError saying what fails,
        UnknownSigner naming the key when it is no allowed signer's.

        `allowed_signers` is a file, or the text of one. `at` is the aware moment at which the signer's key must be
        valid, now if None: an audit asks for the moment of the signature, as the ledger recorded it.
        """


class SshSignatures(Signatures):
    def make_key(self, path: Path, comment: str) -> str:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            self._make(path, comment)
        public = _stdout(_ssh_keygen("-y", "-P", "", "-f", str(path)), path)
        beside = path.with_name(f"{path.name}.pub")
        if not beside.is_file() or beside.read_text(encoding="utf-8") != f"{public}\n":
            with _new_folder(path.parent) as folder:
                Path(_write(Path(folder, "public"), public)).replace(beside)
        return public

    def sign(self, statement: bytes, key: Path, namespace: str) -> str:
        if not key.is_file():
            raise InputError(Problem(str(key), "", "no file", "a private SSH key", "there is no key to sign with"))
        return _stdout(_ssh_keygen("-Y", "sign", "-f", str(key), "-n", _namespace(namespace), stdin=statement), key)

    def verify(
        self,
        statement: bytes,
        signature: str,
        allowed_signers: str | Path,
        namespace: str,
        at: datetime | None = None,
    ) -> str:
        purpose, when = _namespace(namespace), _verify_time(at)
        with tempfile.TemporaryDirectory(prefix="llmops-signature-") as folder:
            signed = _write(Path(folder, "signature"), signature)
            signers = _signers(allowed_signers, Path(folder, "allowed_signers"))
            found = _ssh_keygen("-Y", "find-principals", "-s", signed, "-f", signers, *when)
            identity = _only_principal(found, signature, purpose)
            arguments = ("-Y", "verify", "-f", signers, "-I", identity, "-n", purpose, "-s", signed, *when)
            checked = _ssh_keygen(*arguments, stdin=statement)
        if checked.returncode != 0:
            raise IntegrityError(f"the signature of {identity} does not hold: {_reason(checked, purpose)}")
        return identity

    def _make(self, path: Path, comment: str) -> None:
        with _new_folder(path.parent) as folder:
            new = Path(folder, "key")
            _stdout(_ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)), path)
            sync_file(new)
            try:
                os.link(new, path)  # a rename that never replaces: of two programs that make the key, the first wins
            except FileExistsError:
                return


def _new_folder(beside: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder of this call alone, on the same disk, from which a finished file is moved into place."""
    return tempfile.TemporaryDirectory(dir=beside, prefix=".new-key-")


def _ssh_keygen(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs ssh-keygen without a terminal, an agent or a language. Raises EnvironmentLacks or TransientError."""
    environment = {name: value for name, value in os.environ.items() if name not in ("SSH_AUTH_SOCK", "DISPLAY")}
    environment |= {"LC_ALL": "C", "SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force"}
    try:
        return subprocess.run(
            [_PROGRAM, *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            timeout=_LIMIT_SECONDS,
            start_new_session=True,
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise EnvironmentLacks(f"{_PROGRAM} is not installed: install OpenSSH's client (openssh-client)") from error
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{_PROGRAM} {arguments[0]} did not end within {_LIMIT_SECONDS} s") from error


def _stdout(done: subprocess.CompletedProcess[bytes], key: Path) -> str:
    """What a program that uses a private key printed. Raises InputError saying what is wrong with the key."""
    if done.returncode == 0:
        return done.stdout.decode().strip()
    said = done.stderr.decode(errors="replace")
    if "incorrect passphrase" in said:
        found, expected = "a key with a passphrase", "a key without one: `ssh-keygen -p` removes it from a copy"
    elif "too open" in said:
        found, expected = "a file that others can read", f"mode 0600: `chmod 600 {key}`"
    else:
        found, expected = _last_line(said), "a private SSH key"
    raise InputError(Problem(str(key), "", found, expected, "the key cannot be used"))


def _only_principal(found: subprocess.CompletedProcess[bytes], signature: str, namespace: str) -> str:
    """The one name behind a key. Several, or a pattern such as `*@example.com`, are nobody in particular."""
    untraced = "the signature cannot be traced to a person"
    if found.returncode != 0:
        reason = _reason(found, namespace)
        if reason == _STRANGER:
            raise UnknownSigner(f"{untraced}: its key {_fingerprint_of_key(signature)} belongs to no allowed signer")
        raise IntegrityError(f"{untraced}: {reason}")
    names = found.stdout.decode(errors="replace").splitlines()
    if len(names) != 1 or re.search(r"[*?!,]", names[0]):
        raise IntegrityError(f"{untraced}: its key belongs to {' and '.join(names)}")
    return names[0]


def _fingerprint_of_key(signature: str) -> str:
    """The signer's public key as `ssh-keygen -l` names it. It follows the magic, the version and its own length
    (OpenSSH's PROTOCOL.sshsig)."""
    armoured = "".join(line for line in signature.splitlines() if not line.startswith("-----"))
    content = base64.b64decode(armoured)  # ssh-keygen has read it before
    length = int.from_bytes(content[10:14], "big")
    digest = hashlib.sha256(content[14 : 14 + length]).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _reason(done: subprocess.CompletedProcess[bytes], namespace: str) -> str:
    said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
    for sign, meaning in _REASONS.items():
        if sign in said:
            return meaning.format(namespace=namespace)
    return _last_line(said)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else f"{_PROGRAM} failed and said nothing"


def _namespace(namespace: str) -> str:
    if _NAMESPACE.fullmatch(namespace) is None:
        raise ValueError(f"{namespace!r} is no namespace for signatures")
    return namespace


def _verify_time(at: datetime | None) -> tuple[str, ...]:
    if at is None:
        return ()
    if at.tzinfo is None:
        raise ValueError("the time of a signature must say its time zone")
    return ("-O", f"verify-time={at.astimezone(UTC):%Y%m%d%H%M%SZ}")


def _signers(given: str | Path, copy: Path) -> str:
    if isinstance(given, str):
        return _write(copy, given)
    if not given.is_file():
        expected = "OpenSSH's allowed_signers: a line `identity keytype key` for each person"
        raise InputError(Problem(str(given), "", "no file", expected, "nobody is allowed to sign yet"))
    return str(given)


def _write(path: Path, text: str) -> str:
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)
