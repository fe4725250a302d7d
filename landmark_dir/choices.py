"""What an option may be, and dataclasses of options that check themselves.

`choice` gives a field its default, its limits and the sentence that explains it. The check, the
docstring and the command line option are all made from that.
"""

import dataclasses
import math
import numbers
import os
from collections.abc import Iterator
from dataclasses import field
from typing import Any, NamedTuple, TypeVar

from landmark_dir.errors import BadArgument

Group = TypeVar("Group")


class Choice(NamedTuple):
    """What a field may be and what it means."""

    kind: type  # bool, int, float, str, or tuple of floats
    help: str
    among: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    unset: str = ""  # what None means; empty: None is not allowed
    on_command_line: bool = True

    def fault(self, value: Any) -> str | None:
        """What was expected instead of a value; None if the value is allowed."""
        if value is None and self.unset:
            return None
        if self.among:
            return None if value in self.among else f"one of {', '.join(self.among)}"
        parts = value if self.kind is tuple and isinstance(value, tuple) else (value,)
        if not parts or not all(_is_a(part, self.kind) for part in parts):
            return EXPECTED[self.kind]
        if self.low is None:
            return None
        high = math.inf if self.high is None else self.high
        if all(self.low <= part <= high and math.isfinite(part) for part in parts):
            return None
        return f"{self.low} or more" if self.high is None else f"{self.low} to {self.high}"


EXPECTED = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a name or a file",
    tuple: "a tuple of one or more numbers",
}
TYPES: dict[type, type | tuple[type, ...]] = {
    int: numbers.Integral,
    float: numbers.Real,
    str: (str, os.PathLike),
    tuple: numbers.Real,
}


def _is_a(value: Any, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, TYPES[kind])


def choice(default: Any, kind: type, help: str, **limits: Any) -> Any:
    """A field of options: its default, its kind, and the sentence that explains it.

    Parameters
    ----------
    among : tuple of str
        All that it may be.
    low, high : float
        Least and largest value.
    unset : str
        What None stands for, if it is allowed.
    on_command_line : bool
        Whether the commands have it.
    """
    return field(default=default, metadata={"choice": Choice(kind, help, **limits)})


def choices(group: Any) -> Iterator[tuple[str, Any, Choice]]:
    """Name, default and `Choice` of each field of a group of options, and of groups within it."""
    for one in dataclasses.fields(group):
        if "choice" in one.metadata:
            yield one.name, one.default, one.metadata["choice"]
        else:
            yield from choices(one.default_factory)  # a group


def documented(group: type[Group]) -> type[Group]:
    """Append what each choice means to the docstring of a group."""
    lines = [group.__doc__ or "", "", "    Attributes", "    ----------"]
    for one in dataclasses.fields(group):  # type: ignore[arg-type]
        if "choice" in one.metadata:
            said: Choice = one.metadata["choice"]
            text = f"{said.help} None: {said.unset}." if said.unset else said.help
            lines += [f"    {one.name} : {said.kind.__name__}", f"        {text}"]
        else:
            lines += [f"    {one.name} : {one.default_factory.__name__}"]  # type: ignore[union-attr]
    group.__doc__ = "\n".join([*lines, "    "])
    return group


def _check(options: Any) -> None:
    """Refuse a field that is not what its choice allows.

    Raises
    ------
    BadArgument
        With the name of the field, what was expected and what was found.
    """
    for one in dataclasses.fields(options):
        value = getattr(options, one.name)
        if "choice" in one.metadata:
            expected = one.metadata["choice"].fault(value)
        else:
            group: Any = one.default_factory
            expected = None if isinstance(value, group) else f"{group.__name__}(...)"
        if expected is not None:
            found = value if isinstance(value, int | float) else repr(value)
            raise BadArgument(f"{one.name}: expected {expected}, found {found}")


class Checked:
    """Options that check themselves."""

    def __post_init__(self) -> None:
        _check(self)
