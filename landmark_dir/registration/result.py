"""A finished registration at hand: its transform, images, landmarks, figures and verdict."""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadRunFolder, LandmarkDirError
from landmark_dir.evaluation.verdict import WORDS, Verdict
from landmark_dir.geometry import same_grid
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import read_csv
from landmark_dir.io.text_files import is_number, is_place, told
from landmark_dir.io.volumes import read_image, read_volume
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.intensity import OntoCt
from landmark_dir.registration.inputs import as_path
from landmark_dir.registration.start import told as told_start
from landmark_dir.transforms.chain import Chain, read_transform
from landmark_dir.transforms.fields import displacement, jacobian

MOST_VOXELS = 1 << 31  # of a fixed grid
ROUNDED_MM = 0.01  # single precision in the header of the warped image moves no corner by more


@dataclass(frozen=True, repr=False)
class Result:
    """A finished registration.

    Attributes
    ----------
    folder : Path
        The run folder.
    chain : Chain
        The transform as numpy sees it: `chain.map_points(points)`.
    grid : sitk.Image
        An image on the fixed grid; its values say nothing.
    landmarks : PointPairs
        What guided the registration; empty without landmarks.
    held_back : PointPairs
        Pairs as matched that nothing saw but the verdict; may be empty.
    metrics : dict
        As in `run.json`.
    warnings : list of str
        What a person should know of this run.
    verdict : Verdict
        `.verdict` is good, doubtful, failed or not checked, `.reasons` why.
    given_fixed : sitk.Image or None
        The fixed image, of a run that was just made.
    start : dict or None
        Where it started and how sure that is, as in `run.json`; None: an older run does not say.
    """

    folder: Path
    chain: Chain
    grid: sitk.Image
    landmarks: PointPairs
    held_back: PointPairs
    metrics: dict[str, Any]
    warnings: list[str]
    verdict: Verdict
    given_fixed: sitk.Image | None = None
    given_warped: sitk.Image | None = None
    start: dict[str, Any] | None = None

    @property
    def warped(self) -> sitk.Image:
        """The moving image on the fixed grid.

        Raises
        ------
        BadRunFolder
            If the run folder was made without it, as `batch --keep` can.
        """
        if self.given_warped is None:
            raise BadRunFolder(
                f"{self.folder}: has no {run_folder.WARPED}; make it with `landmark-dir warp` from "
                "the moving image"
            )
        return self.given_warped

    @cached_property
    def fixed(self) -> sitk.Image | None:
        """The fixed image; None if a run was opened and the file is not there as it was."""
        if self.given_fixed is not None:
            return self.given_fixed
        return self.image("fixed")

    def image(self, side: str) -> sitk.Image | None:
        """The fixed or the moving image that the run names, if its file is unchanged."""
        return _named_image(run_folder.read_run_json(self.folder)["inputs"][side])

    def on_ct_scale(self, image: sitk.Image, side: str) -> sitk.Image:
        """An image with the grey values of the fixed or the moving one, as the run saw them.

        CT as it is, another modality on the scale of CT.
        """
        named = run_folder.read_run_json(self.folder)["inputs"][side].get("grey_values")
        if named is None:
            return image
        try:
            scale = OntoCt(*(float(named[key]) for key in ("darkest", "edge", "brightest")))
        except (KeyError, TypeError, ValueError) as error:
            raise BadRunFolder(
                f"{self.folder}: {run_folder.RUN_JSON} has grey values for {side} that are none; "
                "copy the run folder again"
            ) from error
        return scale.apply(image)

    @cached_property
    def moving_grid(self) -> sitk.Image:
        """An image on the grid of the moving image; its values say nothing.

        Raises
        ------
        BadRunFolder
            If `run.json` does not say where that lies.
        """
        moving = run_folder.read_run_json(self.folder)["inputs"]["moving"]
        return _empty(self.folder, "moving", moving)

    @property
    def transform(self) -> sitk.CompositeTransform:
        """T, fixed points to moving points, LPS mm, for SimpleITK."""
        return self.chain.itk()

    @property
    def transform_file(self) -> Path:
        """The final elastix transform file; it names those applied before it."""
        return self.folder.absolute() / run_folder.TRANSFORM

    @property
    def array(self) -> NDArray[Any]:
        """Voxels of the warped image [z, y, x]; a copy."""
        return np.asarray(sitk.GetArrayFromImage(self.warped))

    @property
    def displacement(self) -> sitk.Image:
        """T(x) - x at each voxel of the fixed grid; a vector image, float32, mm, LPS."""
        return displacement(self.chain, self.grid)

    @property
    def jacobian(self) -> sitk.Image:
        """Determinant of dT/dx at each voxel of the fixed grid, float32; folded where <= 0."""
        return jacobian(self.chain, self.grid)

    def moved_to(self, folder: Path) -> "Result":
        """The same result, its run folder at `folder`."""
        return replace(self, folder=folder)

    def summary(self) -> str:
        """One line for people."""
        text = f"{_shown(self.metrics['folded_share'], '.2%')} folded"
        if self.metrics["correlation"] is not None:
            text = f"correlation {self.metrics['correlation']:.3f}, {text}"
        if len(self.landmarks):
            median = _shown((self.metrics["residual_mm"] or {}).get("median"), ".2f")
            text = f"{len(self.landmarks)} landmarks, residual {median} mm, {text}"
        if self.start is not None:
            text = f"{text}; {told_start(self.start)}"
        return f"{self.verdict.verdict} ({'; '.join(self.verdict.reasons)}); {text}"

    def __repr__(self) -> str:
        count = len(self.landmarks)
        return f"<Result {self.folder}: {self.verdict.verdict}, {count} landmarks>"

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, its reasons, and a picture of the fixed and warped image."""
        # Pillow is slow to load
        from landmark_dir.report.volumes import side_by_side

        images = {"fixed": self.fixed, "moving": self.given_warped}
        shown = [self.on_ct_scale(one, side) for side, one in images.items() if one is not None]
        picture = side_by_side(shown) if shown else ""
        reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.verdict.reasons)
        return (
            f"<b>{html.escape(self.verdict.verdict)}</b><ul>{reasons}</ul>"
            f'<img alt="middle slices, the warped image last" src="{picture}">'
            f"<p>{html.escape(str(self.folder))}</p>"
        )


def _shown(value: float | None, form: str) -> str:
    """A figure for people; `run.json` has null for one that is not known."""
    return "unknown" if value is None else format(value, form)


def _named_image(named: dict[str, Any]) -> sitk.Image | None:
    """An image that `run.json` names, if it is still the file that the run was made from."""
    path = Path(named["path"]) if named["path"] else None
    try:
        if path is not None and path.exists() and run_folder.sha256(path) == named["sha256"]:
            return read_volume(path)
    except (LandmarkDirError, OSError):
        pass
    return None


def _warped(folder: Path, fixed: dict[str, Any]) -> sitk.Image | None:
    """The warped image on the grid of the fixed one, whose file rounds it to single precision.

    None if the folder was made without it.
    """
    path = folder / run_folder.WARPED
    return _placed(read_image(path).image, folder, fixed) if path.exists() else None


def _placed(image: sitk.Image, folder: Path, fixed: dict[str, Any]) -> sitk.Image:
    exact = sitk.Image(image)
    try:
        exact.SetSpacing(fixed["spacing_mm"])
        exact.SetOrigin(fixed["origin_mm"])
        exact.SetDirection(fixed["direction"])
        fits = same_grid(exact, image, ROUNDED_MM)
    except RuntimeError:  # a spacing of 0, directions that are none
        fits = False
    if not fits:
        raise BadRunFolder(
            f"{folder}: {run_folder.RUN_JSON} and {run_folder.WARPED} lie on different grids"
            "; copy the run folder again"
        )
    return exact


def _empty(folder: Path, side: str, named: dict[str, Any]) -> sitk.Image:
    """An image on the grid of one side of a run, without any file of it."""
    size = named.get("size_xyz")
    sizes = size if isinstance(size, list) else []
    whole = len(sizes) == 3 and all(type(n) is int and n > 0 for n in sizes)
    if not whole or math.prod(sizes) > MOST_VOXELS:
        raise BadRunFolder(
            f"{folder}: {run_folder.RUN_JSON} has {told(size)} as inputs.{side}.size_xyz, which no "
            "run writes; copy the run folder again"
        )
    image = sitk.Image(sizes, sitk.sitkUInt8)
    try:
        image.SetSpacing(named["spacing_mm"])
        image.SetOrigin(named["origin_mm"])
        image.SetDirection(named["direction"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise BadRunFolder(
            f"{folder}: {run_folder.RUN_JSON} has a grid for {side} that is none; copy it again"
        ) from error
    return image


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _source(value: object) -> bool:
    """A path and its hash, or a path of null for an image in memory."""
    if not isinstance(value, dict) or "path" not in value:
        return False
    return not value["path"] or all(isinstance(value.get(key), str) for key in ("path", "sha256"))


def _number_or_null(value: object) -> bool:
    return value is None or is_number(value)


def _places(count: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, list) and len(value) == count and all(map(is_place, value))
    )


SHAPE: dict[str, Callable[[object], bool]] = {  # of `run.json`, as far as a result needs it
    "verdict.verdict": lambda value: value in WORDS,
    "verdict.reasons": _texts,
    "warnings": _texts,
    "metrics.correlation": _number_or_null,
    "metrics.folded_share": _number_or_null,
    "metrics.residual_mm": lambda value: (
        value is None or (isinstance(value, dict) and all(map(_number_or_null, value.values())))
    ),
    "inputs.fixed.spacing_mm": _places(3),
    "inputs.fixed.origin_mm": _places(3),
    "inputs.fixed.direction": _places(9),
    "inputs.fixed": _source,
    "inputs.moving": _source,
}


def check_record(content: dict[str, Any], folder: Path) -> None:
    """Refuse a `run.json` whose parts are not of the kind that a run writes."""
    for name, fits in SHAPE.items():
        value: Any = content
        for key in name.split("."):
            if not (isinstance(value, dict) and key in value):
                raise BadRunFolder(
                    f"{folder}: {run_folder.RUN_JSON} has no {name}; copy the run folder again"
                )
            value = value[key]
        if not fits(value):
            raise BadRunFolder(
                f"{folder}: {run_folder.RUN_JSON} has {told(value)} as {name}, which no run writes"
                "; copy the run folder again"
            )


def open_run(run: str | Path) -> Result:
    """Open the folder of a finished registration.

    Raises
    ------
    BadRunFolder
        If it is no finished run with a transform.
    """
    folder = as_path(run, "run", "the path of a run folder")
    content = run_folder.read_run_json(folder)
    transform = run_folder.run_transform(folder)
    check_record(content, folder)
    table = folder / run_folder.LANDMARKS_CSV
    held_back = folder / run_folder.HELD_BACK_CSV
    warped = _warped(folder, content["inputs"]["fixed"])
    return Result(
        folder,
        read_transform(transform, inside=folder),
        _empty(folder, "fixed", content["inputs"]["fixed"]) if warped is None else warped,
        read_csv(table) if table.is_file() else PointPairs.empty(),
        read_csv(held_back) if held_back.is_file() else PointPairs.empty(),
        content["metrics"],
        content["warnings"],
        Verdict(content["verdict"]["verdict"], content["verdict"]["reasons"]),
        given_warped=warped,
        start=content.get("start"),
    )
