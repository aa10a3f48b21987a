"""What commands share: the platform of this shell, and the shape of their output."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from resources.home import Home, home_from
from resources.wiring import Platform, build_platform

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
    """A table that keeps whole words where the terminal is narrow."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)
