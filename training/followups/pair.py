"""Simulated follow-up pairs in 3D: a CT volume, and a second examination of it with exact truth.

The moving image shows the fixed one at S(y), S from moving to fixed world points. S turns the
patient, slides the inner organs along the body wall and bends smoothly, in this order; each step
can be undone by itself, so both directions are exact at every point. The patient changes too
(contrast agent, bowel gas), and so does the scanner (its grid, slices, kernel and noise).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

from landmark_dir import __version__
from landmark_dir.errors import BadRunFolder, BadVolume, LandmarkDirError
from landmark_dir.geometry import Points, index_to_physical, inside
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.io.run_folder import new_run_folder, sha256, write_json
from landmark_dir.io.volumes import check_volume, read_volume, write_volume
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.intensity import SCANNER_HU
from training.followups.lesions import (
    SIDES,
    Lesion,
    Side,
    draw_lesions,
    inside_any,
    label_map,
    paint,
    write_lesions,
)
from training.followups.motion import MOTIONS, Motion, draw_motion, skin_and_soft
from training.followups.scan import (
    MARGIN_MM,
    change_patient,
    draw_scanner,
    moving_grid,
    scan,
    with_kernel_and_noise,
)

BACK = np.array([0.0, 1.0, 0.0])  # down, where the patient lies on the back
MOST_LESIONS = 255  # as many as the label maps can number
MOST_GROWTH = 30.0  # of the volume of a lesion
AFFINE_POINTS = 2000  # that the best affine map is fitted to


@dataclass(frozen=True, eq=False)
class FollowUp:
    """Two examinations of one patient, and where each point of one lies in the other.

    Attributes
    ----------
    fixed, moving : sitk.Image
        Whole HU, float32.
    fixed_body : sitk.Image
        uint8 0 / 1 on the fixed grid.
    motion : Motion
        Moving -> fixed; true everywhere but in lesions.
    description : dict
        All that was drawn.
    lesions : tuple of Lesion
        Their truth in both images; none unless asked for.
    """

    fixed: sitk.Image
    moving: sitk.Image
    fixed_body: sitk.Image
    motion: Motion
    description: dict[str, Any]
    lesions: tuple[Lesion, ...] = ()

    def to_moving(self, points: ArrayLike) -> Points:
        """Fixed points [N, 3] -> moving points, LPS mm."""
        return self.motion.to_moving(points)

    def to_fixed(self, points: ArrayLike) -> Points:
        """Moving points [N, 3] -> fixed points, LPS mm."""
        return self.motion.to_fixed(points)

    def lesion_labels(self, side: Side) -> sitk.Image:
        """Label map of the lesions on the grid of one image; 0 where there is none."""
        return label_map(getattr(self, side), self.lesions, side)


def make_follow_up(
    volume: sitk.Image,
    motion: str,
    seed: int,
    *,
    sliding: bool | None = None,
    appearance: bool = True,
    lesions: int = 0,
    growth: float | None = None,
    slices_mm: float | None = None,
) -> FollowUp:
    """Make a pair from a CT volume in HU; the same arguments give the same pair.

    Parameters
    ----------
    motion : str
        One of `training.followups.motion.MOTIONS`.
    seed : int
        Not negative.
    sliding : bool, optional
        Whether the inner organs slide along the body wall; the motion decides if not given.
    appearance : bool
        Whether HU change; if not, the moving image differs by its grid and the motion only.
    lesions : int
        How many are drawn into both images; all else stays as it is without them.
    growth : float, optional
        Volume of all of them in the moving image, of that in the fixed one; some stay, grow,
        shrink, vanish and appear if not given.
    slices_mm : float, optional
        Distance of the moving slices; drawn if not given.

    Raises
    ------
    ValueError
        If the motion is unknown, the seed negative, or there is no room for so many lesions.
    BadVolume
        If the volume cannot be used or shows no body.
    """
    if motion not in MOTIONS:
        raise ValueError(f"motion: expected one of {', '.join(MOTIONS)}, found {motion}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, found {seed}")
    if not 0 <= lesions <= MOST_LESIONS:
        raise ValueError(f"lesions: expected 0 to {MOST_LESIONS}, found {lesions}")
    if growth is not None and not 0 < growth <= MOST_GROWTH:
        raise ValueError(
            f"growth: expected a factor above 0, at most {MOST_GROWTH:g}, found {growth}"
        )
    # apart, so that the motion stays the same whatever else is asked for
    moves, changes, scans, ills = (
        np.random.default_rng([list(MOTIONS).index(motion), part, seed]) for part in range(4)
    )
    limits = MOTIONS[motion]
    slides = limits.sliding if sliding is None else sliding
    fixed, body = _cut_to_body(check_volume(volume, "volume"))
    skin, soft = skin_and_soft(fixed, body)
    moved, about = draw_motion(skin, soft, limits, slides, moves)
    scanner = draw_scanner(scans)
    if slices_mm is not None:
        scanner = replace(scanner, spacing_mm=(*scanner.spacing_mm[:2], slices_mm))
    hu = sitk.GetArrayFromImage(fixed)
    if appearance:
        hu, about["patient"] = change_patient(hu, fixed, body, soft, moved.turn @ BACK, changes)
    grid = moving_grid(skin, moved, fixed, scanner)
    moving = scan(hu, fixed, moved, grid)
    drawn: tuple[Lesion, ...] = ()
    if lesions:
        drawn = draw_lesions(lesions, growth, fixed, body, grid, moved.to_moving, ills)
        agent_hu = about["patient"]["agent_hu"] if appearance else 0.0
        fixed = _whole_hu(paint(fixed, drawn, "fixed"))
        moving = paint(moving, drawn, "moving", agent_hu)
        about |= {"lesions": len(drawn), "growth": growth}
    if appearance:
        moving = with_kernel_and_noise(moving, scanner, scans)
    described = {"motion": motion, "seed": seed, **about, "scanner": asdict(scanner)}
    return FollowUp(fixed, _whole_hu(moving), body, moved, described, drawn)


def _whole_hu(image: sitk.Image) -> sitk.Image:
    """Round and clip HU as a scanner stores them; float32."""
    return sitk.Round(sitk.Clamp(image, sitk.sitkFloat32, *SCANNER_HU))


def _cut_to_body(volume: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """The volume around the body, and the body."""
    body = body_mask(volume)
    box = sitk.LabelShapeStatisticsImageFilter()
    box.Execute(body)
    if not box.HasLabel(1):
        raise BadVolume("expected a body in the volume, found air only; give a CT in HU")
    first, size = np.reshape(box.GetBoundingBox(1), (2, 3))
    margin = np.ceil(MARGIN_MM / np.array(volume.GetSpacing())).astype(int)
    start = np.maximum(first - margin, 0)
    stop = np.minimum(first + size + margin, volume.GetSize())
    region = (stop - start).tolist(), start.tolist()
    cut = sitk.RegionOfInterest(sitk.Cast(volume, sitk.sitkFloat32), *region)
    return _whole_hu(cut), sitk.RegionOfInterest(body, *region)


def truth_points(pair: FollowUp, count: int, seed: int) -> tuple[Points, Points]:
    """Spread true correspondences over the part of the body that both images show.

    None lies in a lesion, on either side.

    Returns
    -------
    fixed, moving : ndarray, shape (count, 3)

    Raises
    ------
    ValueError
        If the two images share too little of the body.
    """
    rng = np.random.default_rng(seed)
    body = sitk.GetArrayViewFromImage(pair.fixed_body)
    z, y, x = np.unravel_index(rng.choice(np.flatnonzero(body), 4 * count), body.shape)
    index = np.column_stack([x, y, z]) + rng.uniform(-0.5, 0.5, (4 * count, 3))
    fixed = index_to_physical(pair.fixed, index)
    moving = pair.to_moving(fixed)
    seen = inside(pair.moving, moving)
    for side, points in zip(SIDES, (fixed, moving), strict=True):
        seen &= ~inside_any(points, pair.lesions, side)
    if seen.sum() < count:
        raise ValueError(
            f"expected {count} points seen in both images, found {seen.sum()}; take another seed"
        )
    return fixed[seen][:count], moving[seen][:count]


def best_affine(pair: FollowUp) -> sitk.AffineTransform:
    """The affine map, fixed -> moving, nearest to the true motion."""
    fixed, moving = truth_points(pair, AFFINE_POINTS, seed=0)
    design = np.column_stack([fixed, np.ones(len(fixed))])
    solution, *_ = np.linalg.lstsq(design, moving, rcond=None)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(solution[:3].T.ravel().tolist())
    affine.SetTranslation(solution[3].tolist())
    return affine


def mapped(affine: sitk.AffineTransform, points: Points) -> Points:
    """Points [N, 3] through an affine map about the origin."""
    matrix = np.reshape(affine.GetMatrix(), (3, 3))
    return np.asarray(points @ matrix.T + np.array(affine.GetTranslation()))


def write_follow_up(pair: FollowUp, folder: Path, points: int, about: dict[str, Any]) -> None:
    """Write both images, corresponding test points and `followup.json` into a new folder.

    Lesions, if there are any, as a label map for each image and a table.

    Raises
    ------
    BadRunFolder
        If the folder exists.
    """
    if folder.exists():
        raise BadRunFolder(f"{folder} exists already; remove it or name another folder with -o")
    fixed, moving = truth_points(pair, points, int(pair.description["seed"]))
    with new_run_folder(folder) as partial:
        for side in SIDES:
            image = sitk.Cast(getattr(pair, side), sitk.sitkInt16)
            write_volume(image, partial / f"{side}.nii.gz")
        write_elastix_points(fixed, partial / "points_fixed.txt")
        write_elastix_points(moving, partial / "points_moving.txt")
        if pair.lesions:
            for side in SIDES:
                write_volume(pair.lesion_labels(side), partial / f"lesions_{side}.nii.gz")
            write_lesions(pair.lesions, partial / "lesions.csv")
        write_json(partial / "followup.json", {**about, **pair.description})


def _make_and_write(source: Path, args: argparse.Namespace) -> Path:
    pair = make_follow_up(
        read_volume(source),
        args.motion,
        args.seed,
        sliding=args.sliding,
        lesions=args.lesions,
        growth=args.growth,
    )
    name = Path(source.name.removesuffix(".gz")).stem if source.is_file() else source.name
    folder: Path = args.out / f"{name}-{args.motion}-{args.seed}"
    about = {"source": source.name, "sha256": sha256(source), "version": __version__}
    write_follow_up(pair, folder, args.points, about)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("volumes", type=Path, nargs="+", metavar="VOLUME", help="CT: a file or a DICOM folder")
    add("--motion", choices=MOTIONS, default="large", help="default: %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--points", type=int, default=2000, help="test points (default: %(default)s)")
    add(
        "--sliding",
        action=argparse.BooleanOptionalAction,
        help="inner organs slide along the body wall (default: in large motion)",
    )
    add("--lesions", type=int, default=0, help="how many (default: none)")
    add(
        "--growth",
        type=float,
        help="volume of all lesions in the moving image, of that in the fixed one (default: some"
        " stay, grow, shrink, vanish, appear)",
    )
    add("-o", "--out", type=Path, required=True, metavar="FOLDER", help="a folder for each pair")
    args = parser.parse_args(arguments)
    if args.points < 1:
        parser.error(f"--points: expected 1 or more, found {args.points}")
    for source in args.volumes:
        try:
            print(_make_and_write(source, args), flush=True)
        except (LandmarkDirError, ValueError) as error:
            where = "" if str(source) in str(error) else f"{source}: "
            sys.exit(f"error: {where}{error}")


if __name__ == "__main__":
    main()
