"""Put one synthetic patient together: vessels, cysts and tumors are placed by where the liver came to lie."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from data.phantom_anatomy import (
    HIGH,
    LOW,
    Frame,
    Patient,
    Timing,
    Tumor,
    draw_columns,
    draw_frame,
    draw_hu,
    draw_organs,
    grow_tree,
    liver_function,
)
from data.phantom_shapes import Array, Ellipsoid, Field, Grid, Point, Segment

COARSE_MM = 4.0
KINDS = ("dark", "rim", "bright")
KIND_SHARES = (0.74, 0.15, 0.11)
COUNT_SHARES = (0.28, 0.2, 0.15, 0.11, 0.09, 0.07, 0.05, 0.05)


def draw_patient(
    rng: np.random.Generator, timing: Timing, diameter_mm: tuple[float, float], healthy: bool
) -> Patient:
    """Draw a patient; `healthy` ones have no tumor, the others 1 to 8 with log-uniform diameters."""
    frame, hu = draw_frame(rng), draw_hu(rng, timing)
    organs, columns = draw_organs(rng, frame), draw_columns(rng, frame)
    axes = [np.arange(low, high, COARSE_MM) for low, high in zip(LOW, HIGH, strict=True)]
    grid = Grid.of(axes[0], axes[1], axes[2])
    depth = -liver_function(frame, organs, columns, grid)
    at = np.argwhere(depth > 0)
    points = at * COARSE_MM + np.array(LOW)
    depths = depth[tuple(at.T)]
    count = 0 if healthy else int(rng.choice(np.arange(1, 9), p=COUNT_SHARES))
    cysts = rng.poisson(0.7)
    return Patient(
        frame=frame,
        hu=hu,
        organs=organs,
        columns=columns,
        portal=draw_portal(rng, organs["hilum"].center, points[depths > 9]),
        hepatic=draw_hepatic(rng, columns["vena cava"].path, frame, points[depths > 9]),
        pancreas=draw_pancreas(rng, frame),
        bowel=draw_bowel(rng, frame),
        liver_cysts=tuple(draw_cyst(rng, pick(rng, points, depths, 4.0)) for _ in range(cysts)),
        kidney_cysts=draw_kidney_cysts(rng, organs),
        tumors=tuple(
            draw_tumor(rng, points, depths, diameter_mm, hu["liver"]) for _ in range(count)
        ),
        texture=Field(rng, LOW, HIGH, 22.0),
        fine_texture=Field(rng, LOW, HIGH, 9.0),
        liver_extent_mm=(float(points[:, 0].min()), float(points[:, 0].max())),
    )


def pick(rng: np.random.Generator, points: Array, depths: Array, depth_mm: float) -> Point:
    """Draw a point of the liver that is `depth_mm` below its surface, or half as deep as it is deep at most."""
    inside = np.flatnonzero(depths >= min(depth_mm, float(depths.max()) / 2))
    z, y, x = points[rng.choice(inside)] + rng.uniform(-0.4, 0.4, 3) * COARSE_MM
    return float(z), float(y), float(x)


def draw_tumor(
    rng: np.random.Generator,
    points: Array,
    depths: Array,
    diameter_mm: tuple[float, float],
    liver_hu: float,
) -> Tumor:
    """Draw one tumor: an irregular ball, darker than the liver, or brighter, or dark with a bright rim."""
    diameter = float(np.exp(rng.uniform(*np.log(diameter_mm))))
    radius = diameter / 2
    center = pick(rng, points, depths, float(np.clip(0.5 * radius, 4.0, 14.0)))
    stretch = np.exp(rng.normal(0, 0.12, 3))
    stretch /= np.cbrt(stretch.prod())
    rz, ry, rx = (float(radius * s) for s in stretch)
    low = (center[0] - 1.5 * rz, center[1] - 1.5 * ry, center[2] - 1.5 * rx)
    high = (center[0] + 1.5 * rz, center[1] + 1.5 * ry, center[2] + 1.5 * rx)
    field = Field(rng, low, high, max(0.6 * radius, 3.0))
    kind = str(rng.choice(KINDS, p=KIND_SHARES))
    # Even a very dark tumor is no darker than water, which would make a cyst of it.
    contrast = -min(float(rng.uniform(15, 60)), liver_hu - 14)
    if kind == "bright":
        contrast = float(rng.uniform(15, 40))
    return Tumor(
        shape=Ellipsoid(center, (rz, ry, rx), field=field, lumps_mm=0.09 * radius),
        diameter_mm=diameter,
        contrast_hu=contrast,
        kind=kind,
        soft_mm=float(rng.uniform(0, min(4.0, 0.3 * radius))),
        rim_mm=float(np.clip(0.2 * radius, 1.5, 4.0)),
        rim_hu=float(rng.uniform(15, 40)),
    )


def draw_cyst(rng: np.random.Generator, center: Point) -> Ellipsoid:
    radius = float(np.exp(rng.uniform(np.log(3), np.log(14))))
    return Ellipsoid(
        center, (radius, radius * rng.uniform(0.9, 1.1), radius * rng.uniform(0.9, 1.1))
    )


def draw_kidney_cysts(
    rng: np.random.Generator, organs: dict[str, Ellipsoid]
) -> tuple[Ellipsoid, ...]:
    """Draw up to three simple cysts on the outer side of the kidneys."""
    cysts = []
    for _ in range(int(rng.choice([0, 0, 0, 1, 2, 3]))):
        side, sign = [("kidney R", 1.0), ("kidney L", -1.0)][int(rng.integers(2))]
        (z, y, x), (rz, ry, rx) = organs[side].center, organs[side].radii
        height = rng.uniform(-0.6, 0.6)
        bend = np.sqrt(1 - height**2)
        center = (
            z + height * rz,
            y + rng.uniform(-0.5, 0.5) * ry * bend,
            x + sign * 0.85 * rx * bend,
        )
        cysts.append(draw_cyst(rng, center))
    return tuple(cysts)


def draw_portal(rng: np.random.Generator, hilum: Point, inside: Array) -> tuple[Segment, ...]:
    """Draw the portal vein: its trunk below the hilum and a tree into both lobes."""
    z, y, x = hilum
    trunk = Segment((z - 35, y - 12, x - 14), (z + 6, y, x + 6), 7.0, 6.5)
    targets = inside[rng.choice(len(inside), size=26, replace=False)]
    return (trunk, *grow_tree(rng, trunk.stop, 6.5, targets))


def draw_hepatic(
    rng: np.random.Generator, cava: tuple[Point, ...], frame: Frame, inside: Array
) -> tuple[Segment, ...]:
    """Draw the hepatic veins: from the vena cava under the dome into the upper liver."""
    z = frame.dome_mm - 30
    path = np.array(cava)
    root = (
        z,
        float(np.interp(z, path[:, 0], path[:, 1])) + 6,
        float(np.interp(z, path[:, 0], path[:, 2])),
    )
    upper = inside[inside[:, 0] > frame.dome_mm - 100]
    targets = upper[rng.choice(len(upper), size=14, replace=False)]
    return grow_tree(rng, root, 6.0, targets)


def draw_pancreas(rng: np.random.Generator, frame: Frame) -> tuple[Segment, ...]:
    """Draw the pancreas from the head, right of the midline and low, to the tail at the spleen."""
    places = [
        (-52, 0.06, 0.2, 14),
        (-34, 0.1, 0.06, 11),
        (-26, 0.12, -0.1, 10),
        (-14, -0.1, -0.5, 9),
    ]
    knots = [
        (
            z + rng.normal(0, 3),
            y * frame.b + rng.normal(0, 3),
            x * frame.a + rng.normal(0, 3),
            float(r),
        )
        for z, y, x, r in places
    ]
    return tuple(
        Segment((p[0], p[1], p[2]), (q[0], q[1], q[2]), p[3], q[3]) for p, q in pairwise(knots)
    )


def draw_bowel(rng: np.random.Generator, frame: Frame) -> tuple[tuple[Ellipsoid, float], ...]:
    """Draw loops of bowel in front of the kidneys and below the stomach, each with the HU of its content."""
    loops = []
    for _ in range(60):
        center = (
            rng.uniform(-210, -52),
            rng.uniform(-0.1, 0.78) * frame.b,
            rng.uniform(-0.78, 0.62) * frame.a,
        )
        radii = (rng.uniform(10, 22), rng.uniform(10, 18), rng.uniform(12, 26))
        content = float(rng.choice([rng.uniform(10, 60), -700.0], p=[0.8, 0.2]))
        loops.append((Ellipsoid(center, radii), content))
    return tuple(loops)
