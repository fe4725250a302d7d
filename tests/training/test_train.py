"""Training: a real run on made slices, resumed, shared by processes, and exported."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from landmark_dir.errors import BadWeights
from landmark_dir.models.device import torch_threads
from landmark_dir.models.paper import PaperNetwork
from landmark_dir.models.weights import load_weights
from training import export as exporting
from training.data.ahead import pairs_of
from training.data.augment import AugmentOptions
from training.data.dataset import PairBatch, make_pairs
from training.data.pack import CtSeries, Slice, read_pack, write_series
from training.loop import record
from training.loop.processes import Team
from training.loop.record import open_folder
from training.loop.state import Run, State, learning_rate, new_state
from training.loop.timing import Stopwatch
from training.loop.validation import validate
from training.networks.paper import training_step
from training.options import PaperOptions, TrainOptions
from training.train import command_line, open_run, take_step, train

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "training" / "configs"
CONFIG = CONFIGS / "paper.toml"
CPU = torch.device("cpu")
START: dict[str, Any] = {
    "steps": 4,
    "first": None,
    "command": "python -m training.train",
    "pack": {"sha256": "0"},
}


small_validation = partial(validate, pairs=2, side_px=96)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and lose much where other work waits."""
    with torch_threads(1):
        yield


def _series(patient: str, seed: int) -> CtSeries:
    """Four slices of smooth noise in an ellipse of tissue, with air around it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :140]
    body = ((x - 70) / 60) ** 2 + ((y - 60) / 50) ** 2 < 1
    waves = sum(
        rng.normal(0, 60)
        * np.sin(rng.uniform(0.05, 0.5) * x + rng.uniform(0.05, 0.5) * y + rng.uniform(0, 6))
        for _ in range(12)
    )
    hu = np.where(body, 40 + waves, -1000).round().astype(np.int16)
    return CtSeries(
        patient, patient, patient, np.stack([hu] * 4), np.stack([body] * 4), (0.0, 2.0, 4.0, 6.0)
    )


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "made"
    write_series(folder, _series("one", 0), "training")
    write_series(folder, _series("two", 1), "training")
    write_series(folder, _series("three", 2), "validation")
    return folder


def _small_config(network: str, folder: Path) -> Path:
    """A network's config, cut down to seconds; float32, so that sums agree closely."""
    text = (CONFIGS / f"{network}.toml").read_text()
    for key, value in (
        ("epochs", "1"),
        ("batch", "2"),
        ("crop_px", "64"),
        ("keypoints" if network == "paper" else "points", "40"),
        ("mixed_precision", "false"),
    ):
        line = next(part for part in text.splitlines() if part.startswith(f"{key} = "))
        text = text.replace(line, f"{key} = {value}")
    (folder / "small.toml").write_text(text)
    return folder / "small.toml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return _small_config("paper", tmp_path)


@pytest.fixture
def run(config: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(record, "validate", small_validation)
    options = TrainOptions.read(config)
    slices, held = (read_pack(pack, split) for split in ("training", "validation"))
    folder = tmp_path / "run"
    folder.mkdir()
    return Run(folder, options, 4, slices, held, every=0.0)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    loaded = torch.load(folder / "last.pt", weights_only=True)["network"]
    assert isinstance(loaded, dict)
    return loaded


def _in(run: Run, name: str, **changes: object) -> Run:
    folder = run.folder.parent / name
    folder.mkdir(exist_ok=True)
    return dataclasses.replace(run, folder=folder, **changes)  # type: ignore[arg-type]


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["in validation", "after the log's line", "between reports"])
def test_a_killed_training_resumes_the_same_stream(
    run: Run, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _in(run, "whole")
    train(whole)
    saved, taken = State.save, 0

    def dying_save(state: State, path: Path) -> None:
        nonlocal taken
        taken += 1
        if taken == 4 and where == "after the log's line":  # second save of step 2
            raise _Killed
        saved(state, path)
        if taken == 3 and where == "in validation":  # first save of step 2
            raise _Killed

    monkeypatch.setattr(State, "save", dying_save)
    parts = _in(run, "parts")
    if where == "between reports":
        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.Adam, "step", _dies_at_call(4))
            with pytest.raises(_Killed):
                train(dataclasses.replace(parts, every=0.0))
    else:
        with pytest.raises(_Killed):
            train(parts)
    monkeypatch.setattr(State, "save", saved)
    train(parts, resume=True)
    want, got = _tensors(whole.folder), _tensors(parts.folder)
    assert all(torch.equal(want[key], got[key]) for key in want)
    best = load_weights(whole.folder / "best.safetensors")
    assert best.sha256 == load_weights(parts.folder / "best.safetensors").sha256


def _dies_at_call(count: int) -> object:
    step, calls = torch.optim.Adam.step, 0

    def dying(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == count:
            raise _Killed
        return step(*args, **kwargs)  # type: ignore[arg-type]

    return dying


def test_the_log_holds_losses_matches_errors_and_the_networks_share(run: Run) -> None:
    train(run)
    with (run.folder / "log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    wanted = {"landmark_1", "hinge", "cross_entropy", "training_matches", "matches", "median_px"}
    assert wanted | {"network_share"} <= rows[0].keys()
    assert 0 < float(rows[-1]["network_share"]) < 1
    assert list((run.folder / "tensorboard").glob("events.*"))


def test_best_weights_survive_a_worse_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([1.0, 3.0, 2.0, 0.5])
    monkeypatch.setattr(
        record, "validate", lambda *a: {**small_validation(*a), "value": next(values)}
    )
    train(run)
    assert load_weights(run.folder / "best.safetensors").metadata["step"] == "2"


def test_weights_ship_with_their_card(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    train(run)
    (run.folder / "run.json").write_text(json.dumps({"starts": [START]}))
    (run.folder / "config.toml").write_text(CONFIG.read_text().replace("batch = 4", "batch = 2"))
    monkeypatch.setattr(exporting, "SHIPPED", run.folder.parent)
    (run.folder.parent / "table.md").write_text("# Matching\n\n## Beside table 1\n")
    path = exporting.export(run.folder, "mine", "one CPU thread", evaluation=run.folder.parent)
    with pytest.raises(ValueError, match="say --overwrite"):
        exporting.export(run.folder, "mine", "one CPU thread")
    card = path.with_suffix(".md").read_text()
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "apache-2.0"
    assert body.startswith("\n# `mine`\n")
    assert load_weights(path).sha256 in card
    step = int(load_weights(path).metadata["step"])
    assert f"{2 * step} image pairs" in card
    assert START["command"] in card
    assert "Say here which scans" in card
    assert "\n## Matching\n\n### Beside table 1\n" in card
    assert "starting from\nrandom numbers." in card
    first = {"weights": "old.safetensors", "sha256": "abc"}
    (run.folder / "run.json").write_text(json.dumps({"starts": [START | {"first": first}, START]}))
    path = exporting.export(run.folder, "mine", "one CPU thread", overwrite=True)
    said = "starting from\n`old.safetensors` (SHA-256 of its tensors: `abc`)."
    assert said in path.with_suffix(".md").read_text()


def _pairs(slices: list[Slice], options: TrainOptions, count: int = 2) -> PairBatch:
    return make_pairs(slices, range(count), (64, 64), options.augment, CPU)


def _paper_network(options: TrainOptions) -> PaperNetwork:
    network = new_state(options, Team()).network
    assert isinstance(network, PaperNetwork)
    return network


def _with_recipe(options: TrainOptions, **changes: Any) -> TrainOptions:
    return dataclasses.replace(options, recipe=dataclasses.replace(options.recipe, **changes))


def test_the_loss_falls_and_reaches_every_parameter(run: Run) -> None:
    pairs = _pairs(run.slices, run.options)
    state = new_state(run.options, Team())
    assert isinstance(state.network, PaperNetwork)
    losses = []
    for _ in range(12):
        step = training_step(state.network, pairs, run.options, Stopwatch(), Team())
        loss = torch.stack([*step.terms.values()]).sum()
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    for name, parameter in state.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_without_the_hinge_the_term_is_gone(run: Run) -> None:
    network = _paper_network(run.options)
    pairs = _pairs(run.slices, run.options)
    for part in ("hinge", "cross_entropy"):
        options = _with_recipe(run.options, **{part: 0.0})
        terms = training_step(network, pairs, options, Stopwatch(), Team()).terms
        assert terms[part] == 0
        assert sum(terms.values()) > 0


def test_the_valid_mask_takes_matches_from_the_air(run: Run) -> None:
    still = AugmentOptions(rotation_deg=0, shear=0, scale=1, elastic_px=0)
    options = _with_recipe(dataclasses.replace(run.options, augment=still), keypoints=64)
    air = [part._replace(body=torch.zeros_like(part.body)) for part in run.slices]
    network = _paper_network(options)
    with_mask = training_step(
        network, _body_pairs(air, run.slices, options), options, Stopwatch(), Team()
    )
    options = _with_recipe(options, valid_mask=False)
    without = training_step(
        network, _body_pairs(air, run.slices, options), options, Stopwatch(), Team()
    )
    assert with_mask.figures["training_matches"] == 0
    assert without.figures["training_matches"] > 5


def _body_pairs(air: list[Slice], slices: list[Slice], options: TrainOptions) -> PairBatch:
    """Pairs of body pixels whose valid mask is taken away afterwards."""
    pairs = _pairs(slices, options)
    return dataclasses.replace(pairs, sources=air[: len(pairs.sources)])


def test_a_pair_depends_on_its_own_seed_only(run: Run) -> None:
    many = make_pairs(run.slices, [5, 6, 7], (64, 64), run.options.augment, CPU)
    one = make_pairs(run.slices, [6], (64, 64), run.options.augment, CPU)
    assert torch.equal(many.images_2[1], one.images_2[0])
    points = torch.rand(1, 20, 2) * 63
    both = many.project_2_to_1(points.expand(3, -1, -1))[1], one.project_2_to_1(points)[0]
    torch.testing.assert_close(*both, atol=1e-4, rtol=0)  # px, float32


def test_pairs_made_ahead_are_those_made_in_place(run: Run) -> None:
    for ahead, here in zip(pairs_of(run, 1, workers=2), pairs_of(run, 1), strict=True):
        assert ahead.seeds == here.seeds
        assert torch.equal(ahead.images_1, here.images_1)
        assert torch.equal(ahead.images_2, here.images_2)
        points = torch.rand(len(ahead.seeds), 20, 2) * 63
        assert torch.equal(ahead.project_2_to_1(points), here.project_2_to_1(points))
        one, two = (pairs.in_body(points, pairs.warp_1) for pairs in (ahead, here))
        assert torch.equal(one, two)


def test_the_stopwatch_counts_the_networks_share(run: Run) -> None:
    watch = Stopwatch()
    take_step(new_state(run.options, Team()), run, watch, pairs_of(run, 0))
    assert {"pairs", "encode", "sampling layer", "ground truth", "backward"} <= watch.seconds.keys()
    assert watch.network_share() > 0.3


def test_unknown_and_missing_keys_are_refused(tmp_path: Path) -> None:
    text = CONFIG.read_text()
    for changed, name in (
        (text.replace("crop_px", "crop"), "unknown crop; missing crop_px"),
        (text.replace("shear = 0.2\n", "sheer = 1\n"), "unknown sheer; missing shear"),
        (text.replace("crop_px = 192", 'crop_px = "big"'), "crop_px must be int, found 'big'"),
        (text.replace("crop_px = 192", "crop_px = 100"), "multiple of 16, found 100"),
        (text.replace("batch = 4", "batch = 0"), "batch: expected more than 0, found 0"),
        (text.replace('"paper"', '"papr"'), "expected one of paper, default, found 'papr'"),
    ):
        (tmp_path / "bad.toml").write_text(changed)
        with pytest.raises(ValueError, match=name):
            TrainOptions.read(tmp_path / "bad.toml")


def test_the_config_holds_the_constants_of_the_paper() -> None:
    options = TrainOptions.read(CONFIG)
    recipe = options.recipe
    assert isinstance(recipe, PaperOptions)
    got = (recipe.keypoints, recipe.match_px, recipe.margin_pos, recipe.margin_neg)
    assert got == (400, 2.0, 0.1, 1.0)
    assert (options.learning_rate, options.weight_decay) == (1e-3, 1e-4)
    assert (options.batch, options.epochs, options.threshold) == (4, 50, 0.5)
    assert options.steps(24_923) == 311_538  # 50 epochs of the paper's training slices


def test_learning_rate_warms_up_and_decays() -> None:
    options = TrainOptions.read(CONFIG)
    rates = [learning_rate(step, 1000, options) for step in (0, 200, 1000)]
    assert rates[0] < rates[1] <= options.learning_rate
    assert rates[2] == pytest.approx(options.final_learning_rate)


def _call(module: list[str], *args: object) -> subprocess.Popen[str]:
    call = [sys.executable, *module, *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(call, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def _succeed(call: subprocess.Popen[str]) -> None:
    _, said = call.communicate()
    assert call.returncode == 0, f"\n{said[-4000:]}"


@pytest.mark.training
def test_the_command_line_trains_and_says_what_is_wrong(
    config: Path, pack: Path, tmp_path: Path
) -> None:
    module = ["-m", "training.train"]
    out = tmp_path / "run"
    first = _call(module, "--config", config, "--pack", pack, "-o", out, "--steps", 2)
    _succeed(first)
    start = json.loads((out / "run.json").read_text())["starts"][0]
    assert start["steps"] == 2
    assert start["code"]["commit"] != ""
    assert len(start["pack"]["sha256"]) == 16
    again = _call(module, "--config", config, "--pack", pack, "-o", out)
    assert again.communicate()[1].startswith(f"error: {out}: holds a training; go on with --resume")
    assert again.returncode == 1


def test_no_kill_locks_a_run_folder(run: Run, config: Path, pack: Path) -> None:
    folder = run.folder.parent / "new"
    folder.mkdir()
    (folder / "config.toml").write_text(config.read_text())  # killed before the first step
    assert open_folder(folder, config, pack, resume=False) == config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", _dies_at_call(1))
        with pytest.raises(_Killed):
            train(_in(run, "new"))
    assert torch.load(folder / "last.pt", weights_only=True)["progress"][0] == 0


def _opened(*args: object) -> Run:
    return open_run(command_line().parse_args([str(arg) for arg in args]), Team())


def test_too_few_steps_are_refused(config: Path, pack: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--steps: expected 1 or more, found 0"):
        _opened("--config", config, "--pack", pack, "-o", tmp_path / "no", "--steps", 0)


def test_a_training_starts_from_weights(pack: Path, tmp_path: Path) -> None:
    config, out = _small_config("default", tmp_path), tmp_path / "run"
    run = _opened("--config", config, "--pack", pack, "-o", out, "--first", "default")
    shipped = load_weights("default", fold=False)
    started = new_state(run.options, run.team, run.first).network.state_dict()
    kept = shipped.network.state_dict()
    assert all(torch.equal(started[key], kept[key]) for key in kept)
    written = json.loads((tmp_path / "run" / "run.json").read_text())["starts"][0]
    assert written["first"] == {"weights": "default.safetensors", "sha256": shipped.sha256}


def test_a_resumed_training_takes_no_other_start(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--first: a resumed training goes on"):
        _opened("--pack", pack, "-o", tmp_path / "run", "--resume", "--first", "default")


def test_weights_of_another_network_are_no_start(pack: Path, tmp_path: Path) -> None:
    config, out = _small_config("default", tmp_path), tmp_path / "run"
    said = "--first paper: expected weights of the `default` network.*found those of `paper`"
    with pytest.raises(BadWeights, match=said):
        _opened("--config", config, "--pack", pack, "-o", out, "--first", "paper")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_kill_at_any_moment_can_be_resumed(config: Path, pack: Path, tmp_path: Path) -> None:
    module, out = ["-m", "training.train"], tmp_path / "run"
    args = ("--pack", pack, "-o", out, "--every", 0.01, "--steps", 60)
    first = _call(module, "--config", config, *args)
    while not (out / "last.pt").exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _succeed(_call(module, "--resume", *args))
    whole = tmp_path / "whole"
    _succeed(_call(module, "--config", config, "--pack", pack, "-o", whole, "--steps", 60))
    want, got = _tensors(whole), _tensors(out)
    assert all(torch.equal(want[key], got[key]) for key in want)


LOSSES = {
    "paper": ("landmark_1", "landmark_2", "hinge", "cross_entropy"),
    "default": ("find", "matchability", "probability"),
}


@pytest.mark.training
@pytest.mark.parametrize("network", ["paper", pytest.param("default", marks=pytest.mark.slow)])
def test_two_processes_give_the_loss_curve_of_one(network: str, pack: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    config = _small_config(network, tmp_path)
    args = ("--config", config, "--pack", pack, "--steps", 3, "--every", 0)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    calls = [
        _call(["-m", "training.train"], *args, "-o", one),
        _call([*torchrun, "-m", "training.train"], *args, "-o", two),
    ]
    for call in calls:
        _succeed(call)
    curves = []
    for folder in (one, two):
        with (folder / "log.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        curves.append([[float(row[key]) for key in LOSSES[network]] for row in rows])
    assert len(curves[0]) == 3
    # a sum of another order moves a loss by 1e-7; a landmark that changes its cell, or an
    # activation that changes its sign, by 1e-3
    np.testing.assert_allclose(curves[1], curves[0], atol=5e-3)
    np.testing.assert_allclose(curves[1][0], curves[0][0], atol=2e-4)  # logged to 4 decimals


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    team = Team()
    team.size = 3
    with pytest.raises(ValueError, match="batch 4: expected a multiple of the 3 processes"):
        team.share(4)
