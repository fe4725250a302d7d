"""Find, check and load a weights file.

Weights are safetensors files that carry in their metadata the name of their network, the scale of
the images it was trained on, and a SHA-256 of their tensors, so a damaged or edited file is told
from a whole one.
"""

import hashlib
import importlib.resources
import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from landmark_dir.errors import BadWeights
from landmark_dir.models.default import SeekNetwork
from landmark_dir.models.paper import PaperNetwork
from landmark_dir.preprocessing.intensity import CT, SCALES

Network = PaperNetwork | SeekNetwork
NETWORKS: dict[str, type[PaperNetwork] | type[SeekNetwork]] = {
    "paper": PaperNetwork,
    "default": SeekNetwork,
}


class LoadedWeights(NamedTuple):
    """A network ready to run, and where it came from."""

    network: Network
    path: Path
    sha256: str  # of the tensors
    metadata: dict[str, str]


def shipped_weights() -> dict[str, Path]:
    """The weights inside the package, by name."""
    folder = Path(str(importlib.resources.files("landmark_dir.models.files")))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def find_weights(weights: str | Path) -> Path:
    """The file of a shipped name or of a path.

    Raises
    ------
    BadWeights
        If it is neither.
    """
    shipped = shipped_weights()
    if str(weights) in shipped:
        return shipped[str(weights)]
    path = Path(weights)
    if not path.is_file():
        names = ", ".join(shipped) or "none"
        raise BadWeights(
            f"weights {weights}: neither a file nor one of the shipped names ({names})"
        )
    return path


def _tensor_hash(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(network: Network, path: Path, notes: dict[str, str]) -> None:
    """Write a weights file whole or not at all; `notes` go into its metadata."""
    name = next(n for n, kind in NETWORKS.items() if isinstance(network, kind))
    tensors = {
        key: value.detach().cpu().half().contiguous()  # half the size; inference is bfloat16
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    metadata = {**notes, "network": name, "input_scale": network.scale.name}
    metadata["sha256"] = _tensor_hash(tensors)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata=metadata)
    temporary.chmod(0o644)  # safetensors makes it readable by its owner alone
    temporary.replace(path)


def kept_weights(weights: str | Path, device: str = "cpu") -> LoadedWeights:
    """`load_weights`, read again only if the file has changed; the network is not to be changed."""
    path = find_weights(weights)
    file = path.stat()
    return _kept(path.resolve(), device, file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=4)
def _kept(path: Path, device: str, *_version: int) -> LoadedWeights:
    return load_weights(path, device)


def load_weights(weights: str | Path, device: str = "cpu", *, fold: bool = True) -> LoadedWeights:
    """Load a network in inference mode.

    Parameters
    ----------
    weights : str or Path
        A shipped name or a file.
    fold : bool
        Fold batch normalisation away, for speed; off where the tensors are to be kept.

    Raises
    ------
    BadWeights
        If the file is unknown, damaged, edited, or made for another network.
    """
    path = find_weights(weights)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise BadWeights(f"weights {path}: expected a safetensors file, found {error}") from error
    if metadata.get("network") not in NETWORKS:
        raise BadWeights(
            f"weights {path}: expected metadata that names a network out of "
            f"{json.dumps(list(NETWORKS))}, found {json.dumps(metadata.get('network'))}; "
            "make the file with `python -m training.export`"
        )
    scale = SCALES.get(metadata.get("input_scale", CT.name))  # all files that do not say are of CT
    if scale is None:
        raise BadWeights(
            f"weights {path}: input scale {metadata['input_scale']!r}, expected one that this "
            f"version of landmark_dir knows ({', '.join(SCALES)})"
        )
    sha256 = _tensor_hash(tensors)
    if sha256 != metadata.get("sha256"):
        raise BadWeights(
            f"weights {path}: the tensors do not match the SHA-256 the file was written with; "
            "it is damaged or was edited, fetch it again"
        )
    network = NETWORKS[metadata["network"]](scale)
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise BadWeights(f"weights {path}: tensors of other dimensions, {error}") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise BadWeights(f"weights {path}: tensors missing {missing}, unexpected {unexpected}")
    network = network.fold() if fold else network.eval()
    return LoadedWeights(network.to(device), path, sha256, metadata)
