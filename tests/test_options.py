"""Options: each choice said once, checked when made, and on the command line with its help."""

import pathlib
import re

import click
import numpy as np
import pytest
from click.testing import CliRunner

from landmark_dir.choices import choices
from landmark_dir.cli.main import main
from landmark_dir.elastix.engines import INSTALL
from landmark_dir.elastix.parameters import bundled, resolutions
from landmark_dir.errors import BadArgument
from landmark_dir.options import (
    DEFAULTS,
    ENGINES,
    PRESETS,
    MatchingOptions,
    OutlierOptions,
    RegisterOptions,
)

NAMES = [name for name, *_ in choices(DEFAULTS)]


def test_flat_names_differ_and_reach_their_group() -> None:
    assert len(NAMES) == len(set(NAMES))
    options = RegisterOptions.of(threads=2, min_score=0.7, landmark_weight=(1.0,), affine=False)
    assert options.compute.threads == 2
    assert options.matching == MatchingOptions(min_score=0.7)
    assert not options.affine
    assert (
        options.but(threads=None, min_score=None, landmark_weight=(0.1,), affine=True) == DEFAULTS
    )
    assert list(options.flat()) == NAMES
    whole = RegisterOptions.of(outliers=OutlierOptions(floor_mm=2.0))
    assert whole.flat()["floor_mm"] == 2.0


def test_numpy_numbers_and_paths_are_numbers_and_names() -> None:
    options = RegisterOptions.of(threads=np.int64(2), min_score=np.float32(0.25))
    assert options.compute.threads == 2
    weights = pathlib.Path("mine.safetensors")
    assert RegisterOptions.of(weights=weights).flat()["weights"] == "mine.safetensors"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(BadArgument, match="thread: unknown option; expected .*threads"):
        RegisterOptions.of(thread=2)


def test_facts_that_stand_elsewhere_too_agree() -> None:
    assert tuple(INSTALL) == ENGINES
    for preset in PRESETS.values():
        if preset.parameters is not None:
            assert resolutions(bundled(preset.parameters)) == preset.resolutions


def test_docstrings_say_what_each_choice_means() -> None:
    said = RegisterOptions.__doc__ or ""
    assert "affine : bool\n        Run an affine stage first." in said
    assert "low" not in NAMES
    assert "Least score of a pair" in (MatchingOptions.__doc__ or "")


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_explains_every_option_and_cuts_nothing_short(command: str) -> None:
    said = CliRunner().invoke(main, [command, "--help"]).output
    assert "..." not in re.sub(r"\[OPTIONS\]|\[FIXED\] \[MOVING\]", "", said)
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_list_of_commands_cuts_nothing_short() -> None:
    said = CliRunner().invoke(main, ["--help"], terminal_width=100).output
    listed = said.split("Commands:")[1]
    assert "..." not in listed
    for command in main.commands:
        assert command in listed


def test_every_choice_is_an_option_of_register() -> None:
    there = {parameter.name for parameter in main.commands["register"].params}
    for name, default, said in choices(DEFAULTS):
        assert (name in there) == said.on_command_line
        if name in there and said.kind is not tuple:
            (option,) = (p for p in main.commands["register"].params if p.name == name)
            assert option.default == default
