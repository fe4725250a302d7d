"""Options of the commands, made from the choices in `landmark_dir.options`."""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click

from landmark_dir.choices import Choice, choices
from landmark_dir.io.text_files import NUMBER
from landmark_dir.io.volumes import read_with_warnings
from landmark_dir.options import DEFAULTS, RegisterOptions

PATH = click.Path(path_type=Path)
Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number in ASCII digits: Python alone would take 1_000, nan and digits of other scripts."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "integer" if kind is int else "float"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The number that a word is, or a sentence."""
        form = WHOLE if self.kind is int else NUMBER
        if isinstance(value, str) and not form.fullmatch(value):
            self.fail(f"expected a {'whole ' if self.kind is int else ''}number, found {value!r}")
        return self.kind(value)


WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
TYPES: dict[type, Any] = {int: Number(int), float: Number(float), str: click.STRING}
CHOICES = {name: (default, said) for name, default, said in choices(DEFAULTS)}
TISSUES = {
    "rigid": "Label map on FIXED's grid of what must not deform (bone, implant, firm lesion): each "
    "connected part of a label moves as one rigid body.",
    "ignore": "Image file on FIXED's grid, non-zero where tissue changed, such as a lesion that "
    "grew: no voxel and no landmark there counts.",
    "ignore_moving": "The same on MOVING's grid.",
}
# of what comes after the landmarks are found
AFTERWARDS = ("preset", "bending_energy", "landmark_weight", "start", "hold_back")


def _numbers(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(TYPES[float].convert(part.strip(), None, None) for part in value.split(","))
    except click.BadParameter as error:
        raise click.BadParameter(
            f"expected a number, or one per resolution with commas, found {value!r}"
        ) from error


def _option(name: str, default: Any, said: Choice) -> Callable[[Command], Command]:
    """One choice as an option of a command."""
    flag = f"--{name.replace('_', '-')}"
    text = f"{said.help}  [default: {said.unset}]" if said.unset else said.help
    if said.kind is bool:
        both = f"{flag}/--no-{flag.removeprefix('--')}"
        return click.option(both, default=default, show_default=True, help=text)
    if said.kind is tuple:
        given = ",".join(f"{value:g}" for value in default)
        return click.option(
            flag, callback=_numbers, default=given, show_default=True, metavar="NUMBERS", help=text
        )
    kind = click.Choice(said.among) if said.among else TYPES[said.kind]
    return click.option(
        flag, type=kind, default=default, show_default=default is not None, help=text
    )


def register_options(*, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Every choice of `RegisterOptions` that the command line has, but those named."""

    def add(command: Command) -> Command:
        for name, (default, said) in reversed(CHOICES.items()):
            if said.on_command_line and name not in without:
                command = _option(name, default, said)(command)
        return command

    return add


def only(*names: str) -> Callable[[Command], Command]:
    """The choices named, and no other."""
    return register_options(without=set(CHOICES) - set(names))


def options_of(group: object) -> Callable[[Command], Command]:
    """Every choice of another group of options."""

    def add(command: Command) -> Command:
        for name, default, said in reversed(list(choices(group))):
            command = _option(name, default, said)(command)
        return command

    return add


def pair_options(command: Command) -> Command:
    """Options of every command that reads two volumes."""
    for option in reversed(
        [
            click.option("-o", "--out", required=True, type=PATH, help="Run folder to create."),
            click.option(
                "--fixed-mask",
                type=PATH,
                help="Image file, non-zero where fixed voxels count, on FIXED's grid.",
            ),
            click.option(
                "--moving-mask",
                type=PATH,
                help="Image file, non-zero where moving voxels count, on MOVING's grid.",
            ),
            click.option(
                "--fixed-series",
                help="ID of the DICOM series to read where FIXED holds several; ID#2: its second"
                " acquisition.",
            ),
            click.option(
                "--moving-series",
                help="ID of the DICOM series to read where MOVING holds several; ID#2: its second"
                " acquisition.",
            ),
            click.option("--overwrite", is_flag=True, help="Replace an earlier run folder."),
            click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
        ]
    ):
        command = option(command)
    return command


def tissue_options(command: Command) -> Command:
    """Options that say which tissue is not to be deformed, or not to be looked at."""
    for name, text in reversed(TISSUES.items()):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, type=PATH, metavar="MASK", help=text)(command)
    return command


def split(given: dict[str, Any]) -> tuple[dict[str, Any], RegisterOptions]:
    """Arguments of the call, with volumes read where a series was named, and the options."""
    chosen = {name: given.pop(name) for name in list(given) if name in CHOICES}
    options = RegisterOptions.of(**chosen)  # checked before anything is read
    for side in ("fixed", "moving"):
        series = given.pop(f"{side}_series", None)
        if series is not None:
            given[side] = read_with_warnings(given[side], series)
    return given, options
