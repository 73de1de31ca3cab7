"""Implicit shapes on a grid of voxels, for the synthetic phantom.

A shape is a function of the point: negative inside, positive outside, in millimetres near its
surface. Points are (z, y, x) in millimetres, x to the patient's right, y to the front, z to the
head (RAS, read backwards), so that the arrays are C-ordered with one slice after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
Point = tuple[float, float, float]
Range = tuple[float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Voxel centres in mm, float32: z (n, 1, 1), y (1, n, 1), x (1, 1, n).

    `overlap` is slice thickness / slice spacing: over how many slice distances one voxel averages.
    """

    z: Array
    y: Array
    x: Array
    overlap: float = 1.0

    @classmethod
    def of(cls, z: Array, y: Array, x: Array, overlap: float = 1.0) -> Grid:
        """Build the grid.

        Args:
            z, y, x: increasing coordinates in mm, ndarrays of shape (n,).
            overlap: slice thickness / slice spacing.
        """
        z, y, x = (np.asarray(axis, dtype=np.float32) for axis in (z, y, x))
        return cls(z[:, None, None], y[None, :, None], x[None, None, :], overlap)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y and x."""
        return self.z.size, self.y.size, self.x.size

    @property
    def voxel_mm(self) -> Point:
        """Distance between voxel centres along z, y and x."""
        first, second, third = (
            float(a.flat[1] - a.flat[0]) if a.size > 1 else 1.0 for a in (self.z, self.y, self.x)
        )
        return first, second, third

    def box(self, low: Point, high: Point) -> Box | None:
        """Return the slices that hold `low`..`high` and a voxel around, or None."""
        slices = []
        for axis, start, stop in zip((self.z, self.y, self.x), low, high, strict=True):
            values = axis.ravel()
            first = max(int(np.searchsorted(values, start)) - 1, 0)
            last = min(int(np.searchsorted(values, stop, side="right")) + 1, values.size)
            if last - first < 2:
                return None
            slices.append(slice(first, last))
        return slices[0], slices[1], slices[2]

    def part(self, box: Box) -> Grid:
        """Return the grid of the voxels of `box`."""
        return Grid(self.z[box[0]], self.y[:, box[1]], self.x[:, :, box[2]], self.overlap)


class Shape(Protocol):
    """What can be painted: a box that holds it, and its implicit function."""

    def bounds(self) -> tuple[Point, Point]: ...

    def __call__(self, grid: Grid) -> Array: ...


def edge_width(f: Array, grid: Grid) -> Array:
    """Return by how much `f` changes across one voxel: the sum over the axes of |df|."""
    width = np.full_like(f, 1e-3)
    for axis, reach in enumerate((grid.overlap, 1.0, 1.0)):
        if f.shape[axis] > 1:
            width += np.abs(np.gradient(f, axis=axis)) * np.float32(reach)
    return width


def coverage(f: Array, grid: Grid, soft_mm: float = 0.0) -> Array:
    """Return the part of each voxel inside a shape, 0 to 1: the partial volume.

    For a plane parallel to a side of the voxel this is exact, in-plane as through the slice.

    Args:
        f: of the shape on the grid.
        grid: its voxels.
        soft_mm: widens the edge, for lesions without a sharp border.
    """
    return np.clip(0.5 - f / (edge_width(f, grid) + np.float32(soft_mm)), 0.0, 1.0)


def smooth_min(a: Array, b: Array, radius_mm: float) -> Array:
    """Join two shapes.

    Args:
        a, b: their functions on one grid, mm.
        radius_mm: rounds the seam.

    Returns:
        ndarray of the grid's shape, mm.
    """
    h = np.maximum(np.float32(radius_mm) - np.abs(a - b), 0) / np.float32(radius_mm)
    return np.minimum(a, b) - h * h * np.float32(radius_mm / 4)


def smooth_max(a: Array, b: Array, radius_mm: float) -> Array:
    """Intersect two shapes.

    Args:
        a, b, radius_mm: as of `smooth_min`.
    """
    return -smooth_min(-a, -b, radius_mm)


class Field:
    """A smooth random function: mean 0, deviation about 1, features of `knot_mm`.

    It is a sum of Gaussians on a lattice, hence separable: three small matrix products evaluate it
    on any grid.
    """

    def __init__(self, rng: np.random.Generator, low: Point, high: Point, knot_mm: float) -> None:
        self.width = 0.8 * knot_mm
        self.knots = [
            np.arange(a - knot_mm, b + 2 * knot_mm, knot_mm) for a, b in zip(low, high, strict=True)
        ]
        # The sum over the lattice of squared Gaussians has the mean sqrt(pi) width / knot per axis.
        scale = (np.sqrt(np.pi) * 0.8) ** -1.5
        self.weights = (scale * rng.standard_normal([len(k) for k in self.knots])).astype(
            np.float32
        )

    def __call__(self, grid: Grid) -> Array:
        bases = [
            np.exp(-0.5 * ((axis.reshape(-1, 1) - k) / self.width) ** 2).astype(np.float32)
            for axis, k in zip((grid.z, grid.y, grid.x), self.knots, strict=True)
        ]
        partial = np.tensordot(bases[0], self.weights, axes=(1, 0))
        partial = np.matmul(bases[1], partial)
        return np.matmul(partial, bases[2].T)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, sheared by `lean` (mm per mm in z), made irregular by `field`."""

    center: Point
    radii: Point
    lean: tuple[float, float] = (0.0, 0.0)
    field: Field | None = None
    lumps_mm: float = 0.0

    def bounds(self) -> tuple[Point, Point]:
        room = [r + 3 * self.lumps_mm + 1 for r in self.radii]
        room[1] += abs(self.lean[0]) * self.radii[0]
        room[2] += abs(self.lean[1]) * self.radii[0]
        (cz, cy, cx), (rz, ry, rx) = self.center, room
        return (cz - rz, cy - ry, cx - rx), (cz + rz, cy + ry, cx + rx)

    def __call__(self, grid: Grid) -> Array:
        z = grid.z - np.float32(self.center[0])
        y = grid.y - np.float32(self.center[1]) - np.float32(self.lean[0]) * z
        x = grid.x - np.float32(self.center[2]) - np.float32(self.lean[1]) * z
        zz, yy, xx = (
            (axis / np.float32(r)) ** 2 for axis, r in zip((z, y, x), self.radii, strict=True)
        )
        level = np.sqrt(zz + yy + xx)
        slope = np.sqrt(
            sum(a / np.float32(r * r) for a, r in zip((zz, yy, xx), self.radii, strict=True))
        )
        # level / slope turns the level into a distance; the small number keeps the centre finite.
        tiny = np.float32(1e-4)
        f = (level - 1) * (level + tiny * np.float32(min(self.radii))) / (slope + tiny)
        return f if self.field is None else f + np.float32(self.lumps_mm) * self.field(grid)


@dataclass(frozen=True)
class Column:
    """An upright tube of elliptic section along a path of points by increasing z."""

    path: tuple[Point, ...]
    ry: float
    rx: float

    def bounds(self) -> tuple[Point, Point]:
        path = np.array(self.path)
        room = np.array([0.0, self.ry + 1, self.rx + 1])
        low, high = path.min(axis=0) - room, path.max(axis=0) + room
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def __call__(self, grid: Grid) -> Array:
        path = np.array(self.path, dtype=np.float32)
        y = grid.y - np.interp(grid.z, path[:, 0], path[:, 1]).astype(np.float32)
        x = grid.x - np.interp(grid.z, path[:, 0], path[:, 2]).astype(np.float32)
        level = np.sqrt((y / np.float32(self.ry)) ** 2 + (x / np.float32(self.rx)) ** 2)
        f = (level - 1) * np.float32(min(self.ry, self.rx))
        ends = np.maximum(
            np.float32(self.path[0][0]) - grid.z, grid.z - np.float32(self.path[-1][0])
        )
        return np.maximum(f, ends)


@dataclass(frozen=True)
class Segment:
    """A straight tube with round ends, radius from `start_mm` to `stop_mm`."""

    start: Point
    stop: Point
    start_mm: float
    stop_mm: float

    def bounds(self) -> tuple[Point, Point]:
        room = max(self.start_mm, self.stop_mm) + 1
        ends = np.array([self.start, self.stop])
        low, high = ends.min(axis=0) - room, ends.max(axis=0) + room
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def __call__(self, grid: Grid) -> Array:
        along = np.subtract(self.stop, self.start).astype(np.float32)
        z, y, x = (
            axis - np.float32(s)
            for axis, s in zip((grid.z, grid.y, grid.x), self.start, strict=True)
        )
        length2 = max(float(along @ along), 1e-6)
        t = np.clip((z * along[0] + y * along[1] + x * along[2]) / np.float32(length2), 0, 1)
        distance = np.sqrt(
            (z - t * along[0]) ** 2 + (y - t * along[1]) ** 2 + (x - t * along[2]) ** 2
        )
        return distance - np.float32(self.start_mm) - t * np.float32(self.stop_mm - self.start_mm)
