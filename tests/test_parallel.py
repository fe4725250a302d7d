"""Work shared between threads: in order, each piece on one, errors told."""

import threading
from pathlib import Path

import pytest

from landmark_dir.parallel import share, thread_count, use_threads


def test_results_come_in_order_from_as_many_threads_as_are_told() -> None:
    meet = threading.Barrier(3, timeout=20)

    def work(item: int) -> tuple[int, int, int]:
        meet.wait()  # three at once, or never
        return item, threading.get_ident(), thread_count()

    with use_threads(3):
        items, threads, within = zip(*share(work, range(6)), strict=True)
    assert items == tuple(range(6))
    assert 2 < len(set(threads)) <= 3
    assert set(within) == {1}  # a piece is not cut again


def test_one_thread_works_where_it_is_called() -> None:
    with use_threads(1):
        assert set(share(lambda _: threading.get_ident(), "abc")) == {threading.get_ident()}
    with use_threads(4):
        assert list(share(lambda _: threading.get_ident(), "a")) == [threading.get_ident()]
        assert list(share(str, [])) == []


def test_the_number_of_threads_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert thread_count() == 7
    with use_threads(2):
        with use_threads(None):
            assert thread_count() == 7
        assert thread_count() == 2
    assert thread_count() == 7


def test_an_error_of_a_piece_is_told() -> None:
    with use_threads(2), pytest.raises(FileNotFoundError):
        list(share(lambda name: Path(name).read_text(), ["/none/1", "/none/2", "/none/3"]))
