"""What is installed: for people, and for bug reports."""

import platform
from importlib.metadata import version

import SimpleITK as sitk

from landmark_dir.elastix.distributions import simpleitk_conflict
from landmark_dir.elastix.engines import available


def describe_installation() -> str:
    """Versions, engines, weights and device, for people and for bug reports."""
    # torch is slow to load
    from landmark_dir.models import device
    from landmark_dir.models.weights import shipped_weights

    lines = [
        f"landmark_dir {version('landmark_dir')}",
        f"python {platform.python_version()}, SimpleITK {sitk.Version.VersionString()}, "
        f"torch {version('torch')}",
        f"device {device.choose_device('auto')}",
        f"weights {', '.join(shipped_weights()) or 'none'}",
    ]
    lines += [f"engine {name}: {text}" for name, text in available().items()] or ["engine: none"]
    conflict = simpleitk_conflict()
    return "\n".join([*lines, f"warning: {conflict}"] if conflict else lines)
