"""Each `run.json` that the tests write is held against the schema that ships."""

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = json.loads((files("landmark_dir.io") / "run.schema.json").read_text("utf-8"))
validator = Draft202012Validator(SCHEMA)


def complaints(record: Any) -> list[str]:
    """What a record has that the schema does not say, each with its place."""
    found = validator.iter_errors(record)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]
