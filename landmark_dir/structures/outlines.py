"""Voxels to closed polygons, holes by keyholes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator

from landmark_dir.structures.contours import Plane, Polygon

LEVEL, ABOVE = 0.5, 2.0  # of pixels that are 0 and 1


def outlines(plane: Plane) -> Iterator[Polygon]:
    """Polygons around the pixels of a plane, one an island; `contours.fill` is the way back.

    Lines run halfway between the centres of pixels inside and outside, and cut corners: the area is
    half a pixel less than that of the pixels, however large the island is. A hole is joined to what
    is at its left by a line there and back, a keyhole, which every reader takes for a hole.

    Returns
    -------
    iterator of ndarray, shape (N, 2)
        (x, y) in pixels, from the centre of the first one. Neither is the first point repeated at
        the end, nor is a point between two others on a straight line.
    """
    padded = np.pad(plane, 1).astype(np.float64)
    found = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(LEVEL, ABOVE)
    for points, offsets in zip(*found, strict=True):
        lines = [_bends(points[first : after - 1]) - 1 for first, after in pairwise(offsets)]
        yield keyholed(lines[0], lines[1:])


def _bends(polygon: Polygon) -> Polygon:
    """Leave out points on straight lines."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    return np.asarray(polygon[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])


def keyholed(outer: Polygon, holes: Sequence[Polygon]) -> Polygon:
    """One polygon of an outline and the holes in it."""
    whole = outer
    for hole in sorted(holes, key=lambda one: float(one[:, 0].min())):
        begin = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
        edge, place = _left_of(begin[0], whole)
        parts = whole[: edge + 1], [place], begin, begin[:1], [place], whole[edge + 1 :]
        whole = np.concatenate(parts)
        whole = whole[(whole != np.roll(whole, 1, axis=0)).any(axis=1)]  # a place at a corner
    return whole


def _left_of(point: Polygon, polygon: Polygon) -> tuple[int, Polygon]:
    """The nearest place of a polygon at the left of a point inside, and the edge that it is on.

    Holes further left are part of the polygon by then, so the way there is free.
    """
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    x, y = point
    crossing = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(crossing, x0 + (x1 - x0) * (y - y0) / (y1 - y0), -np.inf)
    edge = int(np.where(at < x, at, -np.inf).argmax())
    return edge, np.array([at[edge], y])
