"""`llmops`: what the Dagster UI does, for terminals and CI. Every command takes --json and ends with an exit code.

Nothing here imports dagster, mlflow or torch: a command that asks for a status answers in a fraction of a second.
"""

import json
import sys
from typing import Any

import click

from llmops_core.errors import InputError, LlmopsError

WRONG_USAGE = 64  # as sysexits.h has it; click's own 2 is a verdict of `llmops audit`


class Commands(click.Group):
    """Imports a command's module when it is called, and turns purposeful errors into one message and an exit code."""

    names = ("run", "validate", "plan", "serve", "stop", "release", "status", "approve", "rollback")
    names += ("retire", "feedback", "cost", "audit", "doctor")
    names += ("export", "import")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        from importlib import import_module

        module = "import_" if cmd_name == "import" else cmd_name  # Python keeps that word to itself
        return import_module(f"llmops_assets.cli.{module}").command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LlmopsError as error:
            report(error)
            ctx.exit(error.exit_code)
        except click.UsageError as error:
            if "--json" in sys.argv:
                click.echo(json.dumps({"error": error.format_message(), "problems": []}, indent=2))
            error.show()
            ctx.exit(WRONG_USAGE)


def report(error: LlmopsError) -> None:
    """One clear error: as text on standard error, and as JSON on standard output where JSON was asked for."""
    problems = [problem.as_dict() for problem in error.problems] if isinstance(error, InputError) else []
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": str(error), "problems": problems}, indent=2))
    click.secho(f"Error: {error}", err=True, fg="red")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="llmops-assets")
def main() -> None:
    """Run your own language models: from a commit to a proven model in production, and back.

    State lives in LLMOPS_HOME (default: .llmops in the repository); ports start at LLMOPS_PORT_BASE (default: 8600);
    LLMOPS_ENVIRONMENT names the file in config/ that rules (default: local).
    """
