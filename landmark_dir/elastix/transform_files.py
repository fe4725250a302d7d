"""elastix transform files, and the initial transforms they lean on.

A transform file names the one that is applied before it by its path. elastix looks such a path
up from wherever it was started, so a run folder that moved would break. Here a chain is read
with paths meant from the file's own folder, and is copied before an engine sees it.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from landmark_dir.elastix.parameters import ParameterMap, format_map, read_parameters
from landmark_dir.errors import BadRunFolder, ElastixFailed
from landmark_dir.geometry import FARTHEST_MM
from landmark_dir.io.text_files import NUMBER, floats, quoted

# elastix before 5.1 writes and reads the first spelling; later ones write the second, read both
INITIAL = "InitialTransformParametersFileName"
INITIAL_SINCE_5_1 = "InitialTransformParameterFileName"
NO_INITIAL = "NoInitialTransform"
GRID = ("Size", "Index", "Spacing", "Origin", "Direction", "UseDirectionCosines")  # of the result


def read_chain(transform: Path, *, inside: Path | None = None) -> list[ParameterMap]:
    """Read a transform file and its initial transforms; the last of the list is applied first.

    Parameters
    ----------
    inside : path, optional
        The only folder whose files may be read.

    Raises
    ------
    ElastixFailed
        If a file of the chain is missing or damaged, or the chain bites its own tail.
    BadRunFolder
        If it leads out of `inside`.
    """
    chain: list[ParameterMap] = []
    path, seen = Path(transform).resolve(), set[Path]()
    while path not in seen:
        seen.add(path)
        if inside is not None and path.parent != inside.resolve():
            raise BadRunFolder(
                f"{transform}: its chain leads to {path}, outside of its folder, where it is not "
                "followed; copy the run folder again"
            )
        parameters = _read_transform(path)
        chain.append(parameters)
        initial = _initial(parameters, path)
        if initial is None:
            return chain
        path = initial
    raise ElastixFailed(f"{transform}: the chain of initial transforms comes back to {path}")


def _initial(parameters: ParameterMap, path: Path) -> Path | None:
    """Take out of a map which file is applied before it; None: no one."""
    named = {name for key in (INITIAL, INITIAL_SINCE_5_1) for name in parameters.pop(key, ())}
    named.discard(NO_INITIAL)
    if len(named) > 1 or "" in named:
        raise ElastixFailed(f"{path}: expected one initial transform, found {len(named)} names")
    return (path.parent / named.pop()).resolve() if named else None


def _read_transform(path: Path) -> ParameterMap:
    try:
        parameters = read_parameters(path)
    except ValueError as error:
        raise ElastixFailed(f"transform file {error}") from error
    if len(parameters.get("Transform", ())) != 1 or "TransformParameters" not in parameters:
        raise ElastixFailed(f"{path}: expected an elastix transform file, found no Transform in it")
    if parameters.get("HowToCombineTransforms", ("Compose",)) != ("Compose",):
        raise ElastixFailed(f"{path}: expected HowToCombineTransforms Compose, found another way")
    return parameters


def numbers(parameters: ParameterMap, name: str, count: int, file: Path) -> NDArray[np.float64]:
    """Return the `count` values of a parameter: places, factors and sizes, in mm.

    Raises
    ------
    ElastixFailed
        If it is missing, has another number of values, or one is no number that can be true.
    """
    words = parameters.get(name, ())
    if len(words) != count:
        raise ElastixFailed(f"{file}: expected {count} numbers for {name}, found {len(words)}")
    found = floats(words)
    values = np.array(found if found is not None else np.nan, dtype=np.float64)
    if not (np.abs(values) <= FARTHEST_MM).all():
        wrong = next(word for word in words if not _is_near(word))
        raise ElastixFailed(
            f"{file}: expected numbers up to {FARTHEST_MM:g} for {name}, found {quoted(wrong)}"
        )
    return values


def _is_near(word: str) -> bool:
    return NUMBER.fullmatch(word) is not None and abs(float(word)) <= FARTHEST_MM


def write_chain(
    chain: list[ParameterMap], folder: Path, stem: str, *, relative: bool = False
) -> Path:
    """Write `stem.txt`, `stem.1.txt`, ... into `folder`, each naming the next; return the first.

    `relative` names them by file name alone: for a folder that may be moved. elastix itself
    needs absolute paths, and 5.0 refuses those with a comma, `&`, `@`, `#`, `;`, `$` or `%`.
    """
    files = [folder / (f"{stem}.{i}.txt" if i else f"{stem}.txt") for i in range(len(chain))]
    names = [file.name if relative else str(file.resolve()) for file in files]
    for parameters, file, initial in zip(chain, files, [*names[1:], NO_INITIAL], strict=True):
        # both spellings: either alone is passed over in silence by some version
        named = {**parameters, INITIAL: (initial,), INITIAL_SINCE_5_1: (initial,)}
        file.write_text(format_map(named), encoding="utf-8")
    return files[0]


def store_transform(transform: Path, folder: Path, *, outside: float) -> Path:
    """Copy a transform and its chain into `folder` as `transform.txt`, `transform.1.txt`, ...

    The copies name each other without a path, so the folder may be moved. All resample alike,
    with `outside` beyond the moving image: what ITKElastix writes there, elastix 5.0 answers with
    an image of zeros. Returns the first.
    """
    chain = [{**parameters, **resampling(outside=outside)} for parameters in read_chain(transform)]
    return write_chain(chain, folder, "transform", relative=True)


def format_translation(shift_mm: ArrayLike, fixed: sitk.Image) -> str:
    """Return the text of a transform file that moves fixed points by `shift_mm` (x, y, z), LPS.

    `fixed` is the grid onto which the transform would resample.
    """
    return _format_first({"Transform": ("TranslationTransform",)}, _numbers(shift_mm), fixed)


def format_affine(matrix: ArrayLike, shift_mm: ArrayLike, fixed: sitk.Image) -> str:
    """Return the text of a transform file that maps fixed points x to `matrix` x + `shift_mm`.

    `fixed` is the grid onto which the transform would resample.
    """
    kind = {"Transform": ("AffineTransform",), "CenterOfRotationPoint": ("0", "0", "0")}
    return _format_first(kind, _numbers([*np.ravel(matrix), *np.ravel(shift_mm)]), fixed)


def _format_first(kind: ParameterMap, values: tuple[str, ...], fixed: sitk.Image) -> str:
    """The text of a transform file of some kind that leans on no other."""
    parameters: ParameterMap = {
        **kind,
        "NumberOfParameters": (str(len(values)),),
        "TransformParameters": values,
        INITIAL: (NO_INITIAL,),
        "HowToCombineTransforms": ("Compose",),
        "FixedImageDimension": ("3",),
        "MovingImageDimension": ("3",),
        "FixedInternalImagePixelType": ("float",),
        "MovingInternalImagePixelType": ("float",),
        **_grid(fixed),
        "Resampler": ("DefaultResampler",),
        **resampling(),
    }
    return format_map(parameters)


def write_bspline(
    coefficients: ArrayLike,
    origin: ArrayLike,
    spacing_mm: ArrayLike,
    direction: ArrayLike,
    initial: Path,
    file: Path,
) -> Path:
    """Write a cubic b-spline after the transform `initial`, whose result grid it keeps.

    Parameters
    ----------
    coefficients : array, shape (3, Z, Y, X)
        Of the displacement along x, y, z, LPS mm.
    origin, spacing_mm : array, shape (3,)
        World place (x, y, z) of the first control point, and the distance of the next.
    direction : array, shape (3, 3)
        Columns: the world directions of the axes of the grid.
    """
    values = np.asarray(coefficients)
    chain = read_chain(initial)
    kept = {name: chain[0][name] for name in GRID if name in chain[0]}
    parameters: ParameterMap = {
        "Transform": ("RecursiveBSplineTransform",),  # the same values, in less time
        "NumberOfParameters": (str(values.size),),
        "TransformParameters": _numbers(values),
        "HowToCombineTransforms": ("Compose",),
        "GridSize": tuple(str(size) for size in values.shape[:0:-1]),
        "GridIndex": ("0", "0", "0"),
        "GridSpacing": _numbers(spacing_mm),
        "GridOrigin": _numbers(origin),
        "GridDirection": _numbers(np.asarray(direction).T),
        "BSplineTransformSplineOrder": ("3",),
        "UseCyclicTransform": ("false",),
        "FixedImageDimension": ("3",),
        "MovingImageDimension": ("3",),
        "FixedInternalImagePixelType": ("float",),
        "MovingInternalImagePixelType": ("float",),
        **kept,
        "Resampler": ("DefaultResampler",),
        **resampling(),
    }
    return write_chain([parameters, *chain], file.parent, file.stem)


def _grid(image: sitk.Image) -> ParameterMap:
    """The grid that transformix writes its result on."""
    return {
        "Size": tuple(str(size) for size in image.GetSize()),
        "Index": ("0", "0", "0"),
        "Spacing": _numbers(image.GetSpacing()),
        "Origin": _numbers(image.GetOrigin()),
        # elastix writes the matrix column by column, SimpleITK row by row
        "Direction": _numbers(np.reshape(image.GetDirection(), (3, 3)).T.ravel()),
        "UseDirectionCosines": ("true",),
    }


def resampling(*, labels: bool = False, outside: float = 0.0) -> ParameterMap:
    """How transformix fills the result: its interpolator, and the value outside the image."""
    return {
        "ResampleInterpolator": ("FinalBSplineInterpolator",),
        # order 0 is the nearest neighbour; Debian's elastix has no interpolator of that name
        "FinalBSplineInterpolationOrder": ("0" if labels else "3",),
        "DefaultPixelValue": _numbers([outside]),
        "ResultImagePixelType": ("float",),
        "ResultImageFormat": ("mha",),
        "CompressResultImage": ("false",),
    }


def _numbers(values: ArrayLike) -> tuple[str, ...]:
    return tuple(map(repr, np.asarray(values, dtype=np.float64).ravel().tolist()))
