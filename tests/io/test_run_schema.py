"""The schema of `run.json`: sound, and strict enough to notice what it does not say.

Every record that a test writes is held against it, too (`conftest.py`).
"""

import copy
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from run_schema import SCHEMA, complaints

GRID = {
    "size_xyz": [4, 4, 4],
    "spacing_mm": [1.0, 1.0, 2.5],
    "origin_mm": [0.0, -3.5, 10.0],
    "direction": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
}
RECORD = {
    "landmark_dir": "0.2.0",
    "finished": "2026-11-26T12:00:00+00:00",
    "inputs": {"fixed": {"path": None, **GRID}, "moving": {"path": None, **GRID}},
    "options": {"threads": None, "landmark_weight": [0.1], "preset": "fast"},
    "versions": {"python": "3.11.7", "SimpleITK": "2.5.7"},
    "weights": None,
    "start": {
        "from": "world",
        "turn_degrees": 0.0,
        "matrix": [1, 0, 0, 0, 1, 0, 0, 0, 1],
        "shift_mm": [0, 0, 0],
        "agreeing": None,
        "of": None,
    },
    "metrics": {"landmarks": 0},
    "seconds": {"affine": 2.1},
    "cpu_seconds": {"affine": 3.9},
    "warnings": [],
}


def test_the_schema_is_one_and_takes_a_record() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert complaints(RECORD) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("inputs"), "'inputs' is a required property"),
        (lambda r: r.update(more=1), "'more' was unexpected"),
        (lambda r: r["metrics"].update(tre=1), "'tre' was unexpected"),
        (lambda r: r["metrics"].update(landmarks=-1), "-1 is less than the minimum"),
        (lambda r: r["inputs"]["fixed"].update(size_xyz=[4, 4]), "is too short"),
        (lambda r: r.update(verdict={"verdict": "fine", "reasons": ["x"]}), "'fine' is not one of"),
        (lambda r: r.update(finished="today"), "'today' does not match"),
    ],
)
def test_what_it_does_not_say_is_noticed(change: Any, said: str) -> None:
    record = copy.deepcopy(RECORD)
    change(record)
    (found,) = complaints(record)
    assert said in found
