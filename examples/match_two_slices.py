"""Match two axial CT slices with the network, and draw the matches.

The weights are `default`, which drop matches that contradict their neighbours. Those of the seed
paper drop none in slices: `match_slices(hu_1, hu_2, weights="paper")`.

Writes `match_two_slices.png` into the current folder.
"""

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure

import landmark_dir
from landmark_dir.geometry import index_to_physical, physical_to_index
from landmark_dir.phantom.scanner import Phantom, PhantomOptions

# 1 mm in-plane is what the networks were trained for; both scans on one grid, so slice 2 fits 2
PAIR = PhantomOptions(
    size_xyz=(288, 224, 5), spacing_mm=(1.0, 1.0, 5.0), own_grid=False, displacement_mm=4.0
)
K = 2


def true_xy(pair: Phantom, xy: np.ndarray) -> np.ndarray:
    """Where keypoints [N, 2] of fixed slice K are on the moving side, px; depth is left out."""
    index = np.column_stack([xy, np.full(len(xy), K)])
    moving = pair.to_moving(index_to_physical(pair.fixed, index))
    return physical_to_index(pair.moving, moving)[:, :2]


def draw(slices: list[np.ndarray], keypoints: list[np.ndarray]) -> Figure:
    """Both slices side by side; a match has one colour, which follows its place on the left."""
    x, y = (keypoints[0] / slices[0].shape[::-1]).T
    colours = np.stack([x, y, 1 - (x + y) / 2], axis=1)
    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, hu, xy, name in zip(
        figure.subplots(1, 2), slices, keypoints, ("fixed", "moving"), strict=True
    ):
        axes.imshow(hu, cmap="gray", vmin=-300, vmax=400)
        axes.scatter(xy[:, 0], xy[:, 1], c=colours, s=25, linewidths=0.6, edgecolors="black")
        axes.set_title(name)
        axes.set_axis_off()
    return figure


def main() -> None:
    pair = landmark_dir.make_phantom(PAIR)
    slices = [sitk.GetArrayFromImage(image)[K] for image in (pair.fixed, pair.moving)]

    xy_1, xy_2, score = landmark_dir.match_slices(*slices)  # px (x, y); 0 is a pixel's centre

    error = np.linalg.norm(xy_2 - true_xy(pair, xy_1), axis=1)  # 1 px is 1 mm here
    print(f"{len(score)} matches, scores {score.min():.2f} to {score.max():.2f}")
    print(f"in-plane error: median {np.median(error):.2f} mm, {np.mean(error < 4):.0%} below 4 mm")
    draw(slices, [xy_1, xy_2]).savefig("match_two_slices.png", dpi=100)


if __name__ == "__main__":
    main()
