"""Training: a real run on made volumes, resumed, and exported."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from landmark_dir.network import PaperNetwork
from landmark_dir.phantom import PhantomOptions, make_phantom
from landmark_dir.volume import write_volume
from landmark_dir.weights import load_weights
from training import export as exporting
from training import train as training
from training.dataset import load_slices, make_pairs
from training.train import TrainOptions, compute_loss, learning_rate, train

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "paper.toml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder like the real one, with made volumes."""
    folder = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("training", "validation")):
        (folder / "ct" / part).mkdir(parents=True)
        size = PhantomOptions(size_xyz=(100, 80, 4), spacing_mm=(3.0, 3.0, 6.0), seed=seed)
        write_volume(make_phantom(size).fixed, folder / "ct" / part / "made.nii.gz")
    (folder / "ct" / "slices").mkdir()
    one = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "ct" / "training" / "made.nii.gz")))
    np.savez(folder / "ct" / "slices" / "one.npz", made_000=np.kron(one[2], np.ones((2, 2))))
    return folder


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> TrainOptions:
    monkeypatch.setattr(training, "VALIDATION_BATCHES", 1)
    monkeypatch.setattr(training, "VALIDATION_PX", 96)
    read = TrainOptions.read(CONFIG)
    return dataclasses.replace(read, steps=4, batch=2, crop_px=64, keypoints=40)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _save_and_stop(state: training.State, *_: object) -> None:
    if state.step == 2:
        raise KeyboardInterrupt


def _train(options: TrainOptions, folder: Path, data: Path, *, resume: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    train(options, folder, data, resume=resume, minutes=10, every=10)


def _state(folder: Path) -> dict[str, torch.Tensor]:
    loaded = torch.load(folder / "last.pt", weights_only=True)["network"]
    assert isinstance(loaded, dict)
    return loaded


def test_a_resumed_training_continues_the_same_stream(
    options: TrainOptions, data: Path, tmp_path: Path
) -> None:
    _train(options, tmp_path / "whole", data)
    with pytest.MonkeyPatch.context() as patch:  # killed after two steps of four
        patch.setattr(training, "report", _save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(options, _new(tmp_path / "parts"), data, resume=False, minutes=10, every=0)
    _train(options, tmp_path / "parts", data, resume=True)
    _train(options, tmp_path / "again", data)
    states = [_state(tmp_path / name) for name in ("whole", "again", "parts")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_training_leaves_weights_that_load_and_ship(
    options: TrainOptions, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(options, tmp_path / "run", data)
    assert load_weights(tmp_path / "run" / "best.safetensors").metadata["step"] == "4"
    monkeypatch.setattr(exporting, "SHIPPED", tmp_path)
    path = exporting.export(tmp_path / "run", "mine", "one CPU thread", 4, 2)
    card = path.with_suffix(".md").read_text()
    assert load_weights(path).sha256 in card
    assert "8 image pairs" in card


def test_the_loss_falls_and_reaches_every_parameter(options: TrainOptions, data: Path) -> None:
    device = torch.device("cpu")
    slices = load_slices(data / "ct" / "training")
    pairs = make_pairs(
        slices, 2, (64, 64), options.augment, torch.Generator().manual_seed(0), device
    )
    torch.manual_seed(0)
    network = PaperNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        terms, _ = compute_loss(network, pairs, options, device)
        optimizer.zero_grad()
        terms.total().backward()
        optimizer.step()
        losses.append(terms.total().item())
    assert losses[-1] < losses[0] - 0.2
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_unknown_and_missing_keys_are_refused(tmp_path: Path) -> None:
    text = CONFIG.read_text()
    for changed in (text.replace("crop_px", "crop"), text.replace("shear = 0.15\n", "sheer = 1\n")):
        (tmp_path / "bad.toml").write_text(changed)
        with pytest.raises(TypeError):
            TrainOptions.read(tmp_path / "bad.toml")


def test_learning_rate_warms_up_and_decays(options: TrainOptions) -> None:
    long = dataclasses.replace(options, steps=1000)
    assert learning_rate(0, long) < learning_rate(200, long) <= options.learning_rate
    assert learning_rate(1000, long) == pytest.approx(options.final_learning_rate)
