"""A rigid motion fitted to pairs of points many of which are wrong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landmark_dir.geometry import Points, distances_mm

TRIPLES = 3000  # drawn; one of three right pairs is enough
APART_MM = 30.0  # least distance of two pairs of a triple: closer ones say little of a turn
STRETCH_MM = 15.0  # by how much two right pairs' distances may differ: tissue deforms
AGREEING_MM = 25.0  # from the rigid motion, of a right pair: organs move, and deform
CLOSER_MM = 15.0  # the same in the last fits, which are to be exact
REFITS = 5


@dataclass(frozen=True)
class Rigid:
    """x -> turn x + shift, proper: it mirrors nothing; LPS mm."""

    turn: NDArray[np.float64]  # [3, 3]
    shift: NDArray[np.float64]  # [3]

    def map_points(self, points: Points) -> Points:
        """Points [N, 3] mapped."""
        return np.asarray(points @ self.turn.T + self.shift)

    def inverse(self) -> "Rigid":
        """The way back."""
        return Rigid(self.turn.T, -self.turn.T @ self.shift)

    def degrees(self) -> float:
        """By how much it turns."""
        return turned_by(self.turn)


def turned_by(turn: NDArray[np.float64]) -> float:
    """Angle of a rotation matrix, degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def fit_rigid(fixed: NDArray[np.float64], moving: NDArray[np.float64]) -> Rigid:
    """Least squares over pairs [N, 3] [Kabsch 1976]; at least three, not on one line."""
    turn, shift = _fits(fixed[None], moving[None])
    return Rigid(turn[0], shift[0])


def _fits(
    fixed: NDArray[np.float64], moving: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turns [B, 3, 3] and shifts [B, 3] of groups of pairs [B, N, 3]."""
    centre_1, centre_2 = fixed.mean(1), moving.mean(1)
    covariance = (moving - centre_2[:, None]).transpose(0, 2, 1) @ (fixed - centre_1[:, None])
    left, _, right = np.linalg.svd(covariance)
    proper = np.ones((len(fixed), 3))
    proper[:, 2] = np.sign(np.linalg.det(left @ right))
    turn = (left * proper[:, None]) @ right
    return turn, centre_2 - np.einsum("bij,bj->bi", turn, centre_1)


def find_rigid(
    fixed: Points,
    moving: Points,
    rng: np.random.Generator,
    near: NDArray[np.float64] | None = None,
    near_degrees: float = 180.0,
) -> tuple[Rigid, NDArray[np.bool_]] | None:
    """The rigid motion that most pairs agree with, and which do; None where no three do.

    Triples are drawn among pairs that keep their distances, as those do that move rigidly
    [Fischler and Bolles 1981; Leordeanu and Hebert 2005].

    Parameters
    ----------
    near : ndarray, shape (3, 3), optional
        The turn that is expected, within `near_degrees`.
    """
    if len(fixed) < 3:
        return None
    apart = [np.linalg.norm(p[:, None] - p[None], axis=2) for p in (fixed, moving)]
    keeps = (np.abs(apart[0] - apart[1]) < STRETCH_MM) & (apart[0] > APART_MM)
    triples = _triples(keeps, rng)
    if not len(triples):
        return None
    turn, shift = _fits(fixed[triples], moving[triples])
    if near is not None:
        angle = (np.einsum("bij,ij->b", turn, near) - 1) / 2
        kept = angle > np.cos(np.radians(near_degrees))
        turn, shift = turn[kept], shift[kept]
        if not len(turn):
            return None
    off = np.linalg.norm(fixed @ turn.transpose(0, 2, 1) + shift[:, None] - moving, axis=2)
    best = int((1 - np.minimum(off / AGREEING_MM, 1) ** 2).sum(1).argmax())
    found = Rigid(turn[best], shift[best])
    for limit in np.linspace(AGREEING_MM, CLOSER_MM, REFITS):
        agree = distances_mm(found.map_points(fixed), moving) < limit
        if agree.sum() < 3:
            break
        found = fit_rigid(fixed[agree], moving[agree])
    return found, distances_mm(found.map_points(fixed), moving) < AGREEING_MM


def _triples(keeps: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows [T, 3] of which each two keep their distance; pairs that many agree with come first."""
    friends = keeps.sum(1)
    if not friends.any():
        return np.zeros((0, 3), dtype=np.intp)
    weight = friends.astype(float) ** 2
    first = rng.choice(len(keeps), TRIPLES, p=weight / weight.sum())
    second, third = (_one_of(keeps[first] * weight, rng) for _ in range(2))
    good = keeps[first, second] & keeps[first, third] & keeps[second, third]
    return np.column_stack([first, second, third])[good]


def _one_of(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """A column of each row, drawn by weight."""
    sums = weights.cumsum(1)
    drawn = rng.random((len(weights), 1)) * sums[:, -1:]
    return np.asarray(np.minimum((sums <= drawn).sum(1), weights.shape[1] - 1))
