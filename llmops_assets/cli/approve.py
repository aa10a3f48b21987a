"""`llmops approve`: sign a release with your SSH key, or refuse it."""

from datetime import UTC, datetime
from pathlib import Path

import click

from llmops_assets.cli.following import resolve
from llmops_assets.cli.options import as_json, platform, show
from llmops_assets.operations.approving import approved_subject, refuse_unknown_role, sign
from llmops_assets.operations.continuing import waits_at
from llmops_assets.release import open_release
from llmops_assets.repositories import doors_of
from llmops_core.approval import Statement
from resources.wiring import Platform


@click.command("approve")
@click.argument("model")
@click.option("--environment", type=click.Choice(["production"]), default="production", show_default=True)
@click.option("--role", required=True, help="The role you sign in, such as technical or security.")
@click.option("--key", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Default: ~/.ssh/id_ed25519.")
@click.option("--revision", help="Commit, branch or tag; default: what waits, else HEAD.")
@click.option("--refuse", is_flag=True, help="Sign a refusal instead.")
@click.option("--comment", default="", help="Why; stays beside the signature.")
@as_json
def command(
    model: str,
    environment: str,
    role: str,
    key: Path | None,
    revision: str | None,
    refuse: bool,
    comment: str,
    as_json: bool,
) -> None:
    """Sign the digests of MODEL's waiting release: weights, evaluation, data, tests, revision, deployment.

    Who may sign in which role is configured by the platform's owner (approvals in config/). A signature is bound to
    these digests; it counts for nothing else. The waiting release goes on by itself.
    """
    doors = doors_of(platform(), model)
    refuse_unknown_role(doors, role)
    release = open_release(doors, model, resolve(doors, model, revision or revision_to_sign(doors, model)))
    subject = approved_subject(release)
    decision = "refuse" if refuse else "approve"
    statement = Statement(**subject.model_dump(), role=role, decision=decision, comment=comment, at=datetime.now(UTC))
    approval = sign(doors, statement, key or Path.home() / ".ssh" / "id_ed25519")
    document = {"identity": approval.identity, **statement.model_dump(mode="json")}
    text = f"{approval.identity} signed as {role}: {decision} {model} {release.revision[:12]} for {environment}"
    show(document, as_json, lambda: click.secho(text, fg="green"))


def revision_to_sign(doors: Platform, model: str) -> str:
    """The release that waits for signatures, which a later commit may have come after; else what is checked out."""
    return waits_at(doors.ledger.facts(model), model, "approval") or resolve(doors, model, None)
