"""The platform's own key, with which it signs what it registered. Made on first use, never leaves its folder.

A platform that took in the state of another (`operations/moving.py`) keeps the other's public key beside its own, and
believes it for what was signed there: a signature says who registered a version, and that does not change by moving.
"""

from pathlib import Path

from llmops_core.registration import VERSION_NAMESPACE
from resources.wiring import Platform

IDENTITY = "llmops-platform"
PLATFORM_KEY, APPROVER_KEY = "platform", "local-approver"


def platform_key(platform: Platform) -> Path:
    key = platform.home.folder("keys") / PLATFORM_KEY
    platform.signatures.make_key(key, IDENTITY)
    return key


def platform_signers(platform: Platform) -> str:
    """An allowed_signers text that holds the platform's key, and those of platforms whose state was moved here."""
    own = f"{IDENTITY} {platform.signatures.make_key(platform_key(platform), IDENTITY)}\n"
    return own + former_signers(platform, PLATFORM_KEY, IDENTITY, VERSION_NAMESPACE)


def former_keys(platform: Platform, name: str) -> list[str]:
    """The public keys that stood under this name where state came from, oldest first."""
    folder = platform.home.root / "keys" / "former"
    return [path.read_text(encoding="utf-8").strip() for path in sorted(folder.glob(f"*-{name}.pub"))]


def former_signers(platform: Platform, name: str, identity: str, namespace: str) -> str:
    """Lines of allowed_signers for these keys, each for this namespace alone."""
    return "".join(f'{identity} namespaces="{namespace}" {key}\n' for key in former_keys(platform, name))
