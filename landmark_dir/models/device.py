"""Where and how the networks compute: device, precision, threads."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from landmark_dir import parallel
from landmark_dir.errors import LandmarkDirError
from landmark_dir.parallel import Item, Result


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


@contextmanager
def large_pieces(device: torch.device) -> Iterator[None]:
    """On the CPU: let torch's threads take the pieces of `share`, not the parts of each step."""
    if device.type != "cpu":
        yield
        return
    with parallel.use_threads(torch.get_num_threads()), torch_threads(1):
        yield


def share(
    work: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> Iterator[Result]:
    """`parallel.share` for inference on the CPU; on another device one after the other."""
    if device.type != "cpu":
        return map(work, items)
    return parallel.share(partial(_alone, work), items)


def _alone(work: Callable[[Item], Result], item: Item) -> Result:
    with torch_threads(1), torch.inference_mode():  # both are matters of each thread
        return work(item)


def encode(network: Any, images: Tensor, *, mixed_precision: bool = True) -> Any:
    """What a network says of slices [B, 1, H, W], in bfloat16 where the device computes in it."""
    half = mixed_precision and has_bfloat16(images.device.type)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
        return network.encode(images.contiguous(memory_format=torch.channels_last))
