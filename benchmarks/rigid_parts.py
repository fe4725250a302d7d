"""elastix's rigidity penalty beside our last step: `python -m benchmarks.rigid_parts`.

Two balls in the phantom are to be rigid; the true motion bends them. The b-spline stage is run
without anything, with `TransformRigidityPenalty` in several weights, and with the step that
`--rigid` adds. The penalty is given every chance: it starts from an affine map that is rigid in the
balls, and its image lies where that map leads, which is where elastix looks for it.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from benchmarks.common import markdown, session, volumes
from landmark_dir.elastix.job import Job
from landmark_dir.elastix.parameters import ParameterMap, bundled, with_points_metric
from landmark_dir.errors import ElastixFailed
from landmark_dir.geometry import distances_mm, index_to_physical, shape_zyx, voxel_centres
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.options import RegisterOptions
from landmark_dir.phantom.scanner import Phantom, PhantomOptions, make_phantom
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.session import Session
from landmark_dir.registration.stages import inside_mask, kept_rigid
from landmark_dir.transforms.chain import Chain, read_transform
from landmark_dir.transforms.fields import invert_points, jacobian
from landmark_dir.transforms.rigid import parts, unrigid_mm

SIZE_XYZ, SPACING_MM = (72, 56, 28), (5.0, 5.0, 5.0)
BALLS = ((0.65, 0.55, 0.5, 18.0), (0.38, 0.62, 0.45, 12.0))  # share of the grid, radius in mm
FILE = "bspline_fast"  # of the preset `fast`
POINTS = 2000  # guiding, and as many that judge
WEIGHTS = (0.01, 0.1, 1.0)  # of the penalty; that of the image metric is 1
CONDITIONS: ParameterMap = {  # of [elastix] `TransformRigidityPenalty`
    "LinearityConditionWeight": ("1",),
    "OrthonormalityConditionWeight": ("1",),
    "PropernessConditionWeight": ("1",),
}
VOXEL_MM = 2.0  # of the image of what is rigid
ROOM_MM = 60.0  # around it, for what elastix dilates by the spacing of the coarsest grid


def balls(phantom: Phantom) -> sitk.Image:
    """Label map of what is to be rigid."""
    fixed, points = phantom.fixed, voxel_centres(phantom.fixed)
    values = np.zeros(len(points), np.uint16)
    for label, (*share, radius) in enumerate(BALLS, start=1):
        middle = index_to_physical(fixed, [np.array(fixed.GetSize()) * share])
        values[distances_mm(points, middle) < radius] = label
    labels = sitk.GetImageFromArray(values.reshape(shape_zyx(fixed)))
    labels.CopyInformation(fixed)
    return labels


def rigidity_image(labels: sitk.Image, start: Chain, path: Path) -> Path:
    """1 where the balls lie after `start`, 0 around them."""
    places = np.concatenate([start.map_points(part.points) for part in parts(labels)])
    low, high = places.min(axis=0) - ROOM_MM, places.max(axis=0) + ROOM_MM
    grid = sitk.Image(np.ceil((high - low) / VOXEL_MM).astype(int).tolist(), sitk.sitkUInt8)
    grid.SetSpacing([VOXEL_MM] * 3)
    grid.SetOrigin(low.tolist())
    inner = inside_mask(labels, invert_points(start, voxel_centres(grid)))
    image = sitk.GetImageFromArray(inner.reshape(shape_zyx(grid)).astype(np.float32))
    image.CopyInformation(grid)
    sitk.WriteImage(image, str(path))
    return path


def with_penalty(base: ParameterMap, weight: float, image: Path) -> ParameterMap:
    """The map with elastix's penalty as its second metric."""
    return {
        **base,
        "Metric": (*base["Metric"], "TransformRigidityPenalty"),
        "Metric1Weight": (f"{weight:g}",),
        "FixedRigidityImageName": (str(image.resolve()),),
        # elastix takes the mm of grid spacing for a number of voxels
        "DilationRadiusMultiplier": (f"{1 / VOXEL_MM:g}",),
        **CONDITIONS,
    }


def stage(
    opened: Session, phantom: Phantom, parameters: ParameterMap, start: Path, guided: bool
) -> Path:
    """The b-spline stage, guided by true points if asked for."""
    folder = opened.work / "stage"
    folder.mkdir(exist_ok=True)
    job = Job(folder, opened.file("fixed"), opened.file("moving"), parameters)
    job = replace(job, initial_transform=start)
    if guided:
        files = folder / "fixed.txt", folder / "moving.txt"
        for points, file in zip(truth(phantom)[0], files, strict=True):
            write_elastix_points(points, file)
        parameters = with_points_metric(parameters, (0.1,) * 3)
        job = replace(job, parameters=parameters, fixed_points=files[0], moving_points=files[1])
    return opened.engine.register(job)


def truth(phantom: Phantom) -> np.ndarray:
    """Guiding and judging points, [2, fixed and moving, POINTS, 3], LPS mm."""
    both = phantom.truth_points(2 * POINTS, np.random.default_rng(0))
    return np.stack([np.stack([side[k::2] for side in both]) for k in range(2)])


def line(
    name: str, chain: Chain, phantom: Phantom, labels: sitk.Image, seconds: float
) -> list[str]:
    """What a transform does in the balls, and how exact it is everywhere."""
    found = list(parts(labels))
    bent = np.concatenate([unrigid_mm(chain, part) for part in found])
    inner = volumes(chain.map_points, np.concatenate([part.points for part in found]))
    everywhere = sitk.GetArrayFromImage(jacobian(chain, phantom.fixed))
    fixed, moving = truth(phantom)[1]
    tre = distances_mm(chain.map_points(fixed), moving)
    return [
        name,
        f"{bent.mean():.3f}",
        f"{bent.max():.3f}",
        f"{100 * (inner.mean() - 1):.1f}",
        f"{inner.min():.2f} to {inner.max():.2f}",
        f"{everywhere.min():.2f}",
        f"{tre.mean():.2f}",
        f"{seconds:.0f}",
    ]


def lines(phantom: Phantom, options: RegisterOptions) -> list[list[str]]:
    """All ways, without and with points."""
    labels, found = balls(phantom), []
    inputs = load_inputs(phantom.fixed, phantom.moving, options, rigid=labels)
    with session(inputs, options) as opened:
        rigid_start = kept_rigid(opened, opened.affine)
        image = rigidity_image(labels, read_transform(rigid_start), opened.work / "rigid.mha")
        for arm, guided in (("without", False), ("with", True)):
            for weight in (0.0, *WEIGHTS):
                parameters, start, name = bundled(FILE), opened.affine, "nothing"
                if weight:
                    parameters = with_penalty(parameters, weight, image)
                    start, name = rigid_start, f"penalty, weight {weight:g}"
                began = time.monotonic()
                try:
                    transform = stage(opened, phantom, parameters, start, guided)
                except ElastixFailed:
                    found.append([arm, name, "elastix fails", *[""] * 6])
                    continue
                seconds = time.monotonic() - began
                chain = read_transform(transform)
                found.append([arm, *line(name, chain, phantom, labels, seconds)])
                if not weight:
                    chain = read_transform(kept_rigid(opened, transform))
                    seconds = time.monotonic() - began
                    found.append([arm, *line("`--rigid`", chain, phantom, labels, seconds)])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(backend=args.backend, threads=args.threads)
    phantom = make_phantom(PhantomOptions(size_xyz=SIZE_XYZ, spacing_mm=SPACING_MM))
    header = ["points", "rigid by", "bent, mm: mean", "max", "volume, %", "Jacobian in them"]
    header += ["least Jacobian", "TRE, mm", "s"]
    print(markdown(header, lines(phantom, options)))


if __name__ == "__main__":
    main()
