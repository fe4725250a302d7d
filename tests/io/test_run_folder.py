"""Run folders appear whole or not at all."""

import os
from pathlib import Path

import pytest

from landmark_dir.errors import BadArgument, BadRunFolder
from landmark_dir.io.run_folder import (
    RUN_JSON,
    WARPED,
    is_of_a_run,
    new_run_folder,
    read_run_json,
    run_transform,
    sha256,
    write_run_json,
)


def _finished(out: Path) -> Path:
    with new_run_folder(out) as folder:
        write_run_json(folder, {"a": 1})
    return out


def test_a_finished_run_stands_alone(tmp_path: Path) -> None:
    _finished(tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"]
    assert read_run_json(tmp_path / "run") == {"a": 1}


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_run_folder(tmp_path / "run"):
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == []


def test_an_occupied_folder_is_refused_and_kept(tmp_path: Path) -> None:
    out = _finished(tmp_path / "run")
    with pytest.raises(BadRunFolder, match="--overwrite"), new_run_folder(out):
        pass
    assert (out / RUN_JSON).is_file()


def test_overwrite_replaces_a_run_but_no_other_folder(tmp_path: Path) -> None:
    out = _finished(tmp_path / "run")
    with new_run_folder(out, overwrite=True) as folder:
        write_run_json(folder, {"a": 2})
    assert read_run_json(out) == {"a": 2}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with (
        pytest.raises(BadRunFolder, match="left alone"),
        new_run_folder(tmp_path / "thesis", overwrite=True),
    ):
        pass
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_a_failed_overwrite_keeps_the_old_run(tmp_path: Path) -> None:
    out = _finished(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), new_run_folder(out, overwrite=True):
        1 / 0  # noqa: B018
    assert read_run_json(out) == {"a": 1}


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BadRunFolder, match="cannot be created"),
        new_run_folder(tmp_path / "file" / "run"),
    ):
        pass


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is needed to write to a full disk")
    with (
        pytest.raises(BadRunFolder, match="No space left"),
        new_run_folder(tmp_path / "run"),
    ):
        full.write_text("x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_what_is_no_run_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadRunFolder, match="finished run folder"):
        read_run_json(tmp_path)
    with pytest.raises(BadRunFolder, match="no transform"):
        run_transform(_finished(tmp_path / "run"))


def test_hash_of_a_folder_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256(tmp_path) != first


def test_what_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    out = _finished(tmp_path / "run")
    for foreign in ("notes.txt", "with/notes.txt", "transform.h5", "elsewhere"):
        place = out / foreign
        place.parent.mkdir(exist_ok=True)
        place.mkdir() if foreign == "elsewhere" else place.write_text("mine")
        with pytest.raises(BadRunFolder, match="no run has written, .*left alone"):
            new_run_folder(out, overwrite=True).__enter__()
        assert place.exists()
        place.rmdir() if foreign == "elsewhere" else place.unlink()
        if foreign.startswith("with"):
            place.parent.rmdir()
    with new_run_folder(out, overwrite=True) as folder:
        write_run_json(folder, {"a": 2})


def test_what_is_read_is_not_replaced(tmp_path: Path) -> None:
    out = _finished(tmp_path / "run")
    (out / WARPED).write_text("an image")
    (tmp_path / "link").symlink_to(out)
    for given in (out / WARPED, tmp_path / "link" / WARPED):
        with pytest.raises(BadRunFolder, match=r"warped.nii.gz lies in .*run, which is to be"):
            new_run_folder(out, overwrite=True, inputs=(None, 3, given)).__enter__()
    assert (out / WARPED).is_file()


def test_the_folder_one_is_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "..", str(tmp_path)):
        with pytest.raises(BadArgument, match="folder you are in"):
            new_run_folder(Path(out)).__enter__()


def test_a_run_goes_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    out = _finished(tmp_path / "link")
    assert out.is_symlink()
    assert (tmp_path / "disk" / "run" / RUN_JSON).is_file()


@pytest.mark.parametrize("content", ["[]", "3", "null", "{", '"a"', "[" * 100_000, "\udcff"])
def test_a_run_json_of_another_shape_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / RUN_JSON).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadRunFolder, match=r"expected (a finished|an object)"):
        read_run_json(tmp_path)


def test_which_files_belong_to_a_run(tmp_path: Path) -> None:
    out = _finished(tmp_path / "run")
    assert is_of_a_run(out / "transform.1.txt")
    assert is_of_a_run(out / WARPED)
    assert not is_of_a_run(out / "labels.nii.gz")
    assert not is_of_a_run(tmp_path / WARPED)
