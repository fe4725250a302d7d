"""Starts that are found, and pairs that are refused: `python -m benchmarks.starts`.

Of each validation volume a follow-up is simulated (`training.followups.pair`, small motion; of
volume i in the order of names seed 300 + i), and its moving image is put elsewhere, turned about
the middle of its body, or cut. A start is right within 10 mm and 5 degrees of the rigid motion that
fits the truth best; the world is right where nothing was moved on purpose. Other patients are the
next volume of the list that shows the same region, and the next that does not.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from benchmarks.common import data_folder, markdown
from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import Points, centre, corners, distances_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.matching.rigid_fit import Rigid, fit_rigid, turned_by
from landmark_dir.options import RegisterOptions
from landmark_dir.preprocessing.intensity import AIR_HU
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.start import find_start
from training.followups.pair import FollowUp, make_follow_up, truth_points

RIGHT_MM, RIGHT_DEGREES = 10.0, 5.0
TRUTHS = 300
REGIONS = {
    "sts": "legs",
    "covidctmd": "chest",
    "lidc": "chest",
    "crlm": "abdomen",
    "acrin": "chest",
}
FEET_FIRST = np.diag([-1.0, 1.0, -1.0])  # half a turn about y: still on the back
OFF_MM = 400.0


class Case(NamedTuple):
    """A pair, and the true way from fixed to moving points; None: there is none."""

    name: str
    fixed: sitk.Image
    moving: sitk.Image
    truth: Callable[[Points], Points] | None
    world: bool = False  # whether that is right


def rolled(degrees: float) -> np.ndarray:
    """A turn about the body's axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def turned(image: sitk.Image, turn: np.ndarray, shift_mm: Sequence[float]) -> sitk.Image:
    """The patient turned about the image's centre, scanned on axial slices, and put elsewhere."""
    middle = centre(image)[0]
    back = sitk.AffineTransform(turn.T.ravel().tolist(), (0.0, 0.0, 0.0), middle.tolist())
    ends = (corners(image) - middle) @ turn.T + middle
    spacing = np.array(image.GetSpacing())
    size = np.ceil(np.ptp(ends, axis=0) / spacing).astype(int) + 1
    first = ends.min(0)
    moved = sitk.Resample(
        image, size.tolist(), back, sitk.sitkLinear, first.tolist(), spacing.tolist(),
        np.eye(3).ravel().tolist(), AIR_HU, sitk.sitkFloat32,
    )  # fmt: skip
    moved.SetOrigin((first + shift_mm).tolist())
    return moved


def moved(
    pair: FollowUp, turn: np.ndarray, shift_mm: Sequence[float]
) -> tuple[sitk.Image, Callable[[Points], Points]]:
    """The moving image turned and put elsewhere, and the truth."""
    middle = centre(pair.moving)[0]

    def truth(points: Points) -> Points:
        return np.asarray((pair.to_moving(points) - middle) @ turn.T + middle + shift_mm)

    return turned(pair.moving, turn, shift_mm), truth


def cases(pair: FollowUp, same: sitk.Image, other: sitk.Image) -> Iterator[Case]:
    """All cases of a volume."""
    still = np.eye(3)
    yield Case("roll 0", pair.fixed, pair.moving, pair.to_moving, True)
    for off in (OFF_MM, -OFF_MM):
        image, truth = moved(pair, still, (0.0, 0.0, off))
        yield Case(f"origin {off:+.0f} mm", pair.fixed, image, truth)
        depth = image.GetSize()[2]
        part = image[:, :, : depth * 6 // 10] if off > 0 else image[:, :, depth * 4 // 10 :]
        deep = pair.fixed.GetSize()[2]
        rest = pair.fixed[:, :, deep * 4 // 10 :] if off > 0 else pair.fixed[:, :, : deep * 6 // 10]
        yield Case(f"origin {off:+.0f} mm, a third in common", rest, part, truth)
    for degrees in (25, 45, 90, 180):
        name = f"roll {degrees}" if degrees < 180 else "prone (roll 180)"
        yield Case(name, pair.fixed, *moved(pair, rolled(degrees), (0.0, 0.0, 0.0)))
    yield Case("feet first", pair.fixed, *moved(pair, FEET_FIRST, (0.0, 0.0, 0.0)))
    prone = FEET_FIRST @ rolled(180)
    yield Case("feet first, prone", pair.fixed, *moved(pair, prone, (0.0, 0.0, 0.0)))
    image, truth = moved(pair, still, (30.0, -50.0, OFF_MM))
    for count in (4, 12):  # fewer than 4 are refused when they are read
        middle = image.GetSize()[2] // 2 - count // 2
        yield Case(
            f"{count} slices moving", pair.fixed, image[:, :, middle : middle + count], truth
        )
        middle = pair.fixed.GetSize()[2] // 2 - count // 2
        yield Case(f"{count} slices fixed", pair.fixed[:, :, middle : middle + count], image, truth)
    yield Case("mirrored file", pair.fixed, mirrored(pair.moving), None)
    yield Case("wrong patient, same region", pair.fixed, same, None)
    yield Case("wrong region", pair.fixed, other, None)


def mirrored(image: sitk.Image) -> sitk.Image:
    """Left and right exchanged, as no patient is."""
    other = sitk.Flip(image, [True, False, False])
    other.CopyInformation(image)
    return other


def measure(case: Case, points: Points, options: RegisterOptions) -> list[object]:
    """A row: the case, what came of it, how far off, seconds."""
    inputs = load_inputs(case.fixed, case.moving, options)
    began = time.monotonic()
    try:
        start = find_start(inputs, options, None)
    except LandmarkDirError as error:
        said = "right" if case.truth is None else "WRONG"
        seconds = time.monotonic() - began
        found = str(error).split("found ")[-1].split(" that")[0]
        return [case.name, "refused", said, "-", "-", found, f"{seconds:.1f}"]
    seconds = time.monotonic() - began
    agree = f"{start.agreeing} of {start.of}"
    if case.truth is None:
        return [case.name, start.kind, "to the verdict", "-", "-", agree, f"{seconds:.1f}"]
    best: Rigid = fit_rigid(points, case.truth(points))
    off = float(np.mean(distances_mm(start.rigid.map_points(points), best.map_points(points))))
    angle = turned_by(start.rigid.turn @ best.turn.T)
    near = off <= RIGHT_MM and angle <= RIGHT_DEGREES
    right = case.world if start.kind == "world" else near
    said = "right" if right else "WRONG"
    return [case.name, start.kind, said, f"{off:.1f}", f"{angle:.1f}", agree, f"{seconds:.1f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--of", default="validation", help="Folder of the volumes.")
    parser.add_argument("--seed", type=int, default=300, help="Of the first volume.")
    parser.add_argument("--only", nargs="*", help="Names of volumes.")
    parser.add_argument("--cases", nargs="*", help="Beginnings of names of cases.")
    given = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=given.threads, align="auto")
    files = sorted((data_folder() / "ct" / given.of).glob("*.nii.gz"))
    names = [file.name.removesuffix(".nii.gz") for file in files]
    regions = [REGIONS.get(name.split("-")[0], name) for name in names]
    rows: list[list[object]] = []
    for i, name in enumerate(names):
        if given.only and name not in given.only:
            continue
        after = [*range(i + 1, len(names)), *range(i)]
        same = next((k for k in after if regions[k] == regions[i]), after[0])
        other = next(k for k in after if regions[k] != regions[i])
        pair = make_follow_up(read_volume(files[i]), "small", given.seed + i)
        points, _ = truth_points(pair, TRUTHS, given.seed + i)
        strangers = (read_volume(files[k]) for k in (same, other))
        for case in cases(pair, *strangers):
            if given.cases and not case.name.startswith(tuple(given.cases)):
                continue
            rows.append([name, *measure(case, points, options)])
            print(*rows[-1], sep=" | ", flush=True)
    header = ["volume", "case", "start", "is", "off, mm", "degrees", "agree", "s"]
    print(f"\n{markdown(header, rows)}")


if __name__ == "__main__":
    main()
