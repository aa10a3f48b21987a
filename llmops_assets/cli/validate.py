"""`llmops validate`: every model.yaml and config file of the working tree, all problems at once."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from llmops_assets.cli.options import as_json, print_paragraph, repository, show
from llmops_core.errors import Problem
from llmops_core.validation import PLAIN_FILE, trusted_files, validate

PATTERNS = ("models/*/model.y*ml", "config/*.y*ml", "**/dvc.yaml", "**/dvc.lock", "**/*.dvc")
JUDGED = "models/*/model.yaml, config/*.yaml, the lists of approvers, or DVC's pointers"


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@as_json
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Check models/*/model.yaml and config/*.yaml (or only PATHS) against the schema and the rules between them.

    Exit 0: all is well. Exit 1: each problem with file, field, what was found and what was expected; also where a path
    holds nothing to check.
    """
    top = repository()
    files = {str(path.relative_to(top)): path.read_bytes() for path in _inputs(top)}
    named = {file: _kind(top / file) for file in trusted_files(files)}
    files |= {file: (top / file).read_bytes() for file, kind in named.items() if kind == PLAIN_FILE}
    others = {file: kind for file, kind in named.items() if kind not in (None, PLAIN_FILE)}
    problems = validate(files, others=others | _below_models(top))
    if paths:
        problems = _of_paths(top, paths, [*files], problems)
    rows = [problem.as_dict() for problem in problems]
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
    return sorted(p for p in found if not _hidden(p.relative_to(top)) and _kind(p) == PLAIN_FILE)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _kind(path: Path) -> str | None:
    """What stands there, None for nothing. A file behind a link is none of this repository's: a commit lacks it."""
    if path.is_symlink() or (path.exists() and path.resolve() != path):
        return "a symbolic link" if path.is_symlink() else "a file behind a symbolic link"
    if not path.exists():
        return None
    if path.is_dir():
        return "a folder"
    return PLAIN_FILE if path.is_file() else "a pipe, socket or device"


def _below_models(top: Path) -> dict[str, str]:
    """{path: what it is} of what stands in folders under models/; folders in them count where they hold a file."""
    found: dict[str, str] = {}
    for path in top.glob("models/*/*"):
        kind = _kind(path)
        holds = kind != "a folder" or path.name == "model.yaml" or any(not p.is_dir() for p in path.rglob("*"))
        if kind is not None and holds and not _hidden(path.relative_to(top)):
            found[str(path.relative_to(top))] = kind
    return found


def _of_paths(top: Path, paths: tuple[Path, ...], judged: list[str], problems: list[Problem]) -> list[Problem]:
    """The problems below the paths that somebody named, and those of the paths themselves."""
    chosen = {path: _relative(top, path) for path in paths}
    kept = [p for p in problems if any(each is not None and _below(p.file, each) for each in chosen.values())]
    known = [*judged, *(problem.file for problem in problems)]
    return [*_bad_paths(top, chosen, known), *kept]


def _bad_paths(top: Path, chosen: dict[Path, str | None], known: list[str]) -> Iterator[Problem]:
    for path, relative in chosen.items():
        if relative is None:
            message = "only files of the repository are judged; choose another"
            yield Problem(str(path), "", "a path outside of the repository", f"a path in {top}", message)
        elif not os.path.lexists(top / relative):  # also what can be no path, such as too long a one
            yield Problem(
                str(path), "", "no such file", "an existing file or folder", "there is nothing; check the path"
            )
        elif not any(_below(file, relative) for file in known):
            message = "nothing there is validated; name one of the files that are, or a folder around them"
            yield Problem(str(path), "", "nothing to validate", JUDGED, message)


def _relative(top: Path, path: Path) -> str | None:
    """Below the repository, or None. A link at the end is not followed: it is judged as the link that it is."""
    found = Path.cwd() / path
    link = os.path.islink(found)  # noqa: PTH114 (Path raises for what can be no path)
    found = found.parent.resolve() / found.name if link else found.resolve()
    return str(found.relative_to(top)) if found.is_relative_to(top) else None


def _below(file: str, folder: str) -> bool:
    return folder == "." or file == folder or file.startswith(f"{folder}/")
