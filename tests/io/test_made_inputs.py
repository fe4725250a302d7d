"""Made and damaged image files: none is read wrongly, none ends in a traceback."""

from collections import Counter

from benchmarks.inputs import KINDS, SOUND, WORDS, tried


def test_no_made_or_damaged_file_is_read_wrongly() -> None:
    words: dict[str, Counter[str]] = {}
    for kind, name, word, said in tried(fuzz=25, seed=1):
        words.setdefault(kind, Counter())[word] += 1
        assert word in WORDS[:3], f"{kind}, {name}: {word}. {said}"
    assert list(words) == [*KINDS, *SOUND]
    assert sum(words.values(), Counter[str]())["right"] > 60  # not all is refused
    assert all(words[kind]["right"] for kind in KINDS)
