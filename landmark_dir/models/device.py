"""Where and how the networks compute: device, precision, threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from landmark_dir.errors import LandmarkDirError


def choose_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where there is one.

    Raises
    ------
    LandmarkDirError
        If CUDA is asked for and not there; it never falls back silently.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise LandmarkDirError("device cuda: this machine or this torch has none; use --device cpu")
    return device


def has_bfloat16(device: str) -> bool:
    """Tell whether the device computes in bfloat16 natively; emulated it would be slower."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = (
        "_is_avx512_bf16_supported",
        "_is_amx_tile_supported",
    )  # as far as this torch has them
    return any(getattr(torch.cpu, check)() for check in checks if hasattr(torch.cpu, check))


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use `threads` CPU threads, then put its setting back."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)


def encode(network: Any, images: Tensor, *, mixed_precision: bool = True) -> Any:
    """What a network says of slices [B, 1, H, W], in bfloat16 where the device computes in it."""
    half = mixed_precision and has_bfloat16(images.device.type)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
        return network.encode(images.contiguous(memory_format=torch.channels_last))
