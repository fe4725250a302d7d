"""What is written of patients: hashes instead of ids, and texts without what tells who it is."""

import hashlib
import re
from collections.abc import Collection, Iterable

SHORTEST_HASH = 8  # hexadecimal digits; longer if two patients share them
DATE = re.compile(
    r"(?<!\d)(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:\d{4}|\d{2})"
    r"|(?:19|20)\d{6})(?!\d)"
)
SHORTEST_PART = 3  # letters; shorter ones count as whole words only, or "Li" would be in "Liver"


def labels(patients: Iterable[str], keep_ids: bool) -> dict[str, str]:
    """Return what each patient is called: a hash of the id, as short as tells them apart, or it."""
    patients = set(patients)
    if keep_ids:
        return {patient: plain(patient) for patient in patients}
    hashes = {patient: _hash(patient) for patient in patients}
    length = SHORTEST_HASH
    while len({one[:length] for one in hashes.values()}) < len(hashes):
        length += 1
    return {patient: one[:length] for patient, one in hashes.items()}


def case_names(called: dict[str, str]) -> dict[str, str]:
    """Return the same as names without blanks and signs, still one for each patient."""
    names = {
        patient: re.sub(r"[^\w.-]+", "_", label).strip(".-") or "_"
        for patient, label in called.items()
    }
    taken = [name.casefold() for name in names.values()]  # some file systems do not tell them apart
    hashes = labels(called, keep_ids=False)
    return {
        patient: name if taken.count(name.casefold()) == 1 else f"{name}-{hashes[patient]}"
        for patient, name in names.items()
    }


def tells_who(text: str, private: Collection[str]) -> bool:
    """Tell whether a text holds one of the private words."""
    return any(_as_part(word).search(text) for word in private)


def without(text: str, private: Collection[str]) -> str:
    """Return a text on one line, without the private words and without dates."""
    for word in sorted(private, key=len, reverse=True):
        text = _as_part(word).sub(" ", text)
    return plain(DATE.sub(" ", text))


def plain(text: str) -> str:
    """Return a text on one line, with blanks for what cannot be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def private_words(patient: str, name: str, birth_date: str) -> set[str]:
    """Return what tells who a patient is; a name in DICOM has its parts between ^ and =."""
    words = {patient, birth_date, name, *re.split(r"[\^=\s,]+", name)}
    return {word for word in words if len(word) > 1}


def _hash(patient: str) -> str:
    return hashlib.sha256(patient.encode("utf-8", "surrogateescape")).hexdigest()


def _as_part(word: str) -> re.Pattern[str]:
    escaped = re.escape(word)
    if len(word) < SHORTEST_PART:
        escaped = rf"(?<![^\W_]){escaped}(?![^\W_])"
    return re.compile(escaped, re.IGNORECASE)
