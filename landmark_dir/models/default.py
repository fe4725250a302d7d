"""The `default` network: dense descriptors to *seek* landmarks with, tensors only.

One convolutional pyramid sees a few windows (of CT soft tissue, lung, bone), goes down to stride 32
and is fused back at stride 4, where each place has a unit descriptor for finding and a matchability
(how likely seeking from here succeeds). Full resolution is never convolved: pixels are folded into
channels first. The place below the pixel is measured in the images (`matching.patch_alignment`).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from landmark_dir.models.paper import fold_batch_norm
from landmark_dir.preprocessing.intensity import CT, InputScale

WIDTHS = (32, 64, 96, 128, 160)  # channels at strides 2, 4, 8, 16, 32
FUSED = 64  # channels of the fused pyramid, and of a descriptor
STEM_PX, MAP_PX = 2, 4  # strides of the stem and of the maps
EVIDENCE = 6  # figures that speak for a pair, see `matching.seek_slice.MatchFeatures`
FIRST_SCALE = 30.0  # 1 / temperature of the softmax before training; it settles by itself


class SeekMaps(NamedTuple):
    """What the network says of a batch of slices."""

    descriptors: Tensor  # [B, 64, H/4, W/4] unit length
    matchability: Tensor  # [B, H/4, W/4] logits


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SeekNetwork(nn.Module):
    """Pyramid, descriptors and matchability; `scale` says what its input means."""

    stride = 32  # slices are padded to a multiple of this, px
    landmark_threshold = 0.1  # least matchability

    def __init__(self, scale: InputScale = CT) -> None:
        super().__init__()
        self.scale = scale
        self.stem = _layer(len(scale.windows) * STEM_PX**2, WIDTHS[0])
        pairs = list(zip(WIDTHS[:-1], WIDTHS[1:], strict=True))
        self.down = nn.ModuleList(nn.Sequential(_layer(a, b, 2), _layer(b, b)) for a, b in pairs)
        self.lateral = nn.ModuleList(nn.Conv2d(b, FUSED, 1) for _, b in pairs)
        self.smooth = nn.ModuleList(_layer(FUSED, FUSED) for _ in pairs[:-1])
        self.descriptor = nn.Conv2d(FUSED, FUSED, 1)
        self.matchability = nn.Conv2d(FUSED, 1, 1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.register_buffer("calibration", torch.zeros(2, EVIDENCE + 1))  # of slices, of volumes
        bounds = torch.from_numpy(scale.to_network(np.array(scale.windows)))  # [windows, 2]
        self.register_buffer("bounds", bounds, persistent=False)

    def fold(self) -> "SeekNetwork":
        """Fold each batch normalisation into its convolution: the same in inference, and faster."""
        fold_batch_norm(self.eval())
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def windows(self, slices: Tensor) -> Tensor:
        """Slices [B, 1, H, W] in network units through the windows: [B, windows, H, W] -1..1."""
        low, high = self.get_buffer("bounds").T[:, :, None, None]  # [3, 1, 1] each
        seen: Tensor = (slices - low) / (high - low)
        return 2 * seen.clamp(0, 1) - 1

    def encode(self, slices: Tensor) -> SeekMaps:
        """Describe slices [B, 1, H, W]; H and W are multiples of `stride`."""
        levels = [self.stem(functional.pixel_unshuffle(self.windows(slices), STEM_PX))]
        for block in self.down:
            levels.append(block(levels[-1]))
        fused = self.lateral[-1](levels[-1])
        for k in range(len(self.smooth) - 1, -1, -1):
            above = functional.interpolate(fused, scale_factor=2.0)
            fused = self.smooth[k](self.lateral[k](levels[k + 1]) + above)
        return SeekMaps(
            functional.normalize(self.descriptor(fused).float(), dim=1),
            self.matchability(fused).float()[:, 0],
        )


def scores(calibration: Tensor, evidence: Tensor) -> Tensor:
    """Probability [N] that pairs with evidence [N, E] are right, by a logistic regression [E + 1].

    Right is within 2 mm; `training.calibrate` fits it.
    """
    return (evidence @ calibration[1:] + calibration[0]).sigmoid()
