"""ANTsPy in its own environment: `FIXED MOVING AFFINE PREFIX ITERATIONS`, e.g. `100x70x50x20`."""

import sys

import ants  # type: ignore[import-not-found]  # in its own environment

fixed, moving, affine, prefix, iterations = sys.argv[1:]
ants.registration(
    ants.image_read(fixed),
    ants.image_read(moving),
    type_of_transform="SyNOnly",
    initial_transform=affine,
    outprefix=prefix,
    syn_metric="mattes",
    syn_sampling=32,  # bins
    reg_iterations=tuple(int(count) for count in iterations.split("x")),
    random_seed=1,
)
