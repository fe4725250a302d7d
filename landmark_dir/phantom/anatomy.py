"""The anatomy of the phantom: HU and organ labels as a function of position.

Organs are signed distances, negative inside. They are painted one over the other, so the order
of `_ORGANS` is anatomy: fat first, bone last. All positions are bent by a smooth noise before,
so that no outline is an ellipse.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from landmark_dir.geometry import Points
from landmark_dir.phantom.patient import TISSUES, Scan, Torso
from landmark_dir.phantom.shapes import FAR, Floats, Triple, at_level, capsule, ellipsoid

LABELS: dict[str, int] = {
    "body": 1,  # every voxel of the body that no other label claims
    "muscle": 2,
    "bone": 3,
    "lung": 4,
    "bowel": 5,  # with wall, content and gas
    "stomach": 6,
    "liver": 7,
    "spleen": 8,
    "kidney": 9,
    "pancreas": 10,
    "bladder": 11,
    "vessel": 12,
}


class Canvas:
    """The points of one chunk with what has been painted on them so far."""

    def __init__(self, p: Floats, torso: Torso, scan: Scan, edge_mm: float, under: Floats) -> None:
        self.torso, self.scan, self._edge = torso, scan, np.float32(edge_mm)
        bend = torso.bend(p)
        self.soft = p + torso.bend_mm * bend
        self.firm = p + np.float32(0.3) * torso.bend_mm * bend
        self.half = np.stack([np.abs(self.firm[0]), self.firm[1], self.firm[2]])  # mirrored
        self.texture, self.grain = torso.texture(p)
        self.hu = under.copy()
        self.labels = np.zeros(p.shape[1], np.uint8)
        self.body, self.wall, self.cavity = _layers(self.firm)
        self.dome = _dome(self.soft, self.cavity)

    def paint(self, tissue: str, distance: Floats, label: str | None = None) -> None:
        """Cover what lies inside, with an edge as wide as a voxel."""
        columns = np.flatnonzero(distance < self._edge / 2)
        cover = np.minimum(0.5 - distance[columns] / self._edge, 1)
        native, enhanced, texture = TISSUES[tissue]
        hu = (enhanced if self.scan.contrast else native) + texture * self.texture[columns]
        self.hu[columns] += cover * (hu - self.hu[columns])
        if label is not None:
            self.labels[columns[cover > 0.5]] = LABELS[label]

    def paint_bone(self, distance: Floats, shell_mm: float = 2.2) -> None:
        """Paint a cortical shell around trabecular bone."""
        self.paint("cortical", distance, "bone")
        self.paint("trabecular", distance + shell_mm)

    def paint_muscle(self, distance: Floats) -> None:
        """Paint a muscle with a thin coat of fat and fat streaks inside."""
        self.paint("fat", distance - 0.8 - 0.6 * self.texture)
        self.paint("muscle", distance + 1.2 * np.maximum(self.grain - 1, 0), "muscle")


def _layers(p: Floats) -> tuple[Floats, Floats, Floats]:
    """Distances to the skin, the outside of the muscle wall and the body cavity."""
    x, y, z = p
    width = at_level(z, (-130, -100, -60, -10, 30, 80, 130), (134, 135, 128, 118, 116, 122, 121))
    depth = at_level(z, (-130, -95, -60, -10, 30, 80, 130), (92, 95, 91, 84, 85, 91, 93))
    k = (np.abs(x / width) ** 2.3 + np.abs(y / depth) ** 2.3) ** (1 / 2.3)
    body = np.hypot(x, y) * (1 - 1 / np.maximum(k, 0.05))
    side = y / depth
    low = np.clip((-z - 10) / 80, 0, 1)
    wall = body + 8 + 5 * side**2 + low * (6 + 7 * np.maximum(side, 0))
    return body, wall, wall + 10 - 2 * low


def _dome(p: Floats, cavity: Floats) -> Floats:
    """How far a point lies above the diaphragm, mm."""
    x, y, z = p
    right = 114 - ((x + 56) / 13) ** 2 - ((y + 10) / 13) ** 2
    left = 106 - ((x - 56) / 13) ** 2 - ((y + 10) / 13) ** 2
    recess = 38 * np.exp(np.minimum(cavity, 0) / 6)  # the costophrenic angle
    above: Floats = z - np.maximum(np.maximum(right, left) - recess, 34)
    return above


def _spine_y(z: Floats) -> Floats:
    """Where the vertebral bodies have their middle."""
    levels = (-130, -115, -98, -80, -62, -40, 0, 60, 130)
    return at_level(z, levels, (70, 69, 64, 54, 42, 33, 28, 35, 42))


def _skin_and_wall(c: Canvas) -> None:
    c.paint("skin", c.body, "body")
    c.paint("fat", c.body + 2)
    septa = np.abs(c.grain) * 6 - 0.2
    c.paint("mesentery", np.maximum(septa, c.body + 4))
    c.paint("muscle", c.wall + np.maximum(c.grain, 0), "muscle")
    x, y, _ = c.half
    flank = np.maximum(np.abs(y) - 50, 30 - x)
    for depth in (3.2, 6.6):  # fat between the three oblique muscles
        c.paint("fat", np.maximum(np.abs(c.cavity - depth) - 0.35, flank))
    front = np.maximum(y + 30, c.wall)
    seams = np.minimum(x - 1.2, np.abs(x - 52) - 0.9) + 0.6 * c.texture
    c.paint("fat", np.maximum(seams, front))
    c.paint("mesentery", c.cavity, "body")


def _chest(c: Canvas) -> None:
    c.paint("muscle", np.maximum(c.cavity, -c.dome - 3), "muscle")
    x, y, _ = c.soft
    middle = np.hypot(x / 1.1, (y - 5) / 1.6) - 24
    c.paint("fat", np.maximum(c.cavity, -c.dome), "body")
    c.paint("lung", np.maximum(np.maximum(c.cavity + 1, -c.dome), -middle), "lung")
    vessels = (1.55 - c.grain) * 3
    c.paint(
        "lung vessel",
        np.maximum(np.maximum(vessels, 6 - c.dome), np.maximum(-middle, c.cavity + 6)),
    )
    heart = ellipsoid(c.soft, (16, -28, 132), (56, 44, 30))
    c.paint("heart", np.maximum(heart, c.cavity + 4), "body")


def _inside(c: Canvas, distance: Floats) -> Floats:
    """Keep an abdominal organ inside the cavity and under the diaphragm."""
    kept: Floats = np.maximum(np.maximum(distance, c.cavity + 0.5), c.dome + 2.5)
    return kept


def _small_bowel(c: Canvas) -> None:
    near = c.torso.small_bowel.nearest(c.soft, margin=14)
    outer = np.maximum(near.distance, (near.distance - near.second) / 2 + 0.5)
    outer = _inside(c, outer + 0.8 * c.grain)
    fold = 0.9 * c.grain
    c.paint("bowel wall", outer, "bowel")
    c.paint("bowel fluid", outer + 2.4 + fold)
    c.paint("chyme", np.where(near.run % 3 == 1, outer + 2.4 + fold, FAR))
    c.paint("bowel wall", np.where(near.run % 4 == 3, outer, FAR))  # collapsed runs
    gas = near.behind - c.scan.small_bowel_gas[near.run]
    c.paint("gas", np.maximum(outer + 3, gas))
    mesentery = c.torso.mesenteric.nearest(c.soft).distance
    c.paint("blood", np.maximum(mesentery, 2 - outer), "vessel")


def _colon(c: Canvas) -> None:
    near = c.torso.colon.nearest(c.soft, margin=8)
    outer = _inside(c, near.distance + 1.6 * c.grain)
    c.paint("bowel wall", outer, "bowel")
    c.paint("stool", outer + 3)
    bubbles = np.maximum((1.3 - c.texture) * 2.5, outer + 4)
    c.paint("gas", bubbles)
    c.paint("gas", np.maximum(outer + 3, near.behind - c.scan.colon_gas[near.run]))


def _stomach(c: Canvas) -> None:
    near = c.torso.stomach.nearest(c.soft, margin=8)
    outer = _inside(c, near.distance + 1.2 * c.grain)
    c.paint("bowel wall", outer, "stomach")
    c.paint("bowel fluid", outer + 5 + 1.2 * c.texture)
    c.paint("gas", np.maximum(outer + 5, c.soft[1] - c.scan.stomach_gas))


def _pancreas(c: Canvas) -> None:
    outer = c.torso.pancreas.nearest(c.soft).distance
    c.paint("pancreas", _inside(c, outer + 2.2 * c.grain), "pancreas")


def _liver(c: Canvas) -> None:
    right = ellipsoid(c.soft, *c.torso.jitter["right liver"], 30)
    left = ellipsoid(c.soft, *c.torso.jitter["left liver"], 30)
    reach = np.clip(0.5 + (left - right) / 24, 0, 1)  # smooth union
    lobes = left + reach * (right - left) - 12 * reach * (1 - reach)
    hollow = ellipsoid(c.soft, (-40, 34, 22), (34, 36, 42))  # kidney, colon, gallbladder
    x, y, z = c.soft
    fissure = np.maximum(np.abs(x + 12 + 0.15 * y) - 1.2, np.maximum(y + 22, z - 84))
    outer = np.maximum(_inside(c, np.maximum(lobes, 2 - hollow)), -fissure)
    c.paint("liver", outer, "liver")
    vessel = c.torso.hepatic.nearest(c.soft).distance
    c.paint("liver vessel", np.maximum(vessel, outer + 4), "vessel")
    gallbladder = ellipsoid(c.soft, *c.torso.jitter["gallbladder"])
    c.paint("bladder wall", gallbladder, "body")
    c.paint("gallbladder", gallbladder + 1.8)


def _spleen(c: Canvas) -> None:
    outer = ellipsoid(c.soft, *c.torso.jitter["spleen"])
    hilum = ellipsoid(c.soft, (54, 8, 62), (22, 22, 30))
    c.paint("spleen", _inside(c, np.maximum(outer, 1 - hilum)), "spleen")


def _kidneys(c: Canvas) -> None:
    for name, side in (("right kidney", -1), ("left kidney", 1)):
        centre, radii = c.torso.jitter[name]
        p = c.soft.copy()
        lean = p[2] - centre[2]
        p[0] -= side * -0.22 * lean  # upper poles lean to the spine
        p[1] -= -0.15 * lean
        outer = ellipsoid(p, centre, radii)
        hilum = ellipsoid(p, centre - [side * 17, 6, 0], (15, 9, 15))
        outer = np.maximum(outer, -hilum)
        outer = np.maximum(outer, c.cavity + 5)
        c.paint("renal cortex", outer, "kidney")
        c.paint("renal medulla", np.maximum(outer + 6 + 2.5 * c.grain, 3 - hilum))
        sinus = ellipsoid(p, centre - [side * 8, 3, 0], (9, 6, 19))
        c.paint("fat", sinus + 2 * c.grain)
        c.paint("urine", ellipsoid(p, centre - [side * 11, 3, 0], (9, 3.5, 8)))
        fascia = np.abs(outer - 9 + 2 * c.texture) - 0.2  # Gerota's
        c.paint("muscle", np.maximum(fascia, c.cavity + 2))


def _great_vessels(c: Canvas) -> None:
    distance = c.torso.vessels.nearest(c.soft).distance
    c.paint("fat", distance - 0.7 - 0.5 * c.texture)
    c.paint("blood", distance, "vessel")


def _bladder(c: Canvas) -> None:
    outer = ellipsoid(c.soft, *c.torso.jitter["bladder"])
    c.paint("fat", outer - 2.5)
    c.paint("bladder wall", outer, "bladder")
    c.paint("urine", outer + 3)
    c.paint("muscle", ellipsoid(c.soft, (0, 12, -116), (21, 16, 17)), "body")  # prostate
    for x in (-16, 16):  # seminal vesicles
        c.paint("muscle", ellipsoid(c.soft, (x, 14, -96), (17, 6, 7)) + 2 * c.grain, "body")


# centre and radii of one side, mm; the other side is its mirror image
_MUSCLES: tuple[tuple[Triple, Triple], ...] = (
    ((48, 46, 10), (13, 7, 48)),  # quadratus lumborum
    ((76, 8, -50), (15, 30, 38)),  # iliacus
    ((104, 36, -66), (19, 33, 46)),  # gluteus medius
    ((64, 64, -104), (46, 22, 52)),  # gluteus maximus
    ((56, 22, -112), (7, 25, 20)),  # obturator internus
    ((52, 50, -94), (28, 8, 9)),  # piriformis
    ((66, -22, -116), (17, 15, 34)),  # iliopsoas
    ((88, -44, -124), (14, 13, 32)),  # rectus femoris
    ((112, -24, -112), (9, 24, 36)),  # tensor fasciae latae
    ((42, -36, -130), (17, 12, 14)),  # pectineus
)


def _muscles(c: Canvas) -> None:
    spine = _spine_y(c.half[2])
    x, y, z = c.half
    back = np.hypot((x - 27) / 25, (y - spine - 38) / 17) - 1
    back = np.maximum(back * 17, -62 - z)
    c.paint_muscle(np.maximum(back, c.body + 9))
    c.paint_muscle(c.torso.psoas.nearest(c.half).distance)
    for centre, radii in _MUSCLES:
        c.paint_muscle(np.maximum(ellipsoid(c.half, centre, radii), c.body + 8))


def _ribs(c: Canvas) -> None:
    x, y, z = c.half
    climb = z + 0.7 * (60 - y)  # ribs fall towards the front
    rib = np.round((climb - 22) / 27)
    off = (climb - 22 - 27 * rib) * 0.82
    distance = np.hypot(off / 1.7, c.cavity - 5.5) - 3.6
    distance = np.maximum(distance, np.maximum(2 - rib, 0) * 20)
    front = 15 - 24 * (rib - 2)  # where the bone ends and the cartilage begins
    bone = np.maximum(distance, np.maximum(front - y, 18 - x))
    cartilage = np.maximum(np.maximum(distance, y - front), np.maximum(4 - rib, 0) * 20)
    c.paint("cartilage", np.maximum(cartilage, 26 - x), "bone")
    c.paint("cortical", bone, "bone")
    c.paint("trabecular", bone + 1.6)


def _vertebrae(c: Canvas) -> None:
    x, y, z = c.half
    v = y - _spine_y(z)
    above = z > -66
    offset = z - 16 - 32 * np.round((z - 16) / 32)
    waist = 2.0 * np.clip(1 - (offset / 11) ** 2, 0, 1)
    column = np.where(above, (np.hypot(x / 22, v / 16) - 1) * 17 + waist, FAR)
    c.paint("fat", column - 2)
    c.paint("disc", column, "bone")
    c.paint_bone(np.maximum(column, np.abs(offset + 0.02 * v) - 12))
    middle = np.abs(offset - 2)
    arch = [
        np.maximum(np.hypot(x - 15, (v - 17) / 1.7) - 4.5, middle - 7),  # pedicle
        np.maximum(np.hypot((x - 20) / 1.1, v - 31) - 8, np.abs(offset) - 14),  # joints
        np.maximum(np.abs(v - 34 + 0.2 * x) - 3.5, np.maximum(x - 18, np.abs(offset + 4) - 9)),
        np.maximum(np.abs(v - 26 - 0.1 * x) - 3.5, np.maximum(x - 44, middle - 5)),  # transverse
        np.maximum(x - 2.8, np.maximum(np.abs(v - 43) - 10, np.abs(offset + 5) - 9)),  # spinous
    ]
    c.paint_bone(np.where(above, np.minimum.reduce(arch), FAR), 1.8)
    joint = np.maximum(np.abs(v - 31 + 0.6 * (x - 20)) - 0.6, np.hypot(x - 20, v - 31) - 9)
    c.paint("cartilage", np.where(above, joint, FAR))
    canal = np.hypot(x / 1.2, v - 24) - 8
    c.paint("fat", np.where(z > -85, canal, FAR), "body")
    c.paint("thecal sac", np.where(z > -85, canal + 2.2, FAR))


def _sacrum(c: Canvas) -> None:
    x, y, z = c.half
    v = y - _spine_y(z) - 4
    width = at_level(z, (-128, -110, -85, -62), (9, 22, 40, 50))
    thick = at_level(z, (-128, -110, -85, -62), (6, 9, 15, 20))
    plate = (np.hypot(x / width, (v + 0.1 * x) / thick) - 1) * thick
    c.paint_bone(np.maximum(plate, z + 63 + 0.5 * np.maximum(x - 16, 0)))
    level = z + 74 - 20 * np.round((z + 74) / 20)
    holes = np.hypot(x - 0.45 * width, level) - 3.2
    c.paint("fat", np.maximum(holes, np.maximum(plate, np.abs(z + 92) - 28)), "body")
    canal = np.hypot(x / 1.6, v - 6) - 5
    c.paint("fat", np.maximum(canal, np.maximum(z + 62, -108 - z)))


def _pelvis(c: Canvas) -> None:
    x, y, z = c.half
    levels = (-100, -70, -45, -15)
    back = [at_level(z, levels, v) for v in ((66, 54, 50, 58), (42, 62, 60, 48))]
    knee = [at_level(z, levels, v) for v in ((78, 74, 82, 88), (30, 38, 38, 34))]
    front = [at_level(z, levels, v) for v in ((86, 93, 104, 104), (4, -8, -10, 4))]
    rear, fore = capsule(x, y, back, knee) - 5.5, capsule(x, y, knee, front) - 4.2
    wing = np.minimum(rear, fore) - 0.08 * np.maximum(8 - np.abs(rear - fore), 0) ** 2 / 2
    crest = -14 - ((y - 22) / 12) ** 2 - z
    wing = np.maximum(wing, np.maximum(-crest * 0.7, -102 - z))
    c.paint_bone(wing)
    hip = (86.0, 10.0, -112.0)
    ball = ellipsoid(c.half, hip, (21, 21, 21), 16)
    socket = np.maximum(np.abs(ball - 8) - 4.5, 0.8 * (x - 90) + 0.5 * (-112 - z))
    c.paint_bone(np.minimum(socket, c.torso.hips.nearest(c.half).distance))
    c.paint("cartilage", ball - 3, "bone")
    c.paint_bone(np.minimum(ball, c.torso.femurs.nearest(c.half).distance))


_ORGANS: tuple[Callable[[Canvas], None], ...] = (
    _skin_and_wall,
    _chest,
    _small_bowel,
    _colon,
    _stomach,
    _pancreas,
    _spleen,
    _liver,
    _kidneys,
    _muscles,
    _great_vessels,
    _bladder,
    _ribs,
    _pelvis,
    _sacrum,
    _vertebrae,
)


def paint_torso(
    torso: Torso, scan: Scan, points: Points, edge_mm: float, under: Floats
) -> tuple[Floats, NDArray[np.uint8]]:
    """Tell the HU and labels at patient positions [N, 3]; `under` is the HU where no body is.

    Organs end in an edge `edge_mm` wide, as partial volumes have it.
    """
    p = np.ascontiguousarray(points.T, dtype=np.float32) / torso.stature
    canvas = Canvas(p, torso, scan, edge_mm, under)
    for organ in _ORGANS:
        organ(canvas)
    return canvas.hu, canvas.labels
