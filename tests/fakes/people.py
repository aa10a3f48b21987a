"""People with real SSH keys: Grace and Ada (who writes the commits) may approve as technical, Eve holds no role."""

from datetime import UTC, datetime
from pathlib import Path

import yaml

from llmops_assets.operations.approving import approved_subject, sign
from llmops_core.approval import Statement
from resources.signatures import SshSignatures
from tests.fakes.git_with_data import AUTHOR
from tests.fakes.platform_doors import World

GRACE, EVE = "grace@example.com", "eve@example.com"


def key_of(world: World, who: str) -> Path:
    path = world.root / "people" / who
    SshSignatures().make_key(path, who)
    return path


def demand_people(world: World) -> None:
    """From the next commit on, this environment wants the signature of a person."""
    approvers = {"approvers": {who: {"production": ["technical"]} for who in (GRACE, AUTHOR)}}
    keys = {who: SshSignatures().make_key(key_of(world, who), who) for who in (GRACE, AUTHOR, EVE)}
    files = {
        "config/approvers/approvers.yaml": yaml.safe_dump(approvers),
        "config/approvers/allowed_signers": "".join(f"{who} {key}\n" for who, key in keys.items()),
    }
    world.repository.commit(files, "who may approve")
    world.repository.commit_settings("approvals", sign_locally=False)


def signed(world: World, who: str, decision: str = "approve", **changes: str) -> None:
    """Signs the release of the newest commit, or with changes, something else."""
    subject = approved_subject(world.release()).model_dump() | changes
    now = datetime.now(UTC)
    statement = Statement(**subject, role="technical", decision=decision, comment="seen", at=now)  # type: ignore[arg-type]
    sign(world.doors(), statement, key_of(world, who))
