"""What ITK has to say while it reads: heard, instead of lost on the screen."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

OBJECT = re.compile(r"^\w+ \(0x[0-9a-f]+\): ")  # which object of ITK speaks, and its address


class _Ear(sitk.LoggerBase):  # type: ignore[misc]  # SimpleITK has no types
    """Keeps ITK's warnings, each as one line without the place in ITK's code."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def DisplayWarningText(self, t: str) -> None:
        lines = [line.strip() for line in t.splitlines()]
        said = " ".join(line for line in lines if line and not line.startswith("WARNING: In "))
        sentence = f"ITK says: {OBJECT.sub('', said)}"
        if said and sentence not in self.heard:
            self.heard.append(sentence)

    def DisplayText(self, t: str) -> None:
        self.DisplayWarningText(t)

    DisplayErrorText = DisplayGenericOutputText = DisplayText

    def DisplayDebugText(self, t: str) -> None:
        pass


@contextmanager
def heard_from_itk() -> Iterator[list[str]]:
    """Collect ITK's warnings while the block runs; its own way to show them comes back after."""
    ear = _Ear()
    before = ear.SetAsGlobalITKLogger()
    try:
        yield ear.heard
    finally:
        before.SetAsGlobalITKLogger()
