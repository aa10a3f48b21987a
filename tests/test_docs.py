"""The pages stay true: commands that they show exist with these options, and what they point at is there."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from llmops_assets.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```.*?$(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TICKED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?|[\w.-]+/")
SOURCE = (".py", ".md", ".yaml", ".toml", ".sh")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_a_shown_command_does_not_exist_or_has_no_such_option(page: Path) -> None:
    for line in commands(page, "llmops"):
        assert misuse(line) == "", f"{page.name}: {line}"


@pages
def test_a_shown_make_target_does_not_exist(page: Path) -> None:
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands(page, "make"):
        targets = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
        assert targets and set(targets) <= made, f"{page.name}: {line}"


@pages
def test_a_link_or_picture_leads_nowhere(page: Path) -> None:
    for target in LINK.findall(without_blocks(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, heading = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name}: {target}"
        assert not heading or heading in headings(found), f"{page.name}: {target}"


@pages
def test_a_named_path_of_the_repository_is_gone(page: Path) -> None:
    for path in named_paths(without_blocks(page)):
        assert (ROOT / path).exists() or path.rstrip("/") in made_by_dvc(), f"{page.name}: {path}"


def test_a_field_of_model_yaml_is_not_explained() -> None:
    schema = json.loads((ROOT / "models" / "model.schema.json").read_text())
    sections = [schema, *schema["$defs"].values()]
    fields = {name for section in sections for name in section.get("properties", {})}
    told = set(re.findall(r"\w+", " ".join(TICKED.findall((ROOT / "docs" / "model-yaml.md").read_text()))))
    assert fields - told == set()


def test_a_command_is_not_in_the_readme() -> None:
    shown = set(re.findall(r"`llmops (\w+)", (ROOT / "README.md").read_text()))
    assert set(main.list_commands(click.Context(main))) == shown


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("llmops releas atlas-qa", "no such command"),
        ("llmops status --jsn", "No such option"),
        ("llmops audit", "needs model"),
        ("llmops audit atlas-qa other", "too much"),
        ("llmops approve atlas-qa", "needs role"),
        ("llmops audit atlas-qa --json", ""),
    ],
)
def test_the_check_of_commands_itself(line: str, fault: str) -> None:
    assert (fault in misuse(line)) if fault else misuse(line) == ""


def test_the_check_of_paths_itself() -> None:
    text = (
        "`resources/wiring.py` `/v1/models` `.llmops/logs/` `docs/none.md` `gone/away.py` `a / b` `keys/` `tests/e2e/`"
    )
    assert list(named_paths(text)) == ["resources/wiring.py", "docs/none.md", "gone/away.py", "tests/e2e/"]


def misuse(line: str) -> str:
    """What the command line's own parser has against this line; nothing is run. Empty: nothing."""
    _, *words = shlex.split(line, comments=True)
    name = words[0] if words else ""
    command = main.get_command(click.Context(main), name)
    if command is None:
        return f"no such command: {name}"
    try:
        given, left, _ = command.make_parser(click.Context(command)).parse_args(words[1:])
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"too much: {left}"
    return ", ".join(
        f"needs {p.name}" for p in command.params if p.required and not isinstance(given.get(p.name or ""), str)
    )


def commands(page: Path, program: str) -> Iterator[str]:
    """The lines of the page's blocks that call the program, without a prompt; continued lines are joined."""
    for block in FENCED.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            call = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            if call.split(" ", 1)[0] == program:
                yield call


def without_blocks(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def named_paths(text: str) -> Iterator[str]:
    """What stands in backticks and reads as a path of this repository; not state, routes, patterns or programs."""
    top = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") or path.name in (".ci", ".dvc")}
    for ticked in TICKED.findall(text):
        if PATH.fullmatch(ticked) and (ticked.split("/")[0] in top or ticked.endswith(SOURCE)):
            yield ticked


def made_by_dvc() -> set[str]:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {out for stage in stages.values() for out in stage["outs"]}
