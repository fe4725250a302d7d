"""Slices and volumes to correspondences, on the shipped weights."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import rotate
from scipy.spatial import cKDTree

from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import voxel_centres
from landmark_dir.matching.paper import match_landmarks
from landmark_dir.matching.slices import (
    MatchingOptions,
    match_slices,
)
from landmark_dir.matching.volumes import (
    FixedVolume,
    grid_to_match,
)
from landmark_dir.models import device
from landmark_dir.models.device import choose_device, torch_threads
from landmark_dir.models.paper import PaperNetwork, SliceLandmarks
from landmark_dir.models.weights import load_weights
from landmark_dir.phantom.scanner import Phantom, PhantomOptions, make_phantom
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.intensity import CT


@pytest.fixture(scope="module")
def pair() -> Phantom:
    """A small oblique pair whose anatomy did not move; noise, gas and contrast changed."""
    return make_phantom(
        PhantomOptions(size_xyz=(120, 96, 12), spacing_mm=(2.5, 2.5, 6.0), displacement_mm=0.0)
    )


def _landmarks(descriptors: torch.Tensor) -> SliceLandmarks:
    count = len(descriptors)
    return SliceLandmarks(torch.zeros(count, 2), torch.ones(count), descriptors)


def test_matches_are_mutual_best_by_probability_and_norm() -> None:
    torch.manual_seed(0)
    network = PaperNetwork()
    torch.nn.init.ones_(network.match.weight)
    base = torch.nn.functional.normalize(torch.randn(4, 384), dim=1)
    order = torch.tensor([2, 0, 3])  # row 1 has no partner
    rows, probability, cosine = match_landmarks(network, _landmarks(base), _landmarks(base[order]))
    assert rows.tolist() == [[0, 1], [2, 0], [3, 2]]
    assert_allclose(cosine, 1, atol=1e-5)
    assert ((probability > 0) & (probability < 1)).all()


def test_norm_and_probability_must_agree() -> None:
    """A long descriptor wins by the layer's product, a near one by the norm: no match."""
    network = PaperNetwork()
    torch.nn.init.ones_(network.match.weight)
    one = torch.zeros(1, 384)
    one[0, 0] = 1
    two = torch.zeros(2, 384)
    two[0, 0] = 1
    two[1, :2] = torch.tensor([5.0, 5.0])
    assert len(match_landmarks(network, _landmarks(one), _landmarks(two))[0]) == 0


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (3, 0)])
def test_no_landmarks_give_no_matches(counts: tuple[int, int]) -> None:
    one, two = (_landmarks(torch.randn(n, 384)) for n in counts)
    assert match_landmarks(PaperNetwork(), one, two)[0].shape == (0, 2)


def test_a_shifted_slice_matches_itself(pair: Phantom) -> None:
    hu = sitk.GetArrayFromImage(pair.fixed)[6]
    hu = np.kron(hu, np.ones((2, 2)))  # near 1 mm
    moved = np.roll(hu, (5, -9), (0, 1))  # down, right
    xy_1, xy_2, score = match_slices(hu, moved)
    assert len(xy_1) > 50
    assert ((score > 0) & (score <= 1)).all()
    assert_allclose(np.median(xy_2 - xy_1, axis=0), [-9, 5], atol=0.3)  # px, x then y


@pytest.mark.parametrize("degrees", [-40.0, 30.0])
def test_a_turned_slice_matches_itself(degrees: float, pair: Phantom) -> None:
    hu = np.kron(sitk.GetArrayFromImage(pair.fixed)[6], np.ones((2, 2)))  # near 1 mm
    turned = rotate(hu, degrees, reshape=False, order=1, cval=-1000)
    xy_1, xy_2, _ = match_slices(hu, turned)
    assert len(xy_1) > 50
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    middle = (np.array(hu.shape[::-1]) - 1) / 2
    off = np.linalg.norm((xy_1 - middle) @ matrix.T + middle - xy_2, axis=1)
    assert np.median(off) < 0.5  # px


def test_bfloat16_changes_nothing_that_matters(
    pair: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [np.kron(sitk.GetArrayFromImage(i)[6], np.ones((2, 2))) for i in (pair.fixed,) * 2]
    slices[1] = np.roll(slices[1], (3, 4), (0, 1))
    found = []
    for half in (True, False):
        monkeypatch.setattr(device, "has_bfloat16", lambda _, half=half: half)
        found.append(match_slices(*slices))
    assert abs(len(found[0][0]) - len(found[1][0])) < 0.1 * len(found[1][0])
    nearest, _ = cKDTree(found[1][0]).query(found[0][0])
    assert np.mean(nearest < 0.25) > 0.9  # px


def test_slices_of_other_shapes_and_of_air_are_fine() -> None:
    xy_1, xy_2, score = match_slices(np.full((50, 70), -1000), np.full((33, 41), -1000))
    assert xy_1.shape == xy_2.shape == (0, 2)
    assert score.shape == (0,)


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 4)), np.full((8, 8), np.nan)])
def test_bad_slices_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="hu_2: expected a finite 2D array"):
        match_slices(np.zeros((8, 8)), bad)


def test_a_still_pair_matches_in_place_in_world_mm(pair: Phantom) -> None:
    """The whole way with an oblique, anisotropic, off-origin grid."""
    moving = sitk.Resample(pair.moving, pair.fixed, sitk.Transform(), sitk.sitkLinear, -1000.0)
    network = load_weights("paper").network
    fixed = FixedVolume(network, pair.fixed, body_mask(pair.fixed))
    pairs = fixed.match(moving, body_mask(moving))
    assert len(pairs) > 200
    move = (pairs.moving - pairs.fixed) @ np.reshape(pair.fixed.GetDirection(), (3, 3))
    assert np.median(np.linalg.norm(move[:, :2], axis=1)) < 2.5  # mm, one voxel in-plane
    assert np.median(np.abs(move[:, 2])) < 3.0  # mm, half a slice
    centres = voxel_centres(pair.fixed)
    assert (pairs.fixed >= centres.min(0) - 3).all()
    assert (pairs.fixed <= centres.max(0) + 3).all()
    assert len(np.unique(pairs.fixed, axis=0)) == len(pairs)
    assert len(np.unique(pairs.moving, axis=0)) == len(pairs)


def test_the_search_finds_a_shift_of_one_slice(pair: Phantom) -> None:
    """Row i stays with row i, and the neighbour that fits wins."""
    array = sitk.GetArrayFromImage(pair.fixed)
    shifted = sitk.GetImageFromArray(np.concatenate([array[1:], array[-1:]]))
    shifted.CopyInformation(pair.fixed)
    body = body_mask(pair.fixed)
    network = load_weights("paper").network
    pairs = FixedVolume(network, pair.fixed, body).match(shifted, body_mask(shifted))
    step = np.reshape(pair.fixed.GetDirection(), (3, 3))[:, 2] * pair.fixed.GetSpacing()[2]
    assert_allclose(np.median(pairs.moving - pairs.fixed, axis=0), -step, atol=0.2)  # mm
    none = MatchingOptions(search_mm=0.0)
    still = FixedVolume(network, pair.fixed, body, none).match(shifted, body_mask(shifted))
    along = (still.moving - still.fixed) @ step / (step @ step)
    assert_allclose(along, 0, atol=1e-6)  # slices; no reach, no through-plane motion


@pytest.mark.parametrize("change", [{"min_score": 1.5}, {"search_mm": -1.0}])
def test_bad_options_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(MatchingOptions(), **change)


def test_cuda_is_never_replaced_silently() -> None:
    if torch.cuda.is_available():
        assert choose_device("auto") == "cuda"
    else:
        with pytest.raises(LandmarkDirError, match="--device cpu"):
            choose_device("cuda")


def test_thread_setting_is_put_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_network_units_rise_with_hu() -> None:
    units = CT.to_network(np.arange(-1024, 2001))
    assert units[0] == -1
    assert units[-1] == 1
    assert (np.diff(units) > 0).all()


def test_a_motion_of_35_mm_is_found(pair: Phantom) -> None:
    network, body = load_weights("default").network, body_mask(pair.fixed)
    shift = np.array([21.0, -20.0, 18.0])  # mm; 35 in all, three slices through-plane
    axes = np.reshape(pair.fixed.GetDirection(), (3, 3))
    moved = sitk.Resample(
        pair.fixed,
        pair.fixed,
        sitk.TranslationTransform(3, (axes @ shift).tolist()),
        sitk.sitkLinear,
        -1000.0,
    )
    pairs = FixedVolume(network, pair.fixed, body).match(moved, body_mask(moved))
    assert len(pairs) > 500
    error = np.linalg.norm(pairs.moving - pairs.fixed + axes @ shift, axis=1)
    assert np.median(error) < 0.5  # mm
    assert np.percentile(error, 95) < 4  # of single places, not settled


def test_landmarks_lie_in_both_masks(pair: Phantom) -> None:
    network = load_weights("default").network
    half = sitk.GetArrayFromImage(body_mask(pair.fixed))
    half[:, :, : half.shape[2] // 2] = 0
    mask = sitk.GetImageFromArray(half)
    mask.CopyInformation(pair.fixed)
    body = body_mask(pair.fixed)
    for masks in ((mask, body), (body, mask)):
        pairs = FixedVolume(network, pair.fixed, masks[0]).match(pair.fixed, masks[1])
        columns = [pair.fixed.TransformPhysicalPointToContinuousIndex(p)[0] for p in pairs.moving]
        assert len(columns) > 300
        assert min(columns) > half.shape[2] // 2 - 1.5


def test_the_grid_has_the_slices_of_the_finer_volume() -> None:
    fixed = sitk.Image((40, 30, 9), sitk.sitkFloat32)
    fixed.SetSpacing((0.8, 0.8, 5.0))
    fixed.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    fixed.SetOrigin((7.0, -40.0, 12.0))
    moving = sitk.Image((40, 30, 9), sitk.sitkFloat32)
    for spacing, finest in ((1.0, 2.0), (2.5, 2.5), (7.0, 2.5)):
        moving.SetSpacing((0.7, 0.7, spacing))
        grid = grid_to_match(load_weights("default").network, fixed, moving)
        assert grid.GetSpacing() == pytest.approx((0.8, 0.8, finest))
        assert grid.GetOrigin() == fixed.GetOrigin()
        assert grid.GetDirection() == fixed.GetDirection()
        assert (grid.GetSize()[2] - 1) * finest == pytest.approx(40, abs=finest - 1e-6)
    same = grid_to_match(load_weights("paper").network, fixed, moving)
    assert same.GetSize() == fixed.GetSize()
