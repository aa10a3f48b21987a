"""Signatures without cryptography: a registry of who signed what, with the answers of the real door."""

import hashlib
import json
from datetime import datetime
from pathlib import Path

from llmops_core.errors import InputError, IntegrityError, Problem, UnknownSigner
from resources.signatures import Signatures


class FakeSignatures(Signatures):
    """Keys are files with a name in them; a signature is the JSON of what was signed, by whom and what for."""

    def __init__(self) -> None:
        self.signed: list[tuple[bytes, str]] = []

    def make_key(self, path: Path, comment: str) -> str:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"fake {hashlib.sha256(str(path).encode()).hexdigest()} {comment}")
            path.chmod(0o600)
        return path.read_text()

    def sign(self, statement: bytes, key: Path, namespace: str) -> str:
        if not key.is_file():
            raise InputError(Problem(str(key), "", "no file", "a key", "there is no key to sign with"))
        self.signed.append((statement, namespace))
        signer = key.read_text().split()[1]
        return json.dumps({"of": hashlib.sha256(statement).hexdigest(), "by": signer, "for": namespace})

    def verify(
        self,
        statement: bytes,
        signature: str,
        allowed_signers: str | Path,
        namespace: str,
        at: datetime | None = None,
    ) -> str:
        text = allowed_signers.read_text() if isinstance(allowed_signers, Path) else allowed_signers
        identities = {words[-1]: words[0] for words in map(str.split, text.splitlines()) if words}
        try:
            made = json.loads(signature)
        except ValueError as error:
            raise IntegrityError("it is no SSH signature, or is damaged") from error
        if made["by"] not in identities:
            raise UnknownSigner(f"its key {made['by']} belongs to no allowed signer")
        if made["for"] != namespace:
            raise IntegrityError(f"it was signed for another purpose than {namespace}")
        if made["of"] != hashlib.sha256(statement).hexdigest():
            raise IntegrityError("the statement is not the one that was signed")
        return identities[made["by"]]
