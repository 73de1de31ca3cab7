"""The synthetic patient: organs, vessels and tumors drawn at random, in mm.

The frame is (z, y, x) in mm: x = 0 in the midline and positive to the patient's right, y positive
to the front, z = 0 about at the hilum of the liver and positive to the head. `a` and `b` are the
half width and half depth of the abdominal cavity; most organs are placed in fractions of them.
Vessels, cysts and tumors are placed by where the liver lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from data.phantom.shapes import (
    Array,
    Column,
    Ellipsoid,
    Field,
    Grid,
    Point,
    Range,
    Segment,
    Shape,
    smooth_max,
    smooth_min,
)

LOW, HIGH = (-220.0, -150.0, -200.0), (180.0, 150.0, 200.0)
UPRIGHT_Z = (-260.0, -130.0, -60.0, 0.0, 60.0, 220.0)
COARSE_MM = 4.0
KINDS = ("dark", "rim", "bright")
KIND_SHARES = (0.74, 0.15, 0.11)
COUNT_SHARES = (0.28, 0.2, 0.15, 0.11, 0.09, 0.07, 0.05, 0.05)


@dataclass(frozen=True)
class Timing:
    """Contrast timing: HU ranges; `minus_liver` is relative to the case's liver."""

    name: str
    liver: Range
    spleen_minus_liver: Range
    aorta: Range
    kidney: Range
    portal_minus_liver: Range
    hepatic_minus_liver: Range


@dataclass(frozen=True)
class Tumor:
    """A lesion labelled 2.

    `diameter_mm` is that of the ball of the same volume, before the liver's surface cuts it.
    """

    shape: Ellipsoid
    diameter_mm: float
    contrast_hu: float
    kind: str
    soft_mm: float
    rim_mm: float
    rim_hu: float


@dataclass(frozen=True)
class Frame:
    """The body wall and the diaphragm."""

    a: float
    b: float
    muscle_mm: float
    fat_side_mm: float
    fat_front_mm: float
    corner: float
    dome_mm: float
    left_dome_mm: float
    rib_mm: float
    outline: tuple[tuple[float, float], ...]

    @property
    def half_width_mm(self) -> float:
        """Half the width of the body."""
        return self.a + self.muscle_mm + self.fat_side_mm

    def ring(self, grid: Grid, side_mm: float, front_mm: float) -> Array:
        """Rounded rectangle around the cavity, (1, n_y, n_x) mm, negative inside.

        Args:
            grid: where it is evaluated.
            side_mm, front_mm: by how much it is larger than the cavity.
        """
        ry, rx = np.float32(self.b + front_mm), np.float32(self.a + side_mm)
        y, x, p = np.abs(grid.y / ry), np.abs(grid.x / rx), np.float32(self.corner)
        f = ((y**p + x**p) ** (1 / p) - 1) * min(ry, rx)
        angle = np.arctan2(grid.y, grid.x)
        for k, (size, phase) in enumerate(self.outline):
            f = f + np.float32(size) * np.cos((k + 2) * angle + np.float32(phase))
        return f.astype(np.float32)

    def skin(self, grid: Grid) -> Array:
        """The outline of the body."""
        side_mm, front_mm = self.muscle_mm + self.fat_side_mm, self.muscle_mm + self.fat_front_mm
        return self.ring(grid, side_mm, front_mm)

    def muscle(self, grid: Grid) -> Array:
        """The outline of the muscle, below the fat."""
        return self.ring(grid, self.muscle_mm, self.muscle_mm)

    def cavity(self, grid: Grid) -> Array:
        """The cavity inside the wall; the muscles of the back bulge into it."""
        y = (grid.y + np.float32(1.04 * self.b)) / np.float32(0.3 * self.b)
        x = grid.x / np.float32(0.5 * self.a)
        back = (np.sqrt(y * y + x * x) - 1) * np.float32(0.3 * self.b)
        return smooth_max(self.ring(grid, 0, 0), -back, 10)

    def diaphragm(self, grid: Grid) -> Array:
        """Height of the diaphragm, mm, (1, n_y, n_x): two domes, the right one higher."""
        y = (grid.y - np.float32(0.08 * self.b)) / np.float32(0.95 * self.b)
        domes = []
        for top, side in ((self.dome_mm, 0.45), (self.left_dome_mm, -0.47)):
            x = (grid.x - np.float32(side * self.a)) / np.float32(0.62 * self.a)
            domes.append(np.float32(top) - 72 * (x * x + y * y))
        return smooth_max(domes[0], domes[1], 12)


@dataclass(frozen=True)
class Patient:
    """Everything that is inside one synthetic patient."""

    frame: Frame
    hu: dict[str, float]
    organs: dict[str, Ellipsoid]
    columns: dict[str, Column]
    portal: tuple[Segment, ...]
    hepatic: tuple[Segment, ...]
    pancreas: tuple[Segment, ...]
    bowel: tuple[tuple[Ellipsoid, float], ...]
    liver_cysts: tuple[Ellipsoid, ...]
    kidney_cysts: tuple[Ellipsoid, ...]
    tumors: tuple[Tumor, ...]
    texture: Field
    fine_texture: Field
    liver_extent_mm: tuple[float, float]


def shape_liver(
    frame: Frame, organs: dict[str, Ellipsoid], columns: dict[str, Column], grid: Grid
) -> Array:
    """Return the implicit function of the liver: two lobes under the diaphragm.

    It is negative inside, in mm, of the grid's shape. Neighbours are taken out with a gap, so that
    no liver label lies on another organ.

    Args:
        frame, organs, columns: of the patient.
        grid: where it is evaluated.
    """
    f = smooth_min(organs["right lobe"](grid), organs["left lobe"](grid), 22)
    f = smooth_max(f, frame.cavity(grid) + 3, 10)
    f = smooth_max(f, (grid.z - frame.diaphragm(grid) + 5) * np.float32(0.8), 8)
    # Shape, gap and rounding in mm of what leaves a mark on the liver.
    neighbours: list[tuple[Shape, float, float]] = [
        (organs[name], gap, 6.0)
        for name, gap in (
            ("hilum", 0.0),
            ("fissure", 0.0),
            ("renal fossa", 0.0),
            ("stomach 0", 3.0),
            ("stomach 1", 3.0),
            ("stomach 2", 3.0),
            ("spleen", 3.0),
        )
    ]
    neighbours += [
        (columns[name], gap, 4.0) for name, gap in (("vena cava", -0.7), ("spine room", 0.0))
    ]
    if "gallbladder" in organs:
        neighbours.append((organs["gallbladder"], 0.3, 4.0))
    for shape, gap, radius in neighbours:
        low, high = shape.bounds()
        room = gap + radius
        box = grid.box(
            (low[0] - room, low[1] - room, low[2] - room),
            (high[0] + room, high[1] + room, high[2] + room),
        )
        if box is not None:
            f[box] = smooth_max(f[box], np.float32(gap) - shape(grid.part(box)), radius)
    return f


def draw_frame(rng: np.random.Generator) -> Frame:
    """Draw the body: a slim or a stout one, and the height of the diaphragm."""
    dome = rng.uniform(72, 98)
    fat = rng.uniform(0, 1)
    return Frame(
        a=rng.uniform(124, 146),
        b=rng.uniform(86, 102),
        muscle_mm=rng.uniform(9, 14),
        fat_side_mm=8 + 20 * fat + rng.uniform(-2, 2),
        fat_front_mm=6 + 18 * fat + rng.uniform(-2, 2),
        corner=rng.uniform(2.1, 2.5),
        dome_mm=dome,
        left_dome_mm=dome - rng.uniform(4, 20),
        rib_mm=rng.uniform(0, 26),
        outline=tuple((rng.normal(0, 1.2) / (k + 1), rng.uniform(0, 6.28)) for k in range(4)),
    )


def draw_columns(rng: np.random.Generator, frame: Frame) -> dict[str, Column]:
    """Draw what runs upright along the spine."""
    spine_y = -0.62 * frame.b
    sway = rng.normal(0, 1.5, (len(UPRIGHT_Z), 2))

    def column(
        y: float, x: float, ry: float, rx: float, top: int = 6, own_mm: float = 0.0
    ) -> Column:
        path = [
            (z, spine_y + y + dy + rng.normal(0, own_mm), x + dx + rng.normal(0, own_mm))
            for z, (dy, dx) in zip(UPRIGHT_Z[:top], sway, strict=False)
        ]
        return Column(tuple(path), ry, rx)

    ry, rx = rng.uniform(15, 18), rng.uniform(20, 25)
    aorta = rng.uniform(9, 12.5)
    columns = {
        "vertebra": column(0, 0, ry, rx),
        "arch": column(-ry - 9, 0, 14, 17),
        "canal": column(-ry - 8, 0, 8, 10),
        "spinous": column(-ry - 28, 0, 15, 4),
        "transverse": column(-ry - 8, 0, 5, 38),
        "spine room": column(0, 0, ry + 7, rx + 10),
        "psoas R": column(-4, rx + 14, 14, 13, top=3),
        "psoas L": column(-4, -rx - 14, 14, 13, top=3),
        "aorta": column(ry + aorta + 3, -rng.uniform(6, 14), aorta, aorta, own_mm=1.5),
        "vena cava": column(
            ry + 14, rng.uniform(20, 27), rng.uniform(8, 11), rng.uniform(10, 14), own_mm=1
        ),
        "mediastinum": column(ry + 50, -4, 62, 26),
        "colon R": column(0.75 * frame.b, 0.66 * frame.a, 20, 21, top=3, own_mm=8),
        "colon L": column(0.5 * frame.b, -0.78 * frame.a, 15, 16, top=4, own_mm=5),
    }
    # The vena cava ends in the heart, just above the dome.
    cava = columns["vena cava"]
    columns["vena cava"] = replace(
        cava, path=(*cava.path[:-1], (frame.dome_mm + 8, *cava.path[-1][1:]))
    )
    return columns


def draw_organs(rng: np.random.Generator, frame: Frame) -> dict[str, Ellipsoid]:
    """Draw the organs that are lumpy ellipsoids, and their marks on the liver."""
    a, b, dome = frame.a, frame.b, frame.dome_mm

    def organ(
        z: float,
        y: float,
        x: float,
        radii: Point,
        lumps: float = 2.0,
        lean: tuple[float, float] = (0, 0),
    ) -> Ellipsoid:
        at = (z + rng.normal(0, 4), y * b + rng.normal(0, 2), x * a + rng.normal(0, 2))
        scale = rng.uniform(0.9, 1.1)
        rz, ry, rx = (float(r * scale * rng.uniform(0.93, 1.07)) for r in radii)
        return Ellipsoid(at, (rz, ry, rx), lean, Field(rng, LOW, HIGH, 26.0), lumps)

    depth, reach = rng.uniform(80, 100), rng.uniform(0.42, 0.72)
    # The right lobe is drawn higher than the dome, which then cuts it: it always fills the dome.
    organs = {
        "right lobe": organ(dome - 0.86 * depth, 0.0, 0.52, (depth, 0.9 * b, 0.56 * a), 5.0),
        "left lobe": organ(dome - 62, 0.5, 0.08, (45, 0.36 * b, reach * a), 4.0, (0.1, 0.1)),
        "hilum": organ(-20, 0.06, 0.08, (32, 0.22 * b, 0.2 * a)),
        "fissure": organ(-8, 0.72, 0.12, (38, 0.3 * b, 4), 2.0, (0.0, rng.uniform(-0.4, 0.4))),
        "spleen": organ(dome - 66, -0.34, -0.76, (56, 0.52 * b, 0.27 * a), 3.0, (0.1, 0.0)),
        "kidney R": organ(-84, -0.54, 0.42, (54, 27, 26), 1.5, (0.12, 0.12)),
        "kidney L": organ(-50, -0.5, -0.45, (55, 28, 27), 1.5, (0.12, -0.12)),
        "stomach 0": organ(dome - 55, -0.02, -0.44, (36, 0.36 * b, 0.24 * a), 3.0),
        "stomach 1": organ(-8, 0.38, -0.42, (45, 0.3 * b, 0.24 * a), 3.0),
        "stomach 2": organ(-50, 0.5, -0.12, (17, 0.2 * b, 0.3 * a), 2.5),
        "heart": organ(dome + 22, 0.36, -0.16, (46, 0.5 * b, 0.42 * a), 2.0),
    }
    # The kidney lies behind the peritoneum: the liver rests on the fat around it.
    (z, y, x), (rz, ry, rx) = organs["kidney R"].center, organs["kidney R"].radii
    organs["renal fossa"] = Ellipsoid((z, y - 12, x - 4), (rz + 3, ry + 16, rx + 10), (0.12, 0.12))
    if rng.uniform() < 0.85:
        organs["gallbladder"] = organ(-50, 0.38, 0.32, (28, 15, 15), 1.0, (-0.3, 0.2))
    return organs


def draw_hu(rng: np.random.Generator, timing: Timing) -> dict[str, float]:
    """Draw the attenuation of each tissue, in HU."""
    liver = rng.uniform(*timing.liver)
    kidney, aorta = rng.uniform(*timing.kidney), rng.uniform(*timing.aorta)
    return {
        "liver": liver,
        "fat": rng.uniform(-112, -92),
        "muscle": rng.uniform(50, 66),
        "lung": rng.uniform(-880, -800),
        "spleen": max(liver + rng.uniform(*timing.spleen_minus_liver), 75.0),
        "aorta": aorta,
        "vena cava": liver + rng.uniform(10, 45),
        "portal": liver + rng.uniform(*timing.portal_minus_liver),
        "hepatic": liver + rng.uniform(*timing.hepatic_minus_liver),
        "heart": 0.8 * aorta + 20,
        "kidney": kidney,
        "medulla": kidney - rng.uniform(5, 30) - (25 if aorta > 210 else 0),
        "pancreas": rng.uniform(75, 105),
        "gallbladder": rng.uniform(2, 20),
        "stomach": float(rng.choice([rng.uniform(0, 35), rng.uniform(150, 300)], p=[0.85, 0.15])),
        "stomach air": rng.uniform(0.1, 1.2),
        "bone": rng.uniform(130, 210),
        "cyst": rng.uniform(2, 14),
    }


def grow_tree(
    rng: np.random.Generator, root: Point, radius_mm: float, targets: Array
) -> tuple[Segment, ...]:
    """Join points to a tree of tubes, two to a branch, thinner than its parent.

    Args:
        rng: bends the branches.
        root: where it starts.
        radius_mm: at the root.
        targets: ndarray of shape (n, 3), mm.
    """
    nodes, radii = [np.array(root)], [radius_mm]
    segments = []
    for target in targets[np.argsort(np.linalg.norm(targets - nodes[0], axis=1))]:
        parent = int(np.argmin(np.linalg.norm(np.array(nodes) - target, axis=1)))
        length = np.linalg.norm(target - nodes[parent])
        middle = (nodes[parent] + target) / 2 + rng.normal(0, 0.1, 3) * length
        inner, outer = max(0.92 * radii[parent], 1.6), max(0.74 * radii[parent], 1.2)
        ends = (nodes[parent], middle, target)
        points = [(float(p[0]), float(p[1]), float(p[2])) for p in ends]
        segments.append(Segment(points[0], points[1], inner, (inner + outer) / 2))
        segments.append(Segment(points[1], points[2], (inner + outer) / 2, outer))
        nodes += [middle, target]
        radii += [(inner + outer) / 2, outer]
    return tuple(segments)


def draw_patient(
    rng: np.random.Generator, timing: Timing, diameter_mm: tuple[float, float], healthy: bool
) -> Patient:
    """Draw a patient.

    Args:
        rng: of this patient's body.
        timing: of the contrast.
        diameter_mm: smallest and largest tumor; 1 to 8 tumors have log-uniform diameters.
        healthy: draw no tumor.
    """
    frame, hu = draw_frame(rng), draw_hu(rng, timing)
    organs, columns = draw_organs(rng, frame), draw_columns(rng, frame)
    axes = [np.arange(low, high, COARSE_MM) for low, high in zip(LOW, HIGH, strict=True)]
    # On a coarse grid: where the liver is, and how deep below its surface.
    grid = Grid.of(axes[0], axes[1], axes[2])
    depth = -shape_liver(frame, organs, columns, grid)
    places = np.argwhere(depth > 0)
    points = places * COARSE_MM + np.array(LOW)
    depths = depth[tuple(places.T)]
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
        liver_cysts=tuple(
            draw_cyst(rng, draw_point(rng, points, depths, 4.0)) for _ in range(cysts)
        ),
        kidney_cysts=draw_kidney_cysts(rng, organs),
        tumors=tuple(
            draw_tumor(rng, points, depths, diameter_mm, hu["liver"]) for _ in range(count)
        ),
        texture=Field(rng, LOW, HIGH, 22.0),
        fine_texture=Field(rng, LOW, HIGH, 9.0),
        liver_extent_mm=(float(points[:, 0].min()), float(points[:, 0].max())),
    )


def draw_point(rng: np.random.Generator, points: Array, depths: Array, depth_mm: float) -> Point:
    """Draw a point of the liver, (z, y, x) in mm.

    Args:
        rng: draws it.
        points: of the liver, ndarray of shape (n, 3), mm.
        depths: below its surface, ndarray of shape (n,), mm.
        depth_mm: least depth of the point, or half the largest depth where that is less.
    """
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
    """Draw one tumor: an irregular ball, dark, bright, or dark with a bright rim.

    Args:
        rng: draws it.
        points, depths: of the liver, as in `draw_point`.
        diameter_mm: smallest and largest.
        liver_hu: HU of the liver around it.
    """
    diameter = float(np.exp(rng.uniform(*np.log(diameter_mm))))
    radius = diameter / 2
    center = draw_point(rng, points, depths, float(np.clip(0.5 * radius, 4.0, 14.0)))
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
    """Draw a cyst, nearly a ball of 3 to 14 mm radius."""
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
    """Draw the tubes of the portal vein: a trunk below the hilum, then a tree.

    Args:
        rng: draws it.
        hilum: where it enters the liver, mm.
        inside: points of the liver, ndarray of shape (n, 3), mm.
    """
    z, y, x = hilum
    trunk = Segment((z - 35, y - 12, x - 14), (z + 6, y, x + 6), 7.0, 6.5)
    targets = inside[rng.choice(len(inside), size=26, replace=False)]
    return (trunk, *grow_tree(rng, trunk.stop, 6.5, targets))


def draw_hepatic(
    rng: np.random.Generator, cava: tuple[Point, ...], frame: Frame, inside: Array
) -> tuple[Segment, ...]:
    """Draw the tubes of the hepatic veins, from the vena cava into the upper liver.

    Args:
        rng: draws them.
        cava: path of the vena cava, mm.
        frame: of the body.
        inside: points of the liver, ndarray of shape (n, 3), mm.
    """
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
    """Draw the pancreas from the head, low and right, to the tail at the spleen."""
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
    """Draw loops of bowel below the stomach, each with the HU of its content."""
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
