"""Text files, read strictly and written in one form."""

import re
from pathlib import Path

from landmark_dir.errors import BadPoints, LandmarkDirError

MOST_BYTES = 1 << 26  # a million points
# float() takes more: 1_000, nan, digits of other scripts
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def numbers(words: list[str], count: int, where: str) -> list[float]:
    """The numbers that `count` words are; `where` says to a person in which file and line."""
    if len(words) != count or not all(NUMBER.fullmatch(word.strip()) for word in words):
        raise BadPoints(f"{where}: expected {count} numbers, found {quoted(' '.join(words))}")
    return [float(word) for word in words]


def quoted(text: str) -> str:
    """A text for a message, cut short."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """The content of a UTF-8 file of at most `most` bytes, or a sentence that says why not."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise BadPoints(f"{path}: expected a text file of at most {most >> 20} MiB")
        return content.decode("utf-8")
    except OSError as error:
        raise BadPoints(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # also a name with a zero in it
        raise BadPoints(f"{path}: expected a text file, found binary data") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file with Unix line ends, or say why not."""
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise LandmarkDirError(f"{path}: cannot be written ({error.strerror})") from error
