"""The platform's own key, with which it signs what it registered.

On one machine it is made on first use, and never leaves its folder. Where several pods are the platform together, the
settings name the key that all of them are given, and a file of the repository says whose signatures count. A key that
this file does not know signs nothing: what it signed would be believed by nobody.

A platform that took in the state of another (`operations/moving.py`) keeps the other's public key beside its own, and
believes it for what was signed there: a signature says who registered a version, and that does not change by moving.
Where the settings name the signers, that file must know it.
"""

from pathlib import Path

from llmops_core.allowed_signers import keys_of
from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, Problem
from llmops_core.fingerprint import digest_of_bytes
from llmops_core.registration import VERSION_NAMESPACE
from resources.storage.publishing import publish_text
from resources.wiring import Platform

IDENTITY = "llmops-platform"
PLATFORM_KEY, APPROVER_KEY = "platform", "local-approver"


def sign_version(platform: Platform, statement: bytes) -> str:
    """A signature of the platform. Raises InputError for a key that is not there, or that nobody would believe."""
    named = platform.settings.platform.signing
    if named is None:
        return platform.signatures.sign(statement, _own_key(platform), VERSION_NAMESPACE)
    signature = platform.signatures.sign(statement, Path(named.key), VERSION_NAMESPACE)
    try:
        platform.signatures.verify(statement, signature, platform_signers(platform), VERSION_NAMESPACE)
    except IntegrityError as error:
        expected = f'a line `{IDENTITY} namespaces="{VERSION_NAMESPACE}" ` and the public half of {named.key}'
        raise InputError(Problem(named.signers, "", str(error), expected, "add it, and commit")) from None
    return signature


def platform_signers(platform: Platform) -> str:
    """An allowed_signers text: the configured file, or the platform's key and those of platforms whose state was moved
    here."""
    named = platform.settings.platform.signing
    if named is not None:
        content = platform.ruling.read_now(named.signers)
        if content is None:
            raise EnvironmentLacks(f"{named.signers} is not there: without it no version's signature counts")
        return content.decode(errors="replace")
    own = f"{IDENTITY} {platform.signatures.make_key(_own_key(platform), IDENTITY)}\n"
    return own + former_signers(platform, PLATFORM_KEY, IDENTITY, VERSION_NAMESPACE)


def public_keys(platform: Platform, name: str) -> list[str]:
    """All public keys that count under this name, as OpenSSH writes them: former ones first, and none made for this."""
    if name == PLATFORM_KEY and platform.settings.platform.signing is not None:
        return keys_of(platform_signers(platform))
    key = platform.home.root / "keys" / name
    return former_keys(platform, name) + ([platform.signatures.make_key(key, name)] if key.is_file() else [])


def take_in(platform: Platform, name: str, key: str) -> None:
    """Believes another platform's key for what was signed there. Raises InputError where a file of the repository says
    whose signatures count, and lacks it."""
    named = platform.settings.platform.signing
    if name == PLATFORM_KEY and named is not None:
        kind, text = key.split()[:2]
        if f"{kind} {text}" not in keys_of(platform_signers(platform)):
            line = f'{IDENTITY} namespaces="{VERSION_NAMESPACE}" {kind} {text}'
            message = "the versions that come in are signed with this key: add the line, commit, and import again"
            raise InputError(Problem(named.signers, "", "no line with this key", line, message))
        return
    file = f"{digest_of_bytes(key.encode())[:16]}-{name}.pub"
    publish_text(platform.home.folder("keys/former") / file, key)


def former_keys(platform: Platform, name: str) -> list[str]:
    """The public keys that stood under this name where state came from, oldest first."""
    folder = platform.home.root / "keys" / "former"
    return [path.read_text(encoding="utf-8").strip() for path in sorted(folder.glob(f"*-{name}.pub"))]


def former_signers(platform: Platform, name: str, identity: str, namespace: str) -> str:
    """Lines of allowed_signers for these keys, each for this namespace alone."""
    return "".join(f'{identity} namespaces="{namespace}" {key}\n' for key in former_keys(platform, name))


def _own_key(platform: Platform) -> Path:
    key = platform.home.folder("keys") / PLATFORM_KEY
    platform.signatures.make_key(key, IDENTITY)
    return key
