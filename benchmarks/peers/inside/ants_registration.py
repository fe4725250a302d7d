"""ANTsPy in its own environment: `FIXED MOVING PREFIX METRIC ITERATIONS`, e.g. `mattes 40x20x0`."""

import sys

import ants  # type: ignore[import-not-found]  # in its own environment

fixed, moving, prefix, metric, iterations = sys.argv[1:]
ants.registration(
    ants.image_read(fixed),
    ants.image_read(moving),
    type_of_transform="SyN",
    outprefix=prefix,
    syn_metric=metric,
    syn_sampling={"mattes": 32, "CC": 4}[metric],  # bins; radius in voxels
    reg_iterations=tuple(int(count) for count in iterations.split("x")),
    random_seed=1,
)
