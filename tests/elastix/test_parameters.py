import math
from pathlib import Path

import pytest

from landmark_dir.elastix.parameters import (
    POINTS_METRIC,
    ParameterMap,
    bundled,
    check_parameters,
    format_map,
    iterations,
    last_resolution,
    parse,
    read_parameters,
    resolutions,
    uses_points,
    with_bending_energy,
    with_points_metric,
)

WEIGHTS = (0.1, 0.03, 0.01)


def test_parse_reads_comments_quotes_and_numbers() -> None:
    text = '// head\n(Metric "A" "B c") // tail\n\n  ( Spacing 1.5 -2e-3 )\n(Path "/a//b (1)" "")\n'
    assert parse(text) == {
        "Metric": ("A", "B c"),
        "Spacing": ("1.5", "-2e-3"),
        "Path": ("/a//b (1)", ""),
    }


@pytest.mark.parametrize(
    "bad", ["(A 1", "A 1)", '(A "x)', "(A (1))", "(A 1) (B 2)", "()", "text", "(Ok 2)"]
)
def test_parse_names_the_line_of_what_it_cannot_read(bad: str) -> None:
    with pytest.raises(ValueError, match="line 3: "):
        parse(f"// head\n(Ok 1)\n{bad}\n")


def test_format_and_parse_are_inverse() -> None:
    parameters: ParameterMap = {
        "Word": ("float", "4 words in one value"),
        "Numbers": ("1", "-2.5", "1e-05", ".5", "3."),
        "NotNumbers": ("3D", "1.2.3", "nan", "", "-"),
    }
    text = format_map(parameters)
    assert parse(text) == parameters
    assert '(Numbers 1 -2.5 1e-05 .5 3.)\n(NotNumbers "3D" "1.2.3" "nan" "" "-")' in text


def test_read_parameters_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("(Metric\n")
    with pytest.raises(ValueError, match=r"mine\.txt: line 1: expected \(Name value"):
        read_parameters(path)


@pytest.mark.parametrize("name", ["affine", "bspline"])
def test_bundled_maps_pass_their_own_check(name: str) -> None:
    parameters = bundled(name)
    check_parameters(parameters)
    levels = resolutions(parameters)
    assert len(parameters["ImagePyramidSchedule"]) == 3 * levels
    assert parameters["HowToCombineTransforms"] == ("Compose",)
    assert parse(format_map(parameters)) == parameters


def test_bspline_map_states_every_weight_and_a_grid_for_each_level() -> None:
    parameters = bundled("bspline")
    assert len(parameters["GridSpacingSchedule"]) == resolutions(parameters)
    assert all(f"Metric{i}Weight" in parameters for i in range(len(parameters["Metric"])))


def test_bundled_refuses_other_names() -> None:
    with pytest.raises(ValueError, match=r"\(affine, bspline, .*\), found '../x'"):
        bundled("../x")


def test_every_bundled_value_has_an_origin() -> None:
    readme = (Path(__file__).parents[2] / "elastix_params" / "README.md").read_text()
    missing = {
        name for f in ("affine", "bspline") for name in bundled(f) if f"`{name}`" not in readme
    }
    assert missing == set()


def test_points_metric_is_appended_and_nothing_else_changes() -> None:
    base = bundled("bspline")
    guided = with_points_metric(base, WEIGHTS)
    assert guided["Metric"] == (*base["Metric"], POINTS_METRIC)
    number = len(base["Metric"])
    assert guided[f"Metric{number}Weight"] == ("0.1", "0.03", "0.01")
    changed = {name for name in guided if guided[name] != base.get(name)}
    assert changed == {"Metric", f"Metric{number}Weight"}  # `Registration` is multi-metric already
    assert uses_points(guided)
    assert not uses_points(base)
    check_parameters(guided)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.1], "each of 3 resolutions, found 1"),
        ([0.1, 0.1, -1.0], "finite and >= 0, found -1"),
        ([0.1, math.nan, 0.1], "finite and >= 0, found nan"),
        ([0.1, math.inf, 0.1], "finite and >= 0, found inf"),
    ],
)
def test_points_metric_refuses_bad_weights(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_points_metric(bundled("bspline"), weights)


def test_points_metric_wants_explicit_weights_even_for_one_metric() -> None:
    base = bundled("bspline")
    del base["Metric0Weight"]
    with pytest.raises(ValueError, match="explicit weight: Metric0Weight missing"):
        with_points_metric({**base, "Registration": ("MultiResolutionRegistration",)}, WEIGHTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Optimizer": ("PreconditionedStochasticGradientDescent",)}, "Optimizer to be one of"),
        ({"NumberOfSpatialSamples": ("100000000",)}, "between 1 and 200000, found 100000000"),
        ({"NumberOfSpatialSamples": ("2048", "many")}, "between 1 and 200000, found many"),
        ({"NumberOfSpatialSamples": ("nan",)}, "found nan"),
        ({"Metric": ("A", "B"), "Metric2Weight": ("1",)}, "explicit weight: Metric1Weight"),
        ({"Metric": (POINTS_METRIC, "B"), "Metric1Weight": ("1",)}, "as the last of two or more"),
        ({"Metric": (POINTS_METRIC,)}, "as the last of two or more"),
        ({"Metric": ()}, "has no Metric"),
        ({"Transform": ()}, "has no Transform"),
    ],
)
def test_check_refuses_what_elastix_would_not(change: ParameterMap, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_parameters({**bundled("bspline"), **change})


def test_check_wants_the_multi_metric_registration_for_points() -> None:
    guided = with_points_metric(bundled("bspline"), WEIGHTS)
    with pytest.raises(ValueError, match="needs Registration MultiMetric"):
        check_parameters({**guided, "Registration": ("MultiResolutionRegistration",)})


def test_bending_energy_comes_before_the_landmarks() -> None:
    both = with_points_metric(with_bending_energy(bundled("bspline"), 50), [0.1, 0.01, 0.001])
    assert both["Metric"][1:] == ("TransformBendingEnergyPenalty", POINTS_METRIC)
    assert both["Metric1Weight"] == ("50",)
    check_parameters(both)
    with pytest.raises(ValueError, match="before the landmark term"):
        with_bending_energy(both, 1)
    with pytest.raises(ValueError, match="weight >= 0"):
        with_bending_energy(bundled("bspline"), float("nan"))


@pytest.mark.parametrize("name", ["bspline", "bspline_fast", "bspline_fine", "bspline_lung"])
def test_the_last_resolution_is_the_finest_level_and_nothing_else(name: str) -> None:
    whole, last = bundled(name), last_resolution(bundled(name))
    assert resolutions(whole) == 3
    assert resolutions(last) == 1
    assert last["ImagePyramidSchedule"] == ("1", "1", "1")
    assert last["GridSpacingSchedule"] == ("1",)
    changed = {key for key in whole if whole[key] != last[key]}
    assert changed == {"NumberOfResolutions", "ImagePyramidSchedule", "GridSpacingSchedule"}
    check_parameters(with_points_metric(last, (0.1,)))


def test_the_last_resolution_takes_the_last_of_every_list_by_level() -> None:
    base = {
        **bundled("bspline"),
        "MaximumNumberOfIterations": ("100", "200", "300"),
        "NumberOfHistogramBins": ("8", "16", "32"),
        "Metric0Weight": ("3", "2", "1"),
        "Metric": ("A", "B", "C"),  # one for each metric, not for each level
    }
    last = last_resolution(base)
    assert last["NumberOfResolutions"] == ("1",)
    assert last["MaximumNumberOfIterations"] == ("300",)
    assert last["NumberOfHistogramBins"] == ("32",)
    assert last["Metric0Weight"] == ("1",)
    assert last["GridSpacingSchedule"] == ("1",)
    assert last["ImagePyramidSchedule"] == ("1", "1", "1")
    assert last["FinalGridSpacingInPhysicalUnits"] == base["FinalGridSpacingInPhysicalUnits"]
    assert last["Metric"] == ("A", "B", "C")
    assert last["NumberOfSpatialSamples"] == base["NumberOfSpatialSamples"]


def test_the_last_resolution_of_an_odd_list_is_not_guessed() -> None:
    odd = {**bundled("bspline"), "NumberOfSpatialSamples": ("2048", "4096")}
    with pytest.raises(ValueError, match="NumberOfSpatialSamples: expected one value, or one for"):
        last_resolution(odd)


def test_iterations_are_told_for_each_resolution() -> None:
    base = bundled("bspline")
    assert iterations({**base, "MaximumNumberOfIterations": ("7",)}) == [7, 7, 7]
    assert iterations({**base, "MaximumNumberOfIterations": ("1", "2", "3")}) == [1, 2, 3]
