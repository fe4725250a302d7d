"""Weights files: found, checked, loaded, or refused with a sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from landmark_dir.errors import BadWeights
from landmark_dir.models.default import SeekNetwork
from landmark_dir.models.paper import PaperNetwork
from landmark_dir.models.weights import kept_weights, load_weights, save_weights, shipped_weights
from landmark_dir.preprocessing.intensity import CT, SCALES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_weights(PaperNetwork(), path, {"step": "7"})
    return path


def test_round_trip_keeps_every_tensor_at_half_precision(file: Path) -> None:
    network = PaperNetwork()
    save_weights(network, file, {})
    loaded = load_weights(file, fold=False)
    assert not loaded.network.training
    for key, value in network.state_dict().items():
        stored = value.half().to(value.dtype)  # files hold half precision
        assert torch.equal(stored, loaded.network.state_dict()[key])


def test_metadata_travels(file: Path) -> None:
    loaded = load_weights(file)
    assert loaded.metadata["step"] == "7"
    assert loaded.metadata["network"] == "paper"


def test_paper_ships_with_the_package() -> None:
    assert "paper" in shipped_weights()
    assert load_weights("paper").metadata["network"] == "paper"


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(BadWeights, match="neither a file nor one of the shipped names"):
        load_weights("nonsense")


def test_one_changed_number_is_noticed(file: Path) -> None:
    metadata = load_weights(file).metadata
    tensors = load_file(file)
    tensors["match.bias"] += 1e-3
    save_file(tensors, file, metadata=metadata)
    with pytest.raises(BadWeights, match="do not match the SHA-256"):
        load_weights(file)


def test_a_cut_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BadWeights, match="expected a safetensors file"):
        load_weights(file)


def test_a_file_without_a_network_name_is_refused(file: Path) -> None:
    save_file(load_file(file), file)
    with pytest.raises(BadWeights, match="names a network"):
        load_weights(file)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_tensors_of_another_network_are_refused(file: Path, change: str) -> None:
    from landmark_dir.models import weights

    tensors = load_file(file)
    if change == "missing":
        del tensors["match.bias"]
    else:
        tensors["match.bias"] = torch.zeros(2)
    metadata = {"network": "paper", "sha256": weights._tensor_hash(tensors)}
    save_file(tensors, file, metadata=metadata)
    with pytest.raises(BadWeights, match="tensors"):
        load_weights(file)


@pytest.mark.parametrize("name", sorted(shipped_weights()))
def test_shipped_weights_name_the_scale_they_were_trained_on(name: str) -> None:
    loaded = load_weights(name)
    assert loaded.metadata["input_scale"] == loaded.network.scale.name == CT.name


def test_weights_of_another_modality_bring_their_own_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second object, and nothing else: windows and network units follow it."""
    two = ((0.0, 1.0), (1.0, 4.0))
    mri = replace(CT, name="mri", knots=(0.0, 5.0), network_knots=(-1.0, 1.0), windows=two)
    save_weights(SeekNetwork(mri), tmp_path / "mri.safetensors", {})
    with pytest.raises(BadWeights, match=r"input scale 'mri', expected one .* \(ct-hu\)"):
        load_weights(tmp_path / "mri.safetensors")
    monkeypatch.setitem(SCALES, "mri", mri)
    network = load_weights(tmp_path / "mri.safetensors").network
    assert network.scale is mri
    seen = network.windows(
        torch.from_numpy(mri.to_network(np.array([0.0, 1, 4])))[None, None, None]
    )
    assert seen.shape == (1, 2, 1, 3)
    torch.testing.assert_close(seen[0, :, 0], torch.tensor([[-1.0, 1, 1], [-1.0, -1, 1]]))


def test_weights_that_do_not_say_are_of_ct(file: Path) -> None:
    metadata = dict(load_weights(file).metadata)
    del metadata["input_scale"]
    save_file(load_file(file), file, metadata=metadata)
    assert load_weights(file).network.scale is CT


def test_weights_are_read_again_only_if_the_file_has_changed(file: Path) -> None:
    first = kept_weights(file)
    assert kept_weights(str(file)) is first
    other = SeekNetwork() if isinstance(first.network, PaperNetwork) else PaperNetwork()
    save_weights(other, file, {})
    assert type(kept_weights(file).network) is type(other)
