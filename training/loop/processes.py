"""Several training processes that act as one: `torchrun` starts them, this joins them.

Each process makes its share of every batch. Batch normalisation uses the statistics of the whole
batch, the terms of a loss are such that their means over the processes are those of the batch, and
gradients are averaged; so the loss curve is that of one process, within rounding.
"""

import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Team:
    """The processes of a training; one alone is a team of one."""

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.size = rank, size
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")

    @classmethod
    def join(cls) -> "Team":
        """Join the processes that `torchrun` started, if it did."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        team = cls(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
        if team.device.type == "cuda":
            torch.cuda.set_device(team.device)
        dist.init_process_group("nccl" if team.device.type == "cuda" else "gloo")
        return team

    @property
    def leads(self) -> bool:
        """Tell whether this process validates and writes the files."""
        return self.rank == 0

    def leave(self) -> None:
        """End the process group, all together: who is left alone in it is aborted.

        In a team this ends the process, too, and at once: Gloo's threads may still hold tensors,
        and abort it while the interpreter is taken down (pytorch/pytorch#179291).
        """
        if self.size == 1:
            return
        self.wait()
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def share(self, batch: int) -> range:
        """Rows of a batch that this process makes.

        Raises
        ------
        ValueError
            If the processes cannot share it evenly.
        """
        if batch % self.size:
            raise ValueError(
                f"batch {batch}: expected a multiple of the {self.size} processes; "
                "change `batch` in the config or --nproc-per-node"
            )
        each = batch // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def agree(self, decision: bool) -> bool:
        """The leader's decision, in every process."""
        if self.size == 1:
            return decision
        said = torch.tensor([decision], dtype=torch.int32, device=self.device)
        dist.broadcast(said, 0)
        return bool(said.item())

    def average(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def average_gradients(self, network: nn.Module) -> None:
        """Replace each gradient by its mean over the processes; one message for all."""
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = self.average(torch.cat([g.flatten() for g in gradients]))
        parts = torch.split(flat, [g.numel() for g in gradients])
        for gradient, mean in zip(gradients, parts, strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def share_batch_norm(self, network: nn.Module) -> None:
        """Let every batch normalisation of a network see the batch of all processes."""
        if self.size > 1:
            for module in network.modules():
                if type(module) is nn.BatchNorm2d:
                    module.__class__ = _SharedBatchNorm


class _Sum(torch.autograd.Function):
    """The sum over the processes; so is its gradient."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over all processes; torch's own does this on CUDA only."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean, mean_square = _Sum.apply(sums) / count  # type: ignore[no-untyped-call]
        variance = (mean_square - mean.square()).clamp(min=0)
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight / (variance + self.eps).sqrt()
        normal: Tensor = (values - mean[:, None, None]) * scale[:, None, None] + self.bias[
            :, None, None
        ]
        return normal.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics that inference uses, as torch's own does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1
