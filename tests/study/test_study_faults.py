"""A study comes to the same end, whoever is killed on the way."""

import sys

import pytest

from benchmarks import study_faults


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_disturbed_study_has_the_table_of_an_undisturbed_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--pairs", "6", "--kills", "8", "--compared", "0"]
    assert study_faults.main(given) == 0, capsys.readouterr().out
