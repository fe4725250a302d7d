"""The name collision of SimpleITK and SimpleITK-SimpleElastix."""

import subprocess
import sys
from pathlib import Path

import pytest

from landmark_dir.elastix import distributions
from landmark_dir.elastix.distributions import simpleitk_conflict


def test_both_distributions_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "distribution", lambda name: "1.0")
    told = simpleitk_conflict()
    assert told is not None
    assert "pip uninstall -y SimpleITK SimpleITK-SimpleElastix" in told
    monkeypatch.setattr(distributions, "distribution", {"SimpleITK": "1.0"}.get)
    assert simpleitk_conflict() is None


def test_a_half_removed_simpleitk_is_one_sentence() -> None:
    checkout = Path(distributions.__file__).parents[2]
    hide = "import importlib.util as u; find = u.find_spec; "
    hide += "u.find_spec = lambda n: find(n) if n != 'SimpleITK' else None; "
    done = subprocess.run(
        [sys.executable, "-c", f"{hide}import landmark_dir.cli.main"],
        capture_output=True,
        text=True,
        cwd=checkout,
    )
    assert done.returncode == 1
    assert "left no whole module behind" in done.stderr
    assert "Traceback" not in done.stderr
