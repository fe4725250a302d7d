"""elastix parameter maps: read, write, check, and add the landmark term.

A map is what elastix calls a parameter file: each name with its values, all text. Transform
files have the same syntax, so `parse` and `format_map` serve them too.
"""

import math
import re
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeAlias

from landmark_dir.errors import BadPoints
from landmark_dir.io.text_files import NUMBER, floats, read_text

ParameterMap: TypeAlias = dict[str, tuple[str, ...]]

POINTS_METRIC = "CorrespondingPointsEuclideanDistanceMetric"
BENDING_METRIC = "TransformBendingEnergyPenalty"
MULTI_METRIC = "MultiMetricMultiResolutionRegistration"
OPTIMIZERS = frozenset(  # PreconditionedStochasticGradientDescent ends in a segmentation fault
    {
        "AdaptiveStochasticGradientDescent",
        "QuasiNewtonLBFGS",
        "RegularStepGradientDescent",
        "StandardGradientDescent",
    }
)
MOST_BYTES = 1 << 29  # of a transform file: a b-spline of 8 million control points
MAX_SAMPLES = 200_000  # a random sample costs about a microsecond; 1e8 would run for hours

COMPONENTS = frozenset(  # a list of them has one for each metric or image, not for each level
    {
        "FixedImagePyramid",
        "ImageSampler",
        "Interpolator",
        "Metric",
        "MovingImagePyramid",
        "Optimizer",
        "Registration",
        "ResampleInterpolator",
        "Resampler",
        "Transform",
    }
)

# `++`: what is not as expected is refused at once, instead of after every way to part the text
_LINE = re.compile(r'\(\s*+([^\s"()]++)\s*+(.*)\)')
_VALUES = re.compile(r'(?:"[^"]*"|[^\s"()]++|\s++)*+')
_VALUE = re.compile(r'"([^"]*)"|([^\s"]+)')
_COMMENT = re.compile(r'^((?:[^"/]|"[^"]*"|/(?!/))*)//.*$')


def parse(text: str) -> ParameterMap:
    """Read elastix parameter syntax: `(Name value "text value")`, one a line, `//` comments.

    Raises
    ------
    ValueError
        With the line number, if a line is neither a parameter nor a comment, or a name repeats.
    """
    parameters: ParameterMap = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = _COMMENT.sub(r"\1", line) if "//" in line else line
        if not content.strip():
            continue
        match = _LINE.fullmatch(content.strip())
        if match is None or (values := _split(match[2])) is None:
            raise ValueError(
                f"line {number}: expected (Name value ...), found {content.strip()[:60]!r}"
            )
        if match[1] in parameters:
            raise ValueError(f"line {number}: {match[1]} is given a second time")
        parameters[match[1]] = values
    return parameters


def _split(values: str) -> tuple[str, ...] | None:
    """Split on white space outside quotes; None if quotes or brackets do not fit."""
    if not any(sign in values for sign in '"()'):
        return tuple(values.split())  # the quick way: a b-spline may have a million numbers
    if not _VALUES.fullmatch(values):
        return None
    return tuple(quoted or bare for quoted, bare in _VALUE.findall(values))


def format_map(parameters: ParameterMap) -> str:
    """Write a map in elastix syntax: numbers bare, everything else in quotes."""
    return "".join(f"({name} {_format(values)})\n" for name, values in parameters.items())


def _format(values: tuple[str, ...]) -> str:
    if floats(values) is not None:
        return " ".join(values)
    return " ".join(value if NUMBER.fullmatch(value) else f'"{value}"' for value in values)


def read_parameters(path: Path) -> ParameterMap:
    """Read a parameter or transform file.

    Raises
    ------
    ValueError
        With the file's name, if it is not text in elastix syntax.
    """
    try:
        text = read_text(path, MOST_BYTES)
    except BadPoints as error:
        raise ValueError(str(error)) from error
    try:
        return parse(text.removeprefix("\ufeff"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _bundled_files() -> Traversable:
    try:
        return resources.files("landmark_dir.elastix_params")
    except ModuleNotFoundError:  # run from a checkout that is not installed
        return Path(__file__).parents[2] / "elastix_params"


def bundled(name: str) -> ParameterMap:
    """Return a parameter map of the package: `affine`, `bspline` or that of a preset.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    files = {file.name.removesuffix(".txt"): file for file in _bundled_files().iterdir()}
    presets = sorted(preset for preset, file in files.items() if file.name.endswith(".txt"))
    if name not in presets:
        raise ValueError(f"expected a bundled parameter map ({', '.join(presets)}), found {name!r}")
    return parse(files[name].read_text(encoding="utf-8"))


def resolutions(parameters: ParameterMap) -> int:
    """Return the number of pyramid levels; 3 where the map is silent, as in elastix."""
    return int(parameters.get("NumberOfResolutions", ("3",))[0])


def iterations(parameters: ParameterMap) -> list[int]:
    """Most iterations of each resolution; 500 where the map is silent, as in elastix."""
    values = [int(value) for value in parameters.get("MaximumNumberOfIterations", ("500",))]
    return values if len(values) > 1 else values * resolutions(parameters)


def last_resolution(parameters: ParameterMap) -> ParameterMap:
    """The finest level of a map alone.

    A schedule leaves its last part, and a parameter with a value for each level its last value. A
    single value serves for all levels. What is no list by level stays whole: components, one for
    each metric, and the spacing of the final grid, one for each axis.

    Raises
    ------
    ValueError
        If a parameter has several values, but not one for each level.

    References
    ----------
    [elastix] sec. 4.2, parameters by resolution
    """
    levels = resolutions(parameters)
    last: ParameterMap = {}
    for name, values in parameters.items():
        if name in COMPONENTS or name.startswith("FinalGridSpacing") or len(values) == 1:
            continue
        if len(values) % levels or (len(values) != levels and not name.endswith("Schedule")):
            raise ValueError(
                f"{name}: expected one value, or one for each of {levels} resolutions, found "
                f"{len(values)}"
            )
        last[name] = values[-(len(values) // levels) :]
    return {**parameters, **last, "NumberOfResolutions": ("1",)}


def with_points_metric(base: ParameterMap, weights: Sequence[float]) -> ParameterMap:
    """Append the landmark term to a map; everything else stays as it is.

    Parameters
    ----------
    base : ParameterMap
        States a weight for each of its metrics: elastix would give those left out 1 / number of
        metrics, and a comparison with and without landmarks would differ twice.
    weights : sequence of float
        Weight of the mean distance (mm) of the corresponding points, one per resolution.

    References
    ----------
    [elastix] sec. 6.1.8, `CorrespondingPointsEuclideanDistanceMetric`
    """
    if len(weights) != resolutions(base):
        raise ValueError(
            f"expected one landmark weight for each of {resolutions(base)} resolutions, "
            f"found {len(weights)}"
        )
    if bad := [weight for weight in weights if not (math.isfinite(weight) and weight >= 0)]:
        raise ValueError(f"expected landmark weights that are finite and >= 0, found {bad[0]}")
    _check_weights(base)
    metrics = base["Metric"]
    return {
        **base,
        "Registration": (MULTI_METRIC,),
        "Metric": (*metrics, POINTS_METRIC),  # last: the optimiser wants an image metric first
        f"Metric{len(metrics)}Weight": tuple(f"{weight:g}" for weight in weights),
    }


def with_bending_energy(base: ParameterMap, weight: float) -> ParameterMap:
    """Append the bending energy penalty to a map, with one weight for all resolutions.

    Raises
    ------
    ValueError
        If the weight is not finite and >= 0, or the landmark term is already there: it is last.

    References
    ----------
    [elastix] `TransformBendingEnergyPenalty`
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"bending energy: expected a weight >= 0, found {weight}")
    if uses_points(base):
        raise ValueError("bending energy has to be added before the landmark term")
    metrics = base["Metric"]
    return {
        **base,
        "Registration": (MULTI_METRIC,),
        "Metric": (*metrics, BENDING_METRIC),
        f"Metric{len(metrics)}Weight": (f"{weight:g}",),
    }


def with_grid_points(base: ParameterMap, count: int | None) -> ParameterMap:
    """The map with as many points of the grid that the optimiser sizes its steps on; None: as is.

    elastix lays it over the box of the fixed mask, stops if none lies in the mask, and takes a few
    thousand unless told.
    """
    return base if count is None else {**base, "NumberOfJacobianMeasurements": (str(count),)}


def uses_points(parameters: ParameterMap) -> bool:
    """Tell whether the map has the landmark term."""
    return POINTS_METRIC in parameters.get("Metric", ())


def check_parameters(parameters: ParameterMap) -> None:
    """Refuse what elastix answers with a crash, endless work or a silently different result.

    Raises
    ------
    ValueError
        Naming the parameter and what is allowed.
    """
    for name in ("Metric", "Optimizer", "Transform"):
        if not parameters.get(name):
            raise ValueError(f"the parameter map has no {name}; start from a bundled map")
    _check_optimizer(parameters)
    _check_samples(parameters)
    if parameters.get("Registration") == (MULTI_METRIC,) or len(parameters["Metric"]) > 1:
        _check_weights(parameters)
    if uses_points(parameters):
        _check_points_term(parameters)


def _check_optimizer(parameters: ParameterMap) -> None:
    for optimizer in parameters["Optimizer"]:
        if optimizer not in OPTIMIZERS:
            allowed = ", ".join(sorted(OPTIMIZERS))
            raise ValueError(f"expected Optimizer to be one of {allowed}, found {optimizer}")


def _check_samples(parameters: ParameterMap) -> None:
    for name in ("NumberOfSpatialSamples", "NumberOfSamplesForExactGradient"):
        for value in parameters.get(name, ()):
            try:
                allowed = 1 <= float(value) <= MAX_SAMPLES
            except ValueError:
                allowed = False
            if not allowed:
                raise ValueError(f"expected {name} between 1 and {MAX_SAMPLES}, found {value}")


def _check_weights(parameters: ParameterMap) -> None:
    weights = [f"Metric{i}Weight" for i in range(len(parameters["Metric"]))]
    if missing := [name for name in weights if name not in parameters]:
        raise ValueError(f"metrics without an explicit weight: {', '.join(missing)} missing")


def _check_points_term(parameters: ParameterMap) -> None:
    metrics = parameters["Metric"]
    if metrics.index(POINTS_METRIC) != len(metrics) - 1 or len(metrics) < 2:
        raise ValueError(f"expected {POINTS_METRIC} as the last of two or more metrics")
    if parameters.get("Registration") != (MULTI_METRIC,):
        raise ValueError(f"the landmark term needs Registration {MULTI_METRIC}")
