"""The pack of CT slices: grey levels, round trip, damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from training.data import pack
from training.data.pack import (
    AIR_HU,
    KNOTS_HU,
    STEP_HU,
    BadPack,
    CtSeries,
    from_levels,
    level_values,
    open_pack,
    pack_hash,
    read_pack,
    to_levels,
    write_series,
)

STEPS = (8, 12, 16, 20)


def made(name: str = "one", patient: str = "p1", slices: int = 5) -> CtSeries:
    """Noise over the whole range, with a disc of body."""
    rng = np.random.default_rng(len(name))
    hu = rng.integers(-950, 2001, (slices, 40, 53)).astype(np.int16)
    y, x = np.mgrid[:40, :53]
    body = np.stack([np.hypot(y - 20, x - 26) < 10 + k for k in range(slices)])
    return CtSeries(
        patient, name, f"{name} source", hu, body, tuple(2.5 * k for k in range(slices))
    )


@pytest.mark.parametrize("step_hu", STEPS)
def test_levels_are_monotone_and_exact_at_their_values(step_hu: int) -> None:
    values = level_values(step_hu)
    assert (np.diff(values) > 0).all()
    assert values[0] == AIR_HU
    assert set(KNOTS_HU) <= set(values.tolist())
    assert {-208 + step_hu * i for i in range(10)} <= set(values.tolist())
    assert_array_equal(to_levels(values, step_hu), np.arange(len(values)))
    every = np.arange(-1024, 3072, dtype=np.int16)
    assert (np.diff(to_levels(every, step_hu).astype(int)) >= 0).all()


@pytest.mark.parametrize("step_hu", STEPS)
def test_rounding_stays_within_half_a_step_and_goes_up_half_way(step_hu: int) -> None:
    lung, soft, bone, top = KNOTS_HU
    for low, high, bound in (
        (lung, soft, step_hu),
        (soft, bone, step_hu / 2),
        (bone, top, step_hu),
    ):
        hu = np.arange(low, high + 1, dtype=np.int16)
        assert np.abs(from_levels(to_levels(hu, step_hu), step_hu) - hu).max() <= bound
    half_way = np.array([-208 + step_hu // 2], np.int16)
    assert from_levels(to_levels(half_way, step_hu), step_hu) == -208 + step_hu
    beyond = np.array([-3024, -951, 2001, 30000], np.int16)
    decoded = from_levels(to_levels(beyond, step_hu), step_hu)
    assert decoded.tolist() == [AIR_HU, AIR_HU, top, top]


def test_steps_that_do_not_fit_into_a_byte_are_refused() -> None:
    with pytest.raises(ValueError, match="a step of 4 HU needs 429 grey levels, at most 256 fit"):
        level_values(4)
    with pytest.raises(ValueError, match="positive, found 0"):
        level_values(0)


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 5])  # three share an image
def test_round_trip(slices: int, tmp_path: Path) -> None:
    series = made(slices=slices)
    entry = write_series(tmp_path, series, "training")
    read = read_pack(tmp_path, "training")
    want = from_levels(to_levels(series.hu, STEP_HU), STEP_HU)
    assert_array_equal(np.stack([part.hu.numpy() for part in read]), want)
    assert_array_equal(np.stack([part.body.numpy() for part in read]), series.body)
    assert (read[0].hu.dtype, read[0].body.dtype) == (torch.int16, torch.bool)
    assert [part.z_mm for part in read] == list(series.z_mm)
    assert {(part.patient, part.series) for part in read} == {("p1", Path(entry.file).stem)}
    off = np.abs(series.hu.astype(int) - want)[series.body]
    counted = {int(hu): count for hu, count in entry.errors.items()}
    assert sum(counted.values()) == off.size
    assert sum(hu * count for hu, count in counted.items()) == off.sum()


def test_series_stay_together_and_splits_apart(tmp_path: Path) -> None:
    for name, patient, split in (("b", "p2", "training"), ("c", "p3", "validation")):
        write_series(tmp_path, made(name, patient), split)  # type: ignore[arg-type]
    write_series(tmp_path, made("aa", "p1"), "training")
    read = read_pack(tmp_path, "training")
    assert [part.patient for part in read] == ["p1"] * 5 + ["p2"] * 5
    assert [part.patient for part in read_pack(tmp_path, "validation")] == ["p3"] * 5


def test_hash_tells_content_not_order_nor_source(tmp_path: Path) -> None:
    one, other = made("one"), made("other", "p2")
    for folder, order in ((tmp_path / "a", (one, other)), (tmp_path / "b", (other, one))):
        for series in order:
            source = f"{folder.name} {series.name}"  # holds the date of a file
            write_series(folder, CtSeries(**{**vars(series), "source": source}), "training")
    assert pack_hash(tmp_path / "a") == pack_hash(tmp_path / "b")
    before = pack_hash(tmp_path / "a")
    write_series(tmp_path / "a", made("third"), "training")
    assert pack_hash(tmp_path / "a") != before


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPack, match="not a pack .no pack.json.; make one with training.prepare"):
        read_pack(tmp_path, "training")
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(BadPack, match="not empty and not a pack; name a new folder"):
        write_series(tmp_path, made(), "training")
    write_series(tmp_path / "new", made(), "training")
    with pytest.raises(BadPack, match="no series for validation"):
        read_pack(tmp_path / "new", "validation")
    with pytest.raises(ValueError, match="split must be one of"):
        read_pack(tmp_path / "new", "test")  # type: ignore[arg-type]
    with pytest.raises(BadPack, match="made with step_hu 20, now 12 is asked for"):
        open_pack(tmp_path / "new", {"step_hu": 12})
    for content, said in (("{", "damaged"), (json.dumps({"format": 99}), "format 99, expected")):
        (tmp_path / "new" / "pack.json").write_text(content)
        with pytest.raises(BadPack, match=f"pack.json: {said}"):
            read_pack(tmp_path / "new", "training")


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    entry = write_series(tmp_path / "pack", made(), "training")
    shutil.copytree(tmp_path / "pack", tmp_path / "cut")
    path = tmp_path / "cut" / entry.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadPack, match=f"{entry.file}: damaged, its SHA-256"):
        read_pack(tmp_path / "cut", "training")
    path.unlink()
    with pytest.raises(BadPack, match=f"{entry.file}: cannot be read"):
        read_pack(tmp_path / "cut", "training")


def test_a_kill_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, made("first"), "training")
    before = pack_hash(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_series(tmp_path, made("second"), "training")
    assert [file.name for file in tmp_path.glob("[!.]*.zip")] == [
        pack.list_series(tmp_path)[0].file
    ]
    assert pack_hash(tmp_path) == before
    write_series(tmp_path, made("second"), "training")
    assert len(read_pack(tmp_path, "training")) == 10
    assert not list(tmp_path.glob(".*.part"))
