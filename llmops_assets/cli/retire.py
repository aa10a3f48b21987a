"""`llmops retire`: end a model whose folder was removed; what it was stays provable."""

import getpass
import os
from dataclasses import asdict

import click

from llmops_assets.cli.options import as_json, platform, show
from llmops_assets.operations.retiring import Retired, retire


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


@click.command("retire")
@click.argument("model")
@click.option("--reason", default="asked for by a person", help="Written into the ledger.")
@click.option("--by", default=_login, show_default="your login", help="Who ends it; written into the ledger.")
@click.option("--even-though-committed", is_flag=True, help="End it although its folder is still in the newest commit.")
@as_json
def command(model: str, reason: str, by: str, even_though_committed: bool, as_json: bool) -> None:
    """End MODEL in production and staging: its routes and servers go; artefacts, versions and facts stay.

    Refused while models/MODEL is in the newest commit of the branch. The same command again finishes one that was
    killed, and changes nothing when all is done.

    Exit 0: nothing of it serves. Exit 1: not ended, and why.
    """
    done = retire(platform(), model, by, reason, even_though_committed)
    show(asdict(done), as_json, lambda: click.secho(_told(done), fg="green"))


def _told(done: Retired) -> str:
    ended = " and ".join(f"version {version} in {name}" for name, version in done.ended.items())
    if not ended:
        return f"Nothing of {done.model} serves; {done.by} ended it on {done.at[:10]} ({done.reason})."
    return f"{done.model} is ended: {ended} served until now. Artefacts, versions and facts are kept."
