"""Starts that are found, and pairs that are refused: `python -m benchmarks.starts`.

Of each validation volume a follow-up is simulated (`training.followups.pair`, small motion; of
volume i in the order of names seed 300 + i), and its moving image is put elsewhere, turned about
the middle of its body, or cut. A start is right within 10 mm and 5 degrees of the rigid motion that
fits the truth best; the world is right where nothing was moved on purpose. Other patients are the
next volume of the list that shows the same region, and the next that does not; where a start is
found for them, they are registered with the default options, and the verdict must not be good.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from PIL import Image

from benchmarks.common import data_folder, markdown
from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import Points, centre, corners, distances_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.matching.rigid_fit import Rigid, fit_rigid, turned_by
from landmark_dir.options import RegisterOptions
from landmark_dir.preprocessing.intensity import AIR_HU
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.pipeline import register
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
HEADER = ["volume", "case", "start", "is", "off, mm", "degrees", "agree", "s"]
FEET_FIRST = np.diag([-1.0, 1.0, -1.0])  # half a turn about y: still on the back
OFF_MM = 400.0
SHOWN_HU = (-1000.0, 500.0)  # lung to bone, in pictures


class Case(NamedTuple):
    """A pair, and the true way from fixed to moving points; None: there is none."""

    name: str
    fixed: sitk.Image
    moving: sitk.Image
    truth: Callable[[Points], Points] | None
    world: bool = False  # whether that is right


class Volume(NamedTuple):
    """A volume, its follow-up, points to measure at, and volumes of other patients."""

    name: str
    pair: FollowUp
    points: Points
    same: sitk.Image
    other: sitk.Image


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


def measure(case: Case, points: Points, options: RegisterOptions) -> dict[str, object]:
    """The case, what came of it, how far off, seconds."""
    row: dict[str, object] = {"case": case.name}
    inputs = load_inputs(case.fixed, case.moving, options)
    began = time.monotonic()
    try:
        start = find_start(inputs, options, None)
    except LandmarkDirError as error:
        row |= {"s": round(time.monotonic() - began, 1), "start": "refused", "said": str(error)}
        if found := re.search(r"found (\d+ of \d+)", str(error)):
            row |= {"agree": found[1]}
        if case.truth is None:
            return row | {"is": "right", "pair": case.name, "verdict": "refused"}
        return row | {"is": "WRONG"}
    row |= {"s": round(time.monotonic() - began, 1), "start": start.kind}
    row |= {"agree": f"{start.agreeing} of {start.of}"}
    if case.truth is None:
        said = verdict(case, options)
        right = "WRONG" if said == "good" else "right"
        return row | {"is": f"{right} ({said})", "pair": case.name, "verdict": said}
    best: Rigid = fit_rigid(points, case.truth(points))
    off = float(np.mean(distances_mm(start.rigid.map_points(points), best.map_points(points))))
    angle = turned_by(start.rigid.turn @ best.turn.T)
    near = off <= RIGHT_MM and angle <= RIGHT_DEGREES
    right = case.world if start.kind == "world" else near
    row |= {"is": "right" if right else "WRONG"}
    return row | {"off, mm": round(off, 1), "degrees": round(angle, 1)}


def verdict(case: Case, options: RegisterOptions) -> str:
    """What is said of two patients who were registered all the same."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = register(case.fixed, case.moving, Path(folder, "run"), options)
        except LandmarkDirError:
            return "refused"
    return result.verdict.verdict


def draw(case: Case, options: RegisterOptions, file: Path) -> None:
    """Fixed; moving as the headers lay it; moving from the start that is found: coronal, on air."""
    start = find_start(load_inputs(case.fixed, case.moving, options), options, None)
    found = sitk.AffineTransform(start.rigid.turn.ravel().tolist(), start.rigid.shift.tolist())
    images = [case.fixed]
    for way in (sitk.Transform(3, sitk.sitkIdentity), found):
        images.append(sitk.Resample(case.moving, case.fixed, way, sitk.sitkLinear, AIR_HU))
    x_mm, _, z_mm = case.fixed.GetSpacing()
    planes = [sitk.GetArrayViewFromImage(image)[::-1, image.GetSize()[1] // 2] for image in images]
    low, high = SHOWN_HU
    grey = [np.uint8(255 * np.clip((plane - low) / (high - low), 0, 1)) for plane in planes]
    size = grey[0].shape[1], round(grey[0].shape[0] * z_mm / x_mm)
    shown = [Image.fromarray(one).resize(size, Image.Resampling.BILINEAR) for one in grey]
    row = Image.new("L", (3 * size[0] + 16, size[1]), 255)
    for k, one in enumerate(shown):
        row.paste(one, (k * (size[0] + 8), 0))
    row.save(file, optimize=True)


def volumes(folder: Path, only: Sequence[str] | None, seed: int) -> Iterator[Volume]:
    """Each volume with its follow-up and two strangers."""
    files = sorted(folder.glob("*.nii.gz"))
    names = [file.name.removesuffix(".nii.gz") for file in files]
    regions = [REGIONS.get(name.split("-")[0], name) for name in names]
    for i, name in enumerate(names):
        if only and name not in only:
            continue
        after = [*range(i + 1, len(names)), *range(i)]
        same = next((k for k in after if regions[k] == regions[i]), after[0])
        other = next(k for k in after if regions[k] != regions[i])
        pair = make_follow_up(read_volume(files[i]), "small", seed + i)
        points, _ = truth_points(pair, TRUTHS, seed + i)
        yield Volume(name, pair, points, read_volume(files[same]), read_volume(files[other]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; `--keep FILE` keeps what is measured, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--of", default="validation", help="Folder of the volumes.")
    parser.add_argument("--seed", type=int, default=300, help="Of the first volume.")
    parser.add_argument("--only", nargs="*", help="Names of volumes.")
    parser.add_argument("--cases", nargs="*", help="Beginnings of names of cases.")
    parser.add_argument("--keep", type=Path, help="JSON file of the cases measured so far.")
    parser.add_argument("--picture", type=Path, help="Draw the first of these cases, instead.")
    given = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=given.threads, align="auto")
    kept = given.keep is not None and given.keep.is_file()
    rows: list[dict[str, object]] = json.loads(given.keep.read_text()) if kept else []
    done = {(row["volume"], row["case"]) for row in rows}
    for volume in volumes(data_folder() / "ct" / given.of, given.only, given.seed):
        for case in cases(volume.pair, volume.same, volume.other):
            chosen = not given.cases or case.name.startswith(tuple(given.cases))
            if (volume.name, case.name) in done or not chosen:
                continue
            if given.picture is not None:
                draw(case, options, given.picture)
                return
            rows.append({"volume": volume.name, **measure(case, volume.points, options)})
            print(*(rows[-1].get(name, "-") for name in HEADER), sep=" | ", flush=True)
            if given.keep is not None:
                given.keep.write_text(json.dumps(rows))
    print(f"\n{markdown(HEADER, [[row.get(name, '-') for name in HEADER] for row in rows])}")


if __name__ == "__main__":
    main()
