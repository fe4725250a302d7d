"""Named structures of one scan of a run, carried to the other."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume, LandmarkDirError
from landmark_dir.geometry import (
    Points,
    index_to_physical,
    inside,
    physical_to_index,
    voxel_centres,
)
from landmark_dir.io.dicom_headers import SourceSeries
from landmark_dir.registration.apply import check_output, opened
from landmark_dir.registration.dicom_inputs import check_not_a_source, dicom_input
from landmark_dir.registration.inputs import as_path
from landmark_dir.registration.result import Result
from landmark_dir.structures.reading import read_structures
from landmark_dir.structures.shares import fullest, shares_of
from landmark_dir.structures.structure import (
    Structure,
    as_mask,
    box_around,
    cropped,
    part_of,
)
from landmark_dir.structures.writing import IN_DICOM, kind_of, write_structures
from landmark_dir.transforms.chain import Chain
from landmark_dir.transforms.fields import LATTICE_MM, coarse_grid, invert, invert_points

log = logging.getLogger(__name__)

SAMPLES = 2000  # voxels of a structure that tell how much of it lies in the other scan
WHOLE = 0.995  # of a structure
STRETCH = 4.0  # steps of the lattice that T may make of one, where a structure is sought


class Carried(NamedTuple):
    """A structure on the other scan.

    Attributes
    ----------
    structure : Structure
        On the grid of the other scan.
    before_ml : float
        Its volume on its own scan.
    inside : float
        Share of it that lies in the other scan, 0..1.
    """

    structure: Structure
    before_ml: float
    inside: float


class Way(NamedTuple):
    """From one scan to the other.

    Attributes
    ----------
    grid : sitk.Image
        Of the scan that structures are carried to.
    back : callable
        Points [N, 3] of that scan to points of their own.
    forth : callable
        Points of their own scan to points of that one.
    transform : callable
        `back` on a part of the grid, for SimpleITK.
    """

    grid: sitk.Image
    back: Callable[[Points], Points]
    forth: Callable[[Points], Points]
    transform: Callable[[sitk.Image], sitk.Transform]


def warp_structures(
    run: str | Path | Result,
    path: str | Path,
    out: str | Path,
    *,
    inverse: bool = False,
    kind: str | None = None,
    fixed_dicom: str | Path | None = None,
    moving_dicom: str | Path | None = None,
) -> list[Carried]:
    """Carry the structures of a file from the moving to the fixed scan of a run, and write them.

    Parameters
    ----------
    path : path
        A label map, a DICOM SEG or an RTSTRUCT, told by its content.
    out : path
        A label map (`.nii`, `.nii.gz`, `.mha`, `.nrrd`), a segmentation of 3D Slicer (`.seg.nrrd`)
        or a DICOM object (`.dcm`).
    inverse : bool
        From the fixed to the moving scan instead.
    kind : str, optional
        seg or rtstruct, for `.dcm`.
    fixed_dicom, moving_dicom : path, optional
        Where the DICOM series of the run lie now; where `run.json` says, if not given.

    Returns
    -------
    list of Carried
        In the order of the file.

    Raises
    ------
    BadArgument, BadRunFolder, BadVolume, BadStructures
    """
    result = opened(run)
    out = as_path(out, "out", "the path of a file to write")
    kind = kind_of(out, kind)
    check_output(out, result, given=path)
    own, other = ("fixed", "moving") if inverse else ("moving", "fixed")
    places = {"fixed": fixed_dicom, "moving": moving_dicom}
    dicom = {side: None if place is None else Path(place) for side, place in places.items()}
    onto: sitk.Image | SourceSeries = _grid(result, other)
    if kind in IN_DICOM:
        onto = dicom_input(result, other, dicom[other])
        check_not_a_source(out, onto)
    frame = frame_of_reference(result, own, dicom[own])
    structures = read_structures(as_path(path, "image"), _grid(result, own), frame)
    there = way(result.chain, result.grid, result.moving_grid, inverse=inverse)
    carried = carry(structures, there, str(path))
    write_structures([one.structure for one in carried], out, onto, kind)
    return carried


def _grid(result: Result, side: str) -> sitk.Image:
    """An image on the grid of one scan of a run; its values say nothing."""
    return result.grid if side == "fixed" else result.moving_grid


def frame_of_reference(result: Result, side: str, given: Path | None = None) -> str | None:
    """That of one side of a run, if it is known: to refuse what was drawn on another scan."""
    try:
        return dicom_input(result, side, given).frame_of_reference
    except LandmarkDirError:
        if given is not None:
            raise
        return None


def way(chain: Chain, fixed: sitk.Image, moving: sitk.Image, *, inverse: bool = False) -> Way:
    """From the moving to the fixed scan, or the other way; only the grids of the images count."""
    there = partial(invert_points, chain)
    if not inverse:
        return Way(fixed, chain.map_points, there, lambda _: chain.itk())
    return Way(moving, there, chain.map_points, lambda part: _inverse_on(chain, part, fixed))


def _inverse_on(chain: Chain, part: sitk.Image, fixed_grid: sitk.Image) -> sitk.Transform:
    """The inverse as a field; a voxel wider, as nothing moves where a field has ended."""
    wider = part_of(part, [-1, -1, -1], np.array(part.GetSize()) + 1)
    field, _ = invert(chain, wider, fixed_grid)
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def carry(structures: Sequence[Structure], way: Way, name: str = "structures") -> list[Carried]:
    """Carry structures to the other scan, each with its volume.

    Two that share no voxel share none afterwards: one that both reach goes to that which has more
    of it.

    Raises
    ------
    BadVolume
        If none of them has a part in the other scan.
    """
    lattice = voxel_centres(coarse_grid(way.grid))
    mapped = way.back(lattice)
    found = [_reached(one, way, lattice, mapped) for one in structures]
    _settle(structures, found)
    carried = []
    for one, there in zip(structures, found, strict=True):
        mask = cropped(as_mask(there.voxels, there.part))
        moved = Structure(one.name, one.number, one.colour, mask)
        carried.append(Carried(moved, one.volume_ml, _inside(one, way)))
    if not any(said.structure.volume_ml for said in carried):
        raise BadVolume(
            f"{name}: lies wholly outside what the run maps; expected structures of the "
            "scan that is to be carried, or one in its space"
        )
    for said in carried:
        if said.inside < WHOLE:
            log.warning(
                "%s: %.0f %% of it lies outside the other scan and is cut off",
                *(said.structure.name, 100 * (1 - said.inside)),
            )
    return carried


class Reached(NamedTuple):
    """Voxels `first` <= (x, y, z) < `after` of the other scan, and what a structure has of them."""

    first: NDArray[np.int64]
    after: NDArray[np.int64]
    part: sitk.Image
    shares: NDArray[np.float16]  # to the thousandth, which is enough to compare them
    voxels: NDArray[np.bool_]


def _reached(one: Structure, way: Way, lattice: Points, mapped: Points) -> Reached:
    """Look up a structure where a coarse lattice says that it may be."""
    reach = STRETCH * LATTICE_MM / np.array(one.mask.GetSpacing()) + 0.5
    index = physical_to_index(one.mask, mapped)
    near = ((index >= -reach) & (index <= np.array(one.mask.GetSize()) - 1 + reach)).all(axis=1)
    first, after = np.zeros(3, int), np.ones(3, int)
    if near.any():
        step = np.ceil(LATTICE_MM / np.array(way.grid.GetSpacing())) + 1
        first, after = box_around(lattice[near], way.grid, step)
    part = part_of(way.grid, first, after)
    shares = shares_of(one.mask, part, way.transform(part))
    return Reached(first, after, part, shares.astype(np.float16), fullest(shares))


def _settle(structures: Sequence[Structure], found: Sequence[Reached]) -> None:
    """Give voxels that two structures reach to one, unless they share voxels already."""
    for a, b in combinations(range(len(found)), 2):
        low = np.maximum(found[a].first, found[b].first)
        high = np.minimum(found[a].after, found[b].after)
        if (high <= low).any():
            continue
        boxes = [_box(low - found[n].first, high - found[n].first) for n in (a, b)]
        mine, other = (found[n].voxels[box] for n, box in zip((a, b), boxes, strict=True))
        both = mine & other
        if both.any() and not _share_voxels(structures[a], structures[b]):
            more = found[a].shares[boxes[0]] >= found[b].shares[boxes[1]]
            mine[both & ~more] = False
            other[both & more] = False


def _box(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[slice, ...]:
    """[z, y, x]."""
    return tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))


def _share_voxels(one: Structure, other: Structure) -> bool:
    nearest = sitk.sitkNearestNeighbor
    there = sitk.Resample(other.mask, one.mask, sitk.Transform(), nearest, 0)
    return bool((sitk.GetArrayFromImage(there) & sitk.GetArrayFromImage(one.mask)).any())


def _inside(one: Structure, way: Way) -> float:
    """Share of a structure that lies in the other scan, by up to about `SAMPLES` of its voxels."""
    index = np.argwhere(sitk.GetArrayViewFromImage(one.mask) != 0)[:, ::-1]
    some = index[:: max(1, len(index) // SAMPLES)]
    return float(inside(way.grid, way.forth(index_to_physical(one.mask, some))).mean())
