"""The patient of the phantom: tissues, organ positions and all that is drawn at random.

Positions are patient millimetres around the middle of the torso: x to the left, y to the back,
z to the head (LPS).
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landmark_dir.phantom.shapes import Floats, Noise, Polyline, Triple, Tubes

BLADDER_MM: Triple = (2.0, -24.0, -92.0)  # before the patient's own jitter


class Tissue(NamedTuple):
    """Mean HU without and with contrast (portal venous), and the SD of the texture, HU."""

    native: float
    enhanced: float
    texture: float


# Typical HU of adult CT at 120 kV, rounded; textures are set by eye at 2 mm voxels.
TISSUES: dict[str, Tissue] = {
    "air": Tissue(-1000, -1000, 0),
    "table": Tissue(-650, -650, 0),
    "shell": Tissue(-60, -60, 0),
    "skin": Tissue(10, 20, 10),
    "fat": Tissue(-104, -103, 9),
    "mesentery": Tissue(-98, -94, 16),
    "muscle": Tissue(52, 60, 13),
    "cortical": Tissue(540, 550, 110),
    "trabecular": Tissue(175, 185, 55),
    "cartilage": Tissue(105, 110, 30),
    "disc": Tissue(85, 88, 14),
    "thecal sac": Tissue(28, 30, 10),
    "lung": Tissue(-845, -835, 45),
    "lung vessel": Tissue(-120, -40, 60),
    "heart": Tissue(45, 125, 18),
    "liver": Tissue(58, 108, 9),
    "liver vessel": Tissue(38, 168, 6),
    "spleen": Tissue(48, 118, 9),
    "pancreas": Tissue(38, 88, 16),
    "gallbladder": Tissue(8, 9, 3),
    "renal cortex": Tissue(36, 185, 12),
    "renal medulla": Tissue(28, 130, 12),
    "urine": Tissue(4, 5, 3),
    "bladder wall": Tissue(36, 60, 8),
    "blood": Tissue(42, 165, 5),
    "bowel wall": Tissue(40, 85, 12),
    "bowel fluid": Tissue(18, 19, 12),
    "chyme": Tissue(42, 44, 26),
    "stool": Tissue(10, 12, 95),
    "gas": Tissue(-960, -960, 12),
}


class Scan(NamedTuple):
    """What differs between two scans of one patient besides geometry.

    Gas levels are mm behind the axis of a bowel run, one a run: all content in front is gas.
    """

    contrast: bool
    small_bowel_gas: Floats
    colon_gas: Floats
    stomach_gas: float


# centre and radii, mm; each patient's own differ by a few mm
_BLOBS: dict[str, tuple[Triple, Triple]] = {
    "right liver": ((-54, 0, 64), (60, 74, 58)),
    "left liver": ((0, -42, 78), (52, 34, 32)),
    "gallbladder": ((-42, -30, 34), (13, 17, 15)),
    "spleen": ((78, 32, 62), (27, 40, 36)),
    "right kidney": ((-60, 28, 20), (24, 21, 41)),
    "left kidney": ((60, 28, 30), (24, 21, 41)),
    "bladder": (BLADDER_MM, (35, 25, 22)),
}
# x, y, z, radius in mm
_COLON = (
    [(-72, -22, -62, 17), (-88, -8, -40, 21), (-94, 4, -12, 19), (-88, -2, 14, 18)],
    [(-88, -2, 14, 18), (-62, -42, 14, 16), (-30, -60, 2, 16)],
    [(-30, -60, 2, 16), (5, -64, -4, 15), (35, -60, 8, 16)],
    [(35, -60, 8, 16), (68, -36, 30, 15), (90, 12, 42, 16)],
    [(90, 12, 42, 16), (97, 24, 8, 13), (93, 14, -24, 12), (84, -4, -50, 12)],
    [(84, -4, -50, 12), (56, -20, -64, 12), (22, -6, -58, 13), (-12, 4, -66, 13)],
    [(-12, 4, -66, 13), (-6, 30, -76, 14), (2, 42, -95, 17), (0, 46, -112, 15), (0, 50, -134, 9)],
)
_STOMACH: list[Polyline] = [
    [(42, 14, 92, 28), (54, -14, 76, 30), (42, -38, 54, 24), (12, -44, 40, 17)]
]
_STOMACH += [[(12, -44, 40, 17), (-18, -32, 42, 11), (-34, -14, 40, 11), (-34, 6, 18, 11)]]
_PANCREAS = [[(-20, -4, 26, 13), (-8, -14, 38, 11), (22, -8, 46, 9), (58, 20, 58, 8)]]
_AORTA = [(6, 14, 130, 10), (6, 10, 90, 10), (7, 3, 40, 9), (5, 1, -8, 8.5), (4, 3, -24, 8)]
_CAVA = [(-26, 4, 112, 12), (-20, 8, 70, 11), (-17, 6, 30, 10), (-12, 10, -30, 10)]
_VESSELS: list[Polyline] = [
    _AORTA,
    _CAVA,
    [(4, 3, -24, 6.5), (-18, 6, -46, 6), (-46, 0, -72, 5.5), (-51, -46, -132, 5)],  # iliac arteries
    [(4, 3, -24, 6.5), (26, 6, -46, 6), (48, 0, -72, 5.5), (51, -46, -132, 5)],
    [(-12, 10, -30, 8), (-28, 16, -50, 7), (-46, 10, -74, 7), (-42, -42, -132, 6)],  # iliac veins
    [(-12, 10, -30, 8), (20, 17, -50, 7), (44, 10, -74, 7), (42, -42, -132, 6)],
    [(-20, 12, -46, 4.5), (-36, 36, -72, 4), (-44, 42, -96, 3)],  # internal iliac
    [(26, 12, -46, 4.5), (38, 36, -72, 4), (44, 42, -96, 3)],
    [(7, 4, 34, 3), (30, 14, 32, 3), (48, 24, 30, 2.6)],  # renal arteries
    [(7, 4, 30, 3), (-26, 14, 26, 3), (-46, 24, 20, 2.6)],
    [(-14, 2, 28, 5), (10, -9, 29, 4), (32, 10, 30, 4.5), (48, 22, 30, 4)],  # renal veins
    [(-18, 6, 24, 5), (-32, 12, 22, 4.5), (-46, 22, 20, 4)],
    [(7, 2, 52, 4), (5, -10, 50, 3.5), (-18, -12, 54, 2.6)],  # coeliac
    [(5, -10, 50, 2.6), (30, 2, 56, 2.4), (60, 22, 62, 2.2)],
    [(-8, -14, 28, 6), (-14, -8, 44, 7), (-28, -6, 56, 7)],  # portal
    [(-10, -4, 42, 4.5), (22, 2, 46, 4.2), (60, 24, 60, 4)],  # splenic
    [(7, 2, 38, 3.5), (3, -14, 22, 3.3), (2, -20, -6, 2.8)],  # superior mesenteric
    [(-8, -14, 28, 5), (-7, -18, 10, 4.5), (-5, -24, -10, 4)],
]
_PSOAS = [[(27, 30, 56, 7), (34, 23, 20, 13), (43, 20, -26, 17), (66, -20, -112, 14)]]
_HIPS: list[Polyline] = [
    [(74, -14, -108, 9), (44, -38, -117, 6), (7, -46, -121, 7.5), (7, -42, -132, 8)],  # pubis
    [(80, 30, -112, 12), (66, 42, -132, 13)],  # ischium
]
_FEMURS = [[(88, 11, -113, 13), (110, 16, -126, 13), (116, 22, -136, 16)]]


def _polyline(nodes: Iterable[ArrayLike], radii: Iterable[float]) -> Polyline:
    polyline: list[list[float]] = np.column_stack([np.array(list(nodes)), list(radii)]).tolist()
    return polyline


def _loop(rng: np.random.Generator, middle: NDArray[np.float64]) -> Polyline:
    """One bent run of small bowel through `middle`."""
    heading = rng.normal(size=3) * (1, 0.8, 0.9)
    turn = rng.normal(size=3) * 0.45
    heading, radius = heading / np.linalg.norm(heading), rng.uniform(9.5, 13.5)
    steps = [heading + turn * i for i in (-1.5, -0.5, 0.5, 1.5)]
    nodes = np.cumsum([np.zeros(3), *(s / np.linalg.norm(s) * 14 for s in steps)], axis=0)
    nodes += middle - nodes[2]
    return _polyline(nodes, radius * rng.uniform(0.88, 1.1, len(nodes)))


def _tree(
    rng: np.random.Generator, root: ArrayLike, heading: ArrayLike, length: float, radius: float
) -> Iterable[Polyline]:
    """Branch in two until the vessels are thin."""
    if radius < 1.2:
        return
    way = np.asarray(heading) / np.linalg.norm(heading)
    middle = root + way * length / 2 + rng.normal(size=3) * length * 0.08
    end = root + way * length
    yield _polyline([root, middle, end], [radius, radius * 0.95, radius * 0.85])
    aside = np.cross(way, rng.normal(size=3))
    for sign, share in ((1, 0.72), (-1, 0.82)):
        yield from _tree(rng, end, way + sign * 0.6 * aside, length * 0.84, radius * share)


class Torso:
    """One patient: everything random about the anatomy is drawn here, from `rng`.

    Attributes
    ----------
    stature : ndarray, shape (3, 1)
        Size of the body along each axis, relative to the tables above.
    bend, texture : Noise
        What makes outlines irregular (3 channels, times `bend_mm`) and organs textured (2).
    jitter : dict
        Centre and radii of the organs of `_BLOBS`, mm.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.bend_mm = np.float32(5.0)
        self.stature = rng.uniform(0.97, 1.03, (3, 1)).astype(np.float32)
        self.bend = Noise(rng, 3, 10.0, 32, (24.0, 120.0), 2.5)
        self.texture = Noise(rng, 2, 2.5, 108, (3.2, 40.0), 1.6)
        self.jitter = {
            name: (
                np.add(centre, rng.uniform(-4, 4, 3)),
                np.multiply(radii, rng.uniform(0.93, 1.07, 3)),
            )
            for name, (centre, radii) in _BLOBS.items()
        }
        self._grow_bowel(rng)
        self._grow_vessels(rng)
        self.psoas, self.hips, self.femurs = Tubes(_PSOAS), Tubes(_HIPS), Tubes(_FEMURS)

    def _grow_bowel(self, rng: np.random.Generator) -> None:
        middles = [np.array([0.0, -40.0, -30.0])]
        while len(middles) < 34:  # of many places, take the one farthest from the others
            tries = rng.uniform(-1, 1, (60, 3))
            tries = tries[np.linalg.norm(tries, axis=1) < 1] * (74, 36, 56) + (-2, -26, -34)
            gaps = np.linalg.norm(tries[:, None] - np.array(middles), axis=2).min(axis=1)
            middles.append(tries[gaps.argmax()])
        self.small_bowel = Tubes([_loop(rng, middle) for middle in middles])
        root = np.array([-2.0, -16.0, 4.0])
        ways = [(root, (root + m) / 2 + rng.normal(size=3) * 6, m + (0, 8, 0)) for m in middles]
        self.mesenteric = Tubes([_polyline(way, (3.2, 2.2, 1.3)) for way in ways])
        self.colon, self.stomach = Tubes(_COLON), Tubes(_STOMACH)
        self.pancreas = Tubes(_PANCREAS)

    def _grow_vessels(self, rng: np.random.Generator) -> None:
        portal = _tree(rng, (-28.0, -6.0, 56.0), (-1, 0.2, 0.25), 26, 6.0)
        portal_left = _tree(rng, (-26.0, -8.0, 58.0), (0.5, -1, 0.5), 24, 4.5)
        veins = [
            _tree(rng, (-24.0, 4.0, 100.0), way, 30, 5.0)
            for way in ((-1, 0.3, -0.7), (-0.6, -0.9, -0.6), (0.5, -1, -0.3))
        ]
        self.hepatic = Tubes([run for tree in (portal, portal_left, *veins) for run in tree])
        self.vessels = Tubes(_VESSELS)

    def scan(self, rng: np.random.Generator, contrast: bool) -> Scan:
        """Draw where the gas is on the day of a scan."""
        n, m = self.small_bowel.runs, self.colon.runs
        small = np.where(rng.random(n) < 0.25, rng.uniform(-7, 2, n), -99)
        colon = np.where(rng.random(m) < 0.6, rng.uniform(-8, 6, m), -99)
        return Scan(contrast, small.astype("f4"), colon.astype("f4"), rng.uniform(-42, -24))
