"""`llmops validate`: every model.yaml and config file of the working tree, all problems at once."""

from pathlib import Path

import click

from llmops_assets.cli.options import as_json, print_paragraph, repository, show
from llmops_core.errors import InputError, Problem
from llmops_core.validation import validate

PATTERNS = ("models/*/model.y*ml", "config/*.y*ml", "**/dvc.yaml", "**/dvc.lock", "**/*.dvc")


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@as_json
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Check models/*/model.yaml and config/*.yaml (or only PATHS) against the schema and the rules between them.

    Exit 0: all is well. Exit 1: each problem with file, field, what was found and what was expected.
    """
    top = repository()
    files = {str(path.relative_to(top)): path.read_bytes() for path in _inputs(top)}
    chosen = [_relative(top, path) for path in paths]
    problems = validate(files)
    rows = [p.as_dict() for p in problems if not chosen or any(_below(p.file, each) for each in chosen)]
    show(rows, as_json, lambda: _print(rows))
    ctx.exit(1 if rows else 0)


def _print(rows: list[dict[str, str]]) -> None:
    if not rows:
        click.secho("All model.yaml and config files are valid.", fg="green")
        return
    click.echo(f"{len(rows)} problem{'s' if len(rows) > 1 else ''}:")
    for row in rows:
        print_paragraph(str(Problem(**row)), indent="  ")


def _inputs(top: Path) -> list[Path]:
    """The files that say what should be; nothing below folders whose name begins with a dot, and no symbolic links."""
    found = {path for pattern in PATTERNS for path in top.glob(pattern)}
    return sorted(p for p in found if p.is_file() and not p.is_symlink() and not _hidden(p.relative_to(top)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _relative(top: Path, path: Path) -> str:
    found = (Path.cwd() / path).resolve()
    if not found.is_relative_to(top):
        raise InputError(
            Problem(str(path), "", "a path outside of the repository", f"a path in {top}", "choose another")
        )
    if not found.exists():
        raise InputError(Problem(str(path), "", "no such file", "an existing file or folder", "check the path"))
    return str(found.relative_to(top))


def _below(file: str, folder: str) -> bool:
    return folder == "." or file == folder or file.startswith(f"{folder}/")
