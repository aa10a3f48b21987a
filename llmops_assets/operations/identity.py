"""The platform's own key, with which it signs what it registered. Made on first use, never leaves its folder."""

from pathlib import Path

from resources.wiring import Platform

IDENTITY = "llmops-platform"


def platform_key(platform: Platform) -> Path:
    key = platform.home.folder("keys") / "platform"
    platform.signatures.make_key(key, IDENTITY)
    return key


def platform_signers(platform: Platform) -> str:
    """An allowed_signers text that holds the platform's key alone."""
    return f"{IDENTITY} {platform.signatures.make_key(platform_key(platform), IDENTITY)}\n"
