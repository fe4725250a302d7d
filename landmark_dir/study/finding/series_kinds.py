"""What kind a CT series is, as far as its tags tell: no scan of the body, soft or sharp kernel."""

import re

from pydicom.uid import SecondaryCaptureImageStorage

from landmark_dir.io.dicom_series import Header
from landmark_dir.study.finding.exams import SHARP, SOFT, UNKNOWN

# whole words in ImageType or SeriesDescription -> what it is instead of a scan
OTHER_KINDS = {
    r"LOCALI[SZ]ER|SCOUT|TOPOGRAM|TOPO|SURVIEW|SCANOGRAM": "a localizer",
    r"MIP|MINIP|MIN IP|MPVR|VRT|PROJECTION IMAGE|VOLUME RENDERING|MAXIMUM|MINIMUM": (
        "a projection (MIP) or a rendering"
    ),
    r"SCREEN ?SAVE|DOSE (?:REPORT|INFO|RECORD|SHEET|SUMMARY)|PATIENT PROTOCOL": (
        "a dose or protocol sheet"
    ),
    r"SMART ?PREP|(?:PRE)?MONITORING|BOLUS ?TRACK(?:ING)?|TEST ?BOLUS|TRACKER|CARE ?BOLUS": (
        "a bolus test"
    ),
}
SHARPEST_SOFT = 49  # of Siemens' kernel numbers: B30f and Br40d are soft, B60s and Br64d sharp
SHARPEST_SOFT_FC = 29  # of Canon's: FC01 to FC29 are body and brain, above are ear, bone and lung
SIEMENS = re.compile(r"(?<![A-Za-z0-9])(?:[BDHIJQU]|[BHQ][a-z])([0-9]{2})[a-z]{0,2}(?![0-9])")
CANON = re.compile(r"(?<![A-Za-z0-9])FC([0-9]{2})(?![0-9])", re.IGNORECASE)
SHARP_WORDS = r"LUNG|LUNGE|LUNGS|BONE|BONEPLUS|KNOCHEN|EDGE|ULTRA|SHARP|HRCT|YA|YB|YC|YD|L"
SOFT_WORDS = r"SOFT|STANDARD|STND|STD|CHST|MEDIASTINUM|WEICHTEIL|SMOOTH|BRAIN|A|B"
LETTERS = 2  # GE and Philips call kernels so, but a description may mean anything by it


def why_no_scan(header: Header) -> str | None:
    """Return what a series is instead of a CT scan of the body; None if it is one."""
    if header.Modality != "CT":
        return f"modality {header.Modality or 'unknown'}, expected CT"
    if header.SOPClassUID == SecondaryCaptureImageStorage:
        return "a picture of a screen (secondary capture)"
    said = f"{header.ImageType} {header.SeriesDescription}"
    return next((kind for words, kind in OTHER_KINDS.items() if _has_word(words, said)), None)


def sharpness(header: Header) -> int:
    """Tell by the kernel, else by the description, whether a series is soft or sharp."""
    kernel = _sharpness(header.ConvolutionKernel, 1)
    return kernel if kernel != UNKNOWN else _sharpness(header.SeriesDescription, LETTERS + 1)


def _sharpness(said: str, letters: int) -> int:
    """The same of a text; words with fewer than so many letters tell nothing."""
    for numbers, softest in ((SIEMENS, SHARPEST_SOFT), (CANON, SHARPEST_SOFT_FC)):
        if found := numbers.search(said):
            return SHARP if int(found[1]) > softest else SOFT
    for words, kind in ((SHARP_WORDS, SHARP), (SOFT_WORDS, SOFT)):
        long = "|".join(word for word in words.split("|") if len(word) >= letters)
        if _has_word(long, said):
            return kind
    return UNKNOWN


def _has_word(words: str, said: str) -> bool:
    plain = re.sub(r"[\\_\-+,;()/]", " ", said)
    return re.search(rf"(?<![^\W_])(?:{words})(?![^\W_])", plain, re.IGNORECASE) is not None
