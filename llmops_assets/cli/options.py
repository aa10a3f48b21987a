"""What commands share: the platform of this shell, and the shape of their output."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

import click

from resources.home import Home, home_from
from resources.wiring import Platform, build_platform

BETWEEN_COLUMNS = 3  # a border and its blanks
LEAST_FOR_LAST = 30

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def home() -> Home:
    return home_from(os.environ, Path.cwd())


def repository() -> Path:
    return home().repository


def platform() -> Platform:
    return build_platform(home())


def show(document: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Prints the document as JSON, or lets `text` print it for people."""
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        text()


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table that breaks no word. All columns but the last are short and keep to one line; where that leaves the last
    one too little, each row is a line of its short cells, and the last cell a paragraph below it."""
    from rich.console import Console

    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    left = Console().width - sum(widths[:-1]) - BETWEEN_COLUMNS * len(widths) - 1
    if left >= min(widths[-1], LEAST_FOR_LAST):
        _print_borders(title, header, cells)
    else:
        _print_paragraphs(title, [list(header), *cells], widths)


def print_paragraph(text: str, colour: str | None = None, indent: str = "") -> None:
    """Text that may be longer than a line, broken between words alone."""
    from rich.console import Console

    whole = TextWrapper(Console().width, indent, indent, break_long_words=False, break_on_hyphens=False)
    click.secho(whole.fill(text), fg=colour)


def _print_borders(title: str, header: Sequence[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in header[:-1]:
        table.add_column(name, no_wrap=True)
    table.add_column(header[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _print_paragraphs(title: str, rows: list[list[str]], widths: list[int]) -> None:
    click.secho(title, bold=True)
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)).rstrip())
        print_paragraph(row[-1], indent="    ")
