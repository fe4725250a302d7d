"""SimpleITK or SimpleITK-SimpleElastix: one folder, two distributions. Imports neither."""

import sys
from importlib import metadata
from importlib.util import find_spec


def distribution(name: str) -> str | None:
    """Version of an installed distribution, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def simpleitk_is_whole() -> bool:
    """Tell whether SimpleITK can be imported and is more than an empty folder."""
    spec = find_spec("SimpleITK")
    return spec is not None and spec.origin is not None


def simpleitk_conflict() -> str | None:
    """Say what to do if `SimpleITK` and `SimpleITK-SimpleElastix` got into each other's way.

    Both own the same folder and pip sees no conflict: the one installed last wins, and removing
    either breaks the other.
    """
    both = distribution("SimpleITK") and distribution("SimpleITK-SimpleElastix")
    if not both and simpleitk_is_whole():
        return None
    found = "are both installed" if both else "left no whole module behind"
    return (
        f"SimpleITK and SimpleITK-SimpleElastix {found} and share one folder; run "
        f"`{sys.executable} -m pip uninstall -y SimpleITK SimpleITK-SimpleElastix`, then install "
        "one of them with `--force-reinstall`"
    )
