"""Text files, read strictly and written in one form."""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from landmark_dir.errors import BadPoints, LandmarkDirError
from landmark_dir.geometry import FARTHEST_MM

MOST_BYTES = 1 << 26  # a million points
# float() takes more: 1_000, nan, digits of other scripts
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SIGNS = "0123456789+-.eE"
BLANKS = " \t\n"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")  # Python takes some for the end of a line, others not


def floats(words: Sequence[str]) -> list[float] | None:
    """The numbers that words are, as `NUMBER` has it; None if one is none. Quick for millions."""
    if "".join(words).strip(_SIGNS):  # strips all where there is nothing else
        return None
    try:
        return list(map(float, words))
    except ValueError:
        return None


def numbers(words: list[str], count: int, where: str) -> list[float]:
    """The `count` numbers, in mm, that words are; `where` says in which file and line they stand.

    Raises
    ------
    BadPoints
        If one is no number, or too large to be a place.
    """
    words = [word.strip(BLANKS) for word in words]
    if len(words) != count or not all(NUMBER.fullmatch(word) for word in words):
        raise BadPoints(f"{where}: expected {count} numbers, found {quoted(' '.join(words))}")
    values = [float(word) for word in words]
    if not all(map(is_place, values)):
        raise BadPoints(
            f"{where}: expected numbers up to {FARTHEST_MM:g} mm, found {quoted(' '.join(words))}"
        )
    return values


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value of JSON is a finite number; True, "1" and 1e400 are none."""
    return type(value) in (int, float) and abs(value) < float("inf")  # type: ignore[arg-type]


def is_place(value: object) -> TypeGuard[float]:
    """Tell whether a value of JSON is a coordinate that can be true, mm."""
    return is_number(value) and abs(value) <= FARTHEST_MM


def quoted(text: str) -> str:
    """A text for a message, cut short."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def told(value: object) -> str:
    """A value of JSON for a message, cut short."""
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else quoted(str(value))


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """The content of a UTF-8 file, with line feeds alone, or a sentence that says why not.

    Parameters
    ----------
    most : int
        Bytes; larger files are refused.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise BadPoints(f"{path}: expected a text file of at most {most >> 20} MiB")
        text = content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise BadPoints(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # also a name with a zero in it
        raise BadPoints(f"{path}: expected a text file, found binary data") from error
    if CONTROL.search(text):
        raise BadPoints(f"{path}: expected a text file, found control characters")
    return text


def hashed(text: str) -> str:
    """A short hash of an id that may not be written down; empty for an empty one."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16] if text else ""


def json_value(text: str) -> Any:
    """The value that a text is in JSON.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file with Unix line ends, or say why not."""
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise LandmarkDirError(f"{path}: cannot be written ({error.strerror})") from error
    except UnicodeEncodeError as error:
        raise LandmarkDirError(f"{path}: cannot be written, a label is no text") from error


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write these columns of rows as CSV; a cell that a row lacks is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
