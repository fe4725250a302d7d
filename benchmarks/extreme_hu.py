"""TRE and verdict where voxels are not what a CT holds: `python -m benchmarks.extreme_hu`.

One simulated follow-up (`training.followups.pair`), as it is and with metal, padding outside the
circle that was scanned, the grey scale of a cone-beam CT, or an offset of 1,024 HU. Registered
without and with landmarks on the same affine stage, parameter file, seed and threads, as in
`benchmarks.followups`. TRE is taken at points of known truth that both images show.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from benchmarks.common import arm, data_folder, markdown, session
from benchmarks.followups import truth
from landmark_dir.errors import LandmarkDirError
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.geometry import Points, centre, shape_zyx, voxel_centres
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.intensity import AIR_HU
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for
from landmark_dir.transforms.chain import read_transform
from training.followups.pair import FollowUp, make_follow_up

CASE, MOTION, SEED = "sts-007", "large", 4
TRUTHS = 4000  # points
ROD_MM, ROD_HU = 10.0, 30_000.0  # radius of an implant; metal on an extended scale
ROD_AWAY_MM = 55.0  # to the left of the middle of the body
PADDINGS = (-2000.0, -3024.0, -32_768.0)
ROUND, CUT = 1.02, 0.85  # radius of the circle, as a share of what just holds the body
SLOPE, OFFSET, CUPPING, NOISE = 0.85, 60.0, 100.0, 40.0  # of the cone-beam scale; HU
SHIFT = 1024.0  # HU stored without sign

Image: TypeAlias = NDArray[np.float32]  # [z, y, x], HU
Change: TypeAlias = Callable[[FollowUp, str, Image], Image]  # of the side named


def as_it_is(pair: FollowUp, side: str, hu: Image) -> Image:
    """No change."""
    return hu


def rod(pair: FollowUp, side: str, hu: Image) -> Image:
    """A rod of metal along the body, in the moving image where the motion takes it."""
    places = voxel_centres(getattr(pair, side))
    fixed = places if side == "fixed" else pair.to_fixed(places)
    middle = body_middle(pair.fixed_body) + [ROD_AWAY_MM, 0, 0]
    away = np.linalg.norm((fixed - middle)[:, :2], axis=1).reshape(hu.shape)
    return np.where(away < ROD_MM, np.float32(ROD_HU), hu)


def padded(value: float, share: float) -> Change:
    """Padding outside a circle in each slice; `share` of the radius that holds the body."""

    def pad(pair: FollowUp, side: str, hu: Image) -> Image:
        away = from_middle(getattr(pair, side))
        return np.where(away > share * away[in_body(pair, side)].max(), np.float32(value), hu)

    return pad


def cone_beam(pair: FollowUp, side: str, hu: Image) -> Image:
    """Less contrast, an offset, darker in the middle, noisy."""
    away = from_middle(getattr(pair, side))
    cup = CUPPING * np.clip(1 - (away / away[in_body(pair, side)].max()) ** 2, 0, 1)
    noise = np.random.default_rng(SEED).normal(0, NOISE, hu.shape)
    return np.asarray(SLOPE * hu + OFFSET - cup * (hu > AIR_HU / 2) + noise, np.float32)


def shifted(pair: FollowUp, side: str, hu: Image) -> Image:
    """Air at 24, water at 1024."""
    return hu + np.float32(SHIFT)


VARIANTS: dict[str, tuple[Change, Change]] = {  # fixed, moving
    "as it is": (as_it_is, as_it_is),
    "metal": (rod, rod),
    "metal in the moving image only": (as_it_is, rod),
    **{
        f"padding {value:.0f}{where}": (padded(value, share),) * 2
        for share, where in ((ROUND, ""), (CUT, ", the circle cuts the body"))
        for value in PADDINGS
    },
    "cone-beam scale in the moving image": (as_it_is, cone_beam),
    "+1024 in both": (shifted, shifted),
    "+1024 in the moving image": (as_it_is, shifted),
}


def body_middle(body: sitk.Image) -> Points:
    """Middle of a body mask, LPS mm."""
    return np.asarray(
        voxel_centres(body)[sitk.GetArrayViewFromImage(body).ravel() > 0].mean(axis=0)
    )


def in_body(pair: FollowUp, side: str) -> NDArray[np.bool_]:
    """Where the body is in one of the images, before it is changed."""
    return np.asarray(sitk.GetArrayFromImage(body_mask(getattr(pair, side))) > 0)


def from_middle(image: sitk.Image) -> NDArray[np.float64]:
    """Distance of each voxel from the middle of its axial slice, mm [z, y, x]."""
    offsets = (voxel_centres(image) - centre(image))[:, :2]
    return np.linalg.norm(offsets, axis=1).reshape(shape_zyx(image))


def changed(pair: FollowUp, side: str, change: Change) -> sitk.Image:
    """One image of the pair with its change, int16 as a scanner stores it."""
    source = getattr(pair, side)
    hu = change(pair, side, sitk.GetArrayFromImage(source))
    image = sitk.GetImageFromArray(np.rint(hu).astype(np.int16))
    image.CopyInformation(source)
    return image


def seen(pairs: PointPairs, pair: FollowUp) -> PointPairs:
    """Those of the true pairs that lie within the smaller circle in both images."""
    kept = np.ones(len(pairs), bool)
    for side in ("fixed", "moving"):
        image = getattr(pair, side)
        radius = CUT * from_middle(image)[in_body(pair, side)].max()
        away = np.linalg.norm((getattr(pairs, side) - centre(image))[:, :2], axis=1)
        kept &= away < radius
    return pairs.select(kept)


def measure(
    fixed: sitk.Image, moving: sitk.Image, truths: PointPairs, options: RegisterOptions
) -> dict[str, Any]:
    """Mean TRE, mm, and verdict of both arms, and what was warned of."""
    found: dict[str, Any] = {}
    try:
        inputs = load_inputs(fixed, moving, options)
        with session(inputs, options) as opened:
            found["before"] = f"{residual_mm(read_transform(opened.start_file), truths).mean():.2f}"
            landmarks = landmarks_for(opened)
            for name, used in (("without", landmarks.only_held_back()), ("with", landmarks)):
                result = arm(opened, name, used)
                found[name] = f"{residual_mm(result.chain, truths).mean():.2f}"
                verdict = result.verdict
                found[f"verdict {name}"] = verdict.verdict
                found[f"reasons {name}"] = verdict.reasons
            found["said"] = "; ".join(opened.record.warnings)
            found["seconds"] = opened.record.seconds
    except LandmarkDirError as error:
        found["said"] = f"refused: {error}"
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; `--keep FILE` keeps what is measured, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--keep", type=Path, help="JSON file of the variants measured so far")
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=args.threads)
    kept = args.keep is not None and args.keep.is_file()
    rows: dict[str, dict[str, Any]] = json.loads(args.keep.read_text()) if kept else {}
    path = data_folder() / "ct" / "validation" / f"{CASE}.nii.gz"
    pair = make_follow_up(read_volume(path), MOTION, SEED)
    truths = seen(truth(pair, TRUTHS, 1000 + SEED), pair)
    for name in args.only:
        if name in rows:
            continue
        images = (
            changed(pair, *how) for how in zip(("fixed", "moving"), VARIANTS[name], strict=True)
        )
        rows[name] = measure(*images, truths, options)
        if args.keep is not None:
            args.keep.write_text(json.dumps(rows))
    shown = ["before", "without", "with", "verdict without", "verdict with", "said"]
    header = ["images", "TRE before, mm", "without", "with", "verdict without", "with", "said"]
    cells = [[name, *(rows[name].get(key, "-") for key in shown)] for name in args.only]
    print(f"{CASE}, {MOTION}; {len(truths)} points\n\n{markdown(header, cells)}")


if __name__ == "__main__":
    main()
