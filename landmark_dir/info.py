"""What is installed: for people, and for bug reports."""

import platform
from importlib.metadata import version

import SimpleITK as sitk

from landmark_dir.backends import available
from landmark_dir.distributions import simpleitk_conflict


def describe_installation() -> str:
    """Versions, engines, weights and device, for people and for bug reports."""
    # torch is slow to load
    from landmark_dir import devices
    from landmark_dir.weights import shipped_weights

    lines = [
        f"landmark_dir {version('landmark_dir')}",
        f"python {platform.python_version()}, SimpleITK {sitk.Version.VersionString()}, "
        f"torch {version('torch')}",
        f"device {devices.choose_device('auto')}",
        f"weights {', '.join(shipped_weights()) or 'none'}",
    ]
    lines += [f"engine {name}: {text}" for name, text in available().items()] or ["engine: none"]
    conflict = simpleitk_conflict()
    return "\n".join([*lines, f"warning: {conflict}"] if conflict else lines)
