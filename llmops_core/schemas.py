"""The JSON Schemas that editors use for model.yaml and config/*.yaml: `python -m llmops_core.schemas model|settings`.

They are written from the pydantic models and committed; a test fails when they are stale. Rules between fields are not
in them: an editor shows the shape, `llmops validate` judges the whole.
"""

import json
import sys
from typing import Any

from llmops_core.model_spec import ModelSpec
from llmops_core.settings import Settings

FILES = {"model": "models/model.schema.json", "settings": "config/settings.schema.json"}
_MODELS = {"model": ModelSpec, "settings": Settings}
_TITLES = {"model": "models/<name>/model.yaml", "settings": "config/<environment>.yaml"}


def schema_text(which: str) -> str:
    """The file's text. `which` is a key of FILES."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_MODELS[which].model_json_schema(),
        "title": _TITLES[which],
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> str | None:
    """Writes the named schema to standard output; returns what is wrong with the arguments, or None."""
    if len(arguments) != 1 or arguments[0] not in FILES:
        return f"usage: python -m llmops_core.schemas {'|'.join(FILES)}"
    sys.stdout.write(schema_text(arguments[0]))
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
