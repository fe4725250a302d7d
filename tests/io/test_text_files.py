"""Words that are numbers, and words that only look like them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmark_dir.io.text_files import NUMBER, floats


@given(st.lists(st.text("0123456789+-.eE _nainfx٣", max_size=5), max_size=4))
def test_the_quick_way_takes_what_the_pattern_takes(words: list[str]) -> None:
    plain = all(NUMBER.fullmatch(word) for word in words)
    assert floats(words) == ([float(word) for word in words] if plain else None)


@pytest.mark.parametrize("word", ["", "e5", "1e", "1_000", "nan", "inf", "0x1", "1 2", "-", "٣"])
def test_one_word_that_is_no_number_is_seen(word: str) -> None:
    assert floats(["1", word, "-2.5e3"]) is None
    assert floats(["1", "-2.5e3", ".5", "7."]) == [1.0, -2500.0, 0.5, 7.0]
