"""The synthetic patient: organs, vessels and tumors drawn at random, in millimetres, independent of any scan.

The frame is (z, y, x) in mm: x = 0 in the midline and positive to the patient's right, y positive to the front,
z = 0 about at the hilum of the liver and positive to the head. `a` and `b` are the half width and half depth of
the abdominal cavity; most organs are placed in fractions of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data.phantom_shapes import (
    Array,
    Column,
    Ellipsoid,
    Field,
    Grid,
    Point,
    Segment,
    Shape,
    smooth_max,
    smooth_min,
)

LOW, HIGH = (-220.0, -150.0, -200.0), (180.0, 150.0, 200.0)
UPRIGHT_Z = (-260.0, -130.0, -60.0, 0.0, 60.0, 220.0)


@dataclass(frozen=True)
class Timing:
    """Contrast timing: HU ranges (low, high); `minus_liver` is relative to the case's liver."""

    name: str
    liver: tuple[float, float]
    spleen_minus_liver: tuple[float, float]
    aorta: tuple[float, float]
    kidney: tuple[float, float]
    portal_minus_liver: tuple[float, float]
    hepatic_minus_liver: tuple[float, float]


@dataclass(frozen=True)
class Tumor:
    """A lesion labelled 2: `diameter_mm` is that of the ball of the same volume, before it is cut to the liver."""

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
        return self.a + self.muscle_mm + self.fat_side_mm

    def ring(self, grid: Grid, side_mm: float, front_mm: float) -> Array:
        """Rounded rectangle around the cavity, of shape (1, n_y, n_x): the body does not change along z."""
        ry, rx = np.float32(self.b + front_mm), np.float32(self.a + side_mm)
        y, x, p = np.abs(grid.y / ry), np.abs(grid.x / rx), np.float32(self.corner)
        f = ((y**p + x**p) ** (1 / p) - 1) * min(ry, rx)
        angle = np.arctan2(grid.y, grid.x)
        for k, (size, phase) in enumerate(self.outline):
            f = f + np.float32(size) * np.cos((k + 2) * angle + np.float32(phase))
        return f.astype(np.float32)

    def skin(self, grid: Grid) -> Array:
        return self.ring(
            grid, self.muscle_mm + self.fat_side_mm, self.muscle_mm + self.fat_front_mm
        )

    def muscle(self, grid: Grid) -> Array:
        return self.ring(grid, self.muscle_mm, self.muscle_mm)

    def cavity(self, grid: Grid) -> Array:
        """The cavity inside the wall; the muscles of the back bulge into it."""
        y = (grid.y + np.float32(1.04 * self.b)) / np.float32(0.3 * self.b)
        x = grid.x / np.float32(0.5 * self.a)
        back = (np.sqrt(y * y + x * x) - 1) * np.float32(0.3 * self.b)
        return smooth_max(self.ring(grid, 0, 0), -back, 10)

    def diaphragm(self, grid: Grid) -> Array:
        """Height of the diaphragm, mm, of shape (1, n_y, n_x): two domes, the right one higher."""
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


def liver_function(
    frame: Frame, organs: dict[str, Ellipsoid], columns: dict[str, Column], grid: Grid
) -> Array:
    """The liver: two lobes under the diaphragm and inside the wall, with the marks of its neighbours.

    Neighbours are taken out with a gap, so that no liver label lies on another organ.
    """
    f = smooth_min(organs["right lobe"](grid), organs["left lobe"](grid), 22)
    f = smooth_max(f, frame.cavity(grid) + 3, 10)
    f = smooth_max(f, (grid.z - frame.diaphragm(grid) + 5) * np.float32(0.8), 8)
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
    """Draw the organs that are lumpy ellipsoids; the liver's two lobes and the marks on it among them."""
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
    # The right lobe is drawn higher than the dome, which then cuts it: it fills the dome in every case.
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
    # The kidney lies behind the peritoneum: the liver rests on the fat around it and does not enclose it.
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
    """Join `targets` (n, 3) to a tree of tubes that starts at `root`; each branch is thinner than its parent."""
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
