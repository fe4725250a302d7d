"""The networks, tensors only.

`paper` is the Siamese network of the seed paper [paper]: one CNN branch with shared weights
(sec. 2.2.1), the sampling layer (sec. 2.2.2, 2.4) and the descriptor matching module (sec. 2.2.3).

Pixels are (x, y) with 0 at the centre of the first pixel. There is one sampling convention,
`align_corners=False`: a map at stride s covers the same extent as the slice, so a pixel's place in
it follows from the extent alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from landmark_dir.preprocessing.intensity import CT, InputScale

FILTERS = (16, 32, 64, 128, 256)  # [paper] sec. 2.2.1
CELL_PX = 8  # one landmark per cell, [paper] sec. 2.4


class Maps(NamedTuple):
    """What one CNN branch says of a batch of slices."""

    logits: Tensor  # [B, H, W] landmark map before the sigmoid
    fine: Tensor  # [B, 128, H/8, W/8] second last down-sampling block
    coarse: Tensor  # [B, 256, H/16, W/16] last down-sampling block


class SliceLandmarks(NamedTuple):
    """The landmarks of one slice, or a batch of them with a leading axis."""

    keypoints: Tensor  # [N, 2] x, y in px
    probability: Tensor  # [N]
    descriptors: Tensor  # [N, 384], raw


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch normalisation that follows a convolution in a sequence into it."""
    for block in network.modules():
        if isinstance(block, nn.Sequential):
            for i in range(len(block) - 1):
                if isinstance(block[i], nn.Conv2d) and isinstance(block[i + 1], nn.BatchNorm2d):
                    block[i] = fuse_conv_bn_eval(block[i], block[i + 1])  # type: ignore[arg-type,type-var]
                    block[i + 1] = nn.Identity()


class PaperNetwork(nn.Module):
    """CNN branch and matching layer of [paper]; the sampling layer has no parameters.

    `scale` says what its input means.
    """

    stride = 2 ** (len(FILTERS) - 1)  # slices are padded to a multiple of this, px
    landmark_threshold = 0.5  # [paper] sec. 2.6
    descriptor_size = FILTERS[-2] + FILTERS[-1]  # 384, [paper] sec. 2.2.1

    def __init__(self, scale: InputScale = CT) -> None:
        super().__init__()
        self.scale = scale
        pairs = list(zip(FILTERS[:-1], FILTERS[1:], strict=True))
        self.down = nn.ModuleList([_double_conv(1, FILTERS[0])])
        self.down.extend(_double_conv(a, b) for a, b in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs[::-1])
        self.up = nn.ModuleList(_double_conv(2 * a, a) for a, _ in pairs[::-1])
        self.landmark = nn.Conv2d(FILTERS[0], 1, 1)
        self.match = nn.Linear(self.descriptor_size, 1)

    def fold(self) -> "PaperNetwork":
        """Fold each batch normalisation into its convolution: the same in inference, and faster."""
        fold_batch_norm(self.eval())
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def encode(self, slices: Tensor) -> Maps:
        """Run the CNN branch on slices [B, 1, H, W]; H and W are multiples of `stride`."""
        skips = [self.down[0](slices)]
        for block in self.down[1:]:
            skips.append(block(functional.max_pool2d(skips[-1], 2)))
        x = skips[-1]
        for grow, up, skip in zip(self.grow, self.up, skips[-2::-1], strict=True):
            x = up(torch.cat([grow(x), skip], dim=1))
        return Maps(self.landmark(x)[:, 0], skips[-2], skips[-1])

    def match_logits(self, descriptors_1: Tensor, descriptors_2: Tensor) -> Tensor:
        """Matching logits [..., K1, K2] of raw descriptors [..., K1, C] and [..., K2, C].

        The fully connected layer acts on the element-wise product of the two descriptors, so all
        pairs are one matrix product and no [K1, K2, C] tensor is ever made.
        """
        weighted = descriptors_1 * self.match.weight
        return weighted @ descriptors_2.transpose(-1, -2) + self.match.bias


def sample_maps(maps: Tensor, keypoints: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bilinear values [B, N, C] of maps [B, C, h, w] at keypoints [B, N, 2] in px.

    `shape` is the (H, W) of the slices that both belong to.
    """
    extent = keypoints.new_tensor([shape[1], shape[0]])
    grid = (2 * keypoints + 1) / extent - 1
    values = functional.grid_sample(  # in float32: torch 2.13 gives garbage in bfloat16 on CPU
        maps.float(), grid[:, :, None], padding_mode="border", align_corners=False
    )
    return values[..., 0].transpose(1, 2)  # [B, N, C]


def describe(maps: Maps, keypoints: Tensor) -> Tensor:
    """Raw descriptors [B, N, 384] at keypoints [B, N, 2]."""
    shape = (maps.logits.shape[-2], maps.logits.shape[-1])
    parts = [sample_maps(part, keypoints, shape) for part in (maps.fine, maps.coarse)]
    return torch.cat(parts, dim=-1)


def best_of_each_cell(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The best pixel of each 8 x 8 cell ([paper] sec. 2.4).

    Returns
    -------
    keypoints : Tensor, shape (B, cells, 2), float
        Whole pixels (x, y).
    logit : Tensor, shape (B, cells)
    """
    batch, height, width = logits.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    cells = logits[:, : rows * CELL_PX, : columns * CELL_PX]
    cells = cells.reshape(batch, rows, CELL_PX, columns, CELL_PX).transpose(2, 3)
    best, flat = cells.reshape(batch, rows * columns, CELL_PX**2).max(dim=2)
    cell = torch.arange(rows * columns, device=logits.device)
    x = cell % columns * CELL_PX + flat % CELL_PX
    y = cell // columns * CELL_PX + flat // CELL_PX
    return torch.stack([x, y], dim=-1).float(), best.float()


def local_maxima(logits: Tensor, threshold: float) -> list[tuple[Tensor, Tensor]]:
    """SliceLandmarks of each slice for inference: best of a cell, a true peak, above the threshold.

    The peak is refined below the pixel by the parabola through its neighbours.

    Parameters
    ----------
    logits : Tensor, shape (B, H, W)
    threshold : float
        Landmark probability ([paper] thresh_landmark), 0..1.

    Returns
    -------
    list of (keypoints [N, 2] px, probability [N]), one per slice
    """
    logits = logits.float()
    height, width = logits.shape[-2:]
    keypoints, best = best_of_each_cell(logits)
    x, y = keypoints.long().unbind(-1)
    inner = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    found = []
    for k, kept in enumerate(inner & (best.sigmoid() > threshold)):
        at_x, at_y = x[k, kept], y[k, kept]
        around = torch.stack(
            [logits[k, at_y + dy, at_x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        )  # [9, N], row by row
        offset = torch.stack([parabola_peak(*around[3:6]), parabola_peak(*around[1::3])], -1)
        peak = around[4] >= around.amax(0)
        xy = keypoints[k, kept] + offset
        found.append((xy[peak], best[k, kept][peak].sigmoid()))
    return found


def parabola_peak(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    """Offset in px, within +-0.5, of the peak of the parabola through three values."""
    curvature = (before - 2 * here + after).clamp(max=-1e-6)
    return (0.5 * (before - after) / curvature).clamp(-0.5, 0.5)
