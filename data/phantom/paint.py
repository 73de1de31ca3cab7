"""Paint a synthetic patient on a grid: HU with partial volume, and labels.

A voxel has the label of its centre.
"""

from __future__ import annotations

import numpy as np

from data.phantom.patient import Frame, Patient, Tumor, shape_liver
from data.phantom.shapes import Array, Box, Grid, Shape, coverage

LIVER, TUMOR = 1, 2
RIB_PITCH_MM = 27.0
VERTEBRA_PITCH_MM = 33.0


class Canvas:
    """The HU of one grid, (n_slices, height, width) float32, to lay shapes on."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.hu = np.full(grid.shape, -1000, dtype=np.float32)

    def blend(self, box: Box, alpha: Array, hu: float | Array) -> None:
        """Mix HU into the voxels of a box.

        Args:
            box: of the grid.
            alpha: weight, 0 to 1, ndarray of the box's shape.
            hu: a number, or ndarray of that shape.
        """
        view = self.hu[box]
        view += alpha * (np.asarray(hu, dtype=np.float32) - view)

    def paint(self, shape: Shape, hu: float, shrink_mm: float = 0.0) -> None:
        """Fill a shape.

        Args:
            shape, hu: what to fill, and with what.
            shrink_mm: by how much it is smaller all around.
        """
        box = self.grid.box(*shape.bounds())
        if box is not None:
            part = self.grid.part(box)
            self.blend(box, coverage(shape(part) + np.float32(shrink_mm), part), hu)


def paint_patient(patient: Patient, grid: Grid) -> tuple[Array, Array]:
    """Return HU without noise, float32, and labels, uint8, both of the grid's shape."""
    canvas = Canvas(grid)
    paint_wall(canvas, patient)
    paint_chest(canvas, patient)
    paint_ribs(canvas, patient)
    paint_spine(canvas, patient)
    paint_abdomen(canvas, patient)
    paint_kidneys(canvas, patient)
    paint_stomach(canvas, patient)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    paint_liver(canvas, patient, labels)
    if "gallbladder" in patient.organs:
        canvas.paint(patient.organs["gallbladder"], 60.0)
        canvas.paint(patient.organs["gallbladder"], patient.hu["gallbladder"], 1.5)
    return canvas.hu, labels


def paint_wall(canvas: Canvas, patient: Patient) -> None:
    """Paint skin, the fat below it, muscle and the fat of the cavity."""
    frame, grid, hu = patient.frame, canvas.grid, patient.hu
    skin, muscle, cavity = frame.skin(grid), frame.muscle(grid), frame.cavity(grid)
    section = np.full(skin.shape, -1000, dtype=np.float32)
    for f, value in (
        (skin, 20.0),
        (skin + 2, hu["fat"]),
        (muscle, hu["muscle"]),
        (cavity, hu["muscle"]),
        (cavity + 2, hu["fat"]),
    ):
        section += coverage(f, grid) * (np.float32(value) - section)
    canvas.hu[:] = section
    # Strands in the fat and in the muscle: a little texture wherever there is body.
    canvas.hu += coverage(skin + 4, grid) * 4 * patient.texture(grid)


def paint_chest(canvas: Canvas, patient: Patient) -> None:
    """Paint the lungs above the diaphragm, with vessels, and the heart between them."""
    frame, grid = patient.frame, canvas.grid
    lowest = float(frame.left_dome_mm) - 150
    box = grid.box((lowest, -frame.b, -frame.a), (1e4, frame.b, frame.a))
    if box is None:
        return
    part = grid.part(box)
    wall = frame.cavity(part)
    under = frame.diaphragm(part) - part.z
    middle = patient.columns["mediastinum"](part)
    sheet = coverage(np.maximum(wall + 1, np.maximum(np.abs(under - 1) - 3, -middle - 4)), part)
    lung = coverage(np.maximum(np.maximum(wall + 3, under), -middle), part)
    canvas.blend(box, sheet, patient.hu["muscle"])
    vessels = np.maximum(patient.fine_texture(part) - 1.2, 0) * 500
    canvas.blend(box, lung, patient.hu["lung"] + vessels)
    above = coverage(np.maximum(patient.organs["heart"](part), under - 2), part)
    canvas.blend(box, above, patient.hu["heart"])


def shape_ribs(frame: Frame, z: Array, y: Array, x: Array, wall: Array) -> Array:
    """Return the implicit function of the ribs, negative inside.

    They run in the wall and sink from back to front; low ones are short.

    Args:
        frame: of the body.
        z, y, x: coordinates in mm, ndarrays that broadcast.
        wall: distance in mm from the middle of the wall.
    """
    along = y + np.float32(frame.b)
    height = (z + np.float32(0.55) * along - np.float32(frame.rib_mm - 110)) / np.float32(
        RIB_PITCH_MM
    )
    number = np.round(height)
    off = (height - number) * np.float32(0.88 * RIB_PITCH_MM)
    f = (np.sqrt((wall / 4) ** 2 + (off / 6.5) ** 2) - 1) * 4
    front = np.minimum((-0.4 + 0.35 * number) * np.float32(frame.b), np.float32(0.72 * frame.b))
    f = np.maximum(f, y - front)
    return np.where((number < 0) | (np.abs(x) < 24), np.float32(50), f)


def paint_ribs(canvas: Canvas, patient: Patient) -> None:
    """Paint the ribs on the pixels of the wall only; a dense shell around marrow."""
    frame, grid = patient.frame, canvas.grid
    wall = frame.ring(grid, 0, 0)[0] - np.float32(0.5 * frame.muscle_mm)
    rows, columns = np.nonzero(np.abs(wall) < 9)
    y, x = grid.y.ravel()[rows], grid.x.ravel()[columns]
    f = shape_ribs(frame, grid.z[:, :, 0], y, x, wall[rows, columns])
    # The pixels are a list here, without neighbours to take a slope from: a mean width must do.
    width = np.float32(0.6 * grid.voxel_mm[1] + 0.4 * grid.voxel_mm[0] * grid.overlap)
    view = canvas.hu[:, rows, columns]
    for shrink, value in ((0.0, 420.0), (1.8, patient.hu["bone"])):
        view += np.clip(0.5 - (f + np.float32(shrink)) / width, 0, 1) * (np.float32(value) - view)
    canvas.hu[:, rows, columns] = view


def paint_spine(canvas: Canvas, patient: Patient) -> None:
    """Paint the vertebrae with their discs, the arch around the canal, the processes."""
    grid, columns, bone = canvas.grid, patient.columns, patient.hu["bone"]
    phase = (grid.z + np.float32(patient.frame.rib_mm)) / np.float32(VERTEBRA_PITCH_MM)
    off = np.abs(phase - np.round(phase)) * np.float32(VERTEBRA_PITCH_MM)
    # Discs and processes alternate along the spine, one pair a vertebra.
    disc = np.clip((5 - off) / np.float32(grid.voxel_mm[0]) + 0.5, 0, 1)
    processes = np.clip((off - 9) / 4, 0, 1)
    for name, thick, hu in (("transverse", processes, 260.0), ("spinous", processes, 280.0)):
        box = grid.box(*columns[name].bounds())
        if box is not None:
            part = grid.part(box)
            canvas.blend(box, coverage(columns[name](part), part) * thick[box[0]], hu)
    canvas.paint(columns["arch"], 300.0)
    canvas.paint(columns["canal"], 30.0)
    box = grid.box(*columns["vertebra"].bounds())
    if box is not None:
        part = grid.part(box)
        f = columns["vertebra"](part)
        shell = coverage(f + 2, part)
        inside = 380 + shell * np.float32(bone - 380)
        canvas.blend(box, coverage(f, part), inside + disc[box[0]] * (95 - inside))


def paint_abdomen(canvas: Canvas, patient: Patient) -> None:
    """Paint psoas, bowel, pancreas, the great vessels and the spleen."""
    hu, columns = patient.hu, patient.columns
    for name in ("psoas R", "psoas L"):
        canvas.paint(columns[name], hu["muscle"])
    for loop, content in patient.bowel:
        canvas.paint(loop, 75.0)
        canvas.paint(loop, content, 2.5)
    for name in ("colon R", "colon L"):
        canvas.paint(columns[name], 65.0)
        canvas.paint(columns[name], -40.0, 3.0)
        canvas.paint(columns[name], -650.0, 9.0)
    for piece in patient.pancreas:
        canvas.paint(piece, hu["pancreas"])
    canvas.paint(patient.portal[0], hu["portal"])
    canvas.paint(columns["vena cava"], hu["vena cava"])
    canvas.paint(columns["aorta"], hu["aorta"])
    paint_under_wall(canvas, patient, patient.organs["spleen"], hu["spleen"])


def paint_under_wall(canvas: Canvas, patient: Patient, organ: Shape, hu: float) -> None:
    """Paint an organ as far as the body wall and the diaphragm let it reach.

    Args:
        canvas, patient: to paint on, and who is painted.
        organ, hu: the organ's shape and its attenuation.
    """
    box = canvas.grid.box(*organ.bounds())
    if box is None:
        return
    part, frame = canvas.grid.part(box), patient.frame
    f = np.maximum(organ(part), frame.cavity(part) + 3)
    f = np.maximum(f, part.z - frame.diaphragm(part) + 5)
    canvas.blend(box, coverage(f, part), hu)


def paint_kidneys(canvas: Canvas, patient: Patient) -> None:
    """Paint the kidneys, whose sinus opens to the midline, and their cysts."""
    for name, sign in (("kidney R", 1), ("kidney L", -1)):
        kidney = patient.organs[name]
        canvas.paint(kidney, patient.hu["kidney"])
        canvas.paint(kidney, patient.hu["medulla"], 7.0)
        (z, y, x), (rz, ry, rx) = kidney.center, kidney.radii
        sinus = type(kidney)(
            (z, y + 0.15 * ry, x - sign * 0.6 * rx), (0.4 * rz, 0.3 * ry, 0.55 * rx)
        )
        canvas.paint(sinus, -60.0)
        pelvis = type(kidney)(
            (z, y + 0.15 * ry, x - sign * 0.7 * rx), (0.22 * rz, 0.2 * ry, 0.3 * rx)
        )
        canvas.paint(pelvis, 25.0)
    for cyst in patient.kidney_cysts:
        canvas.paint(cyst, patient.hu["cyst"])


def paint_stomach(canvas: Canvas, patient: Patient) -> None:
    """Paint the stomach's wall, content and air; the patient is supine."""
    parts = [patient.organs[f"stomach {k}"] for k in range(3)]
    frame = patient.frame
    for shrink, air in ((0.0, False), (4.0, False), (5.0, True)):
        for stomach in parts:
            box = canvas.grid.box(*stomach.bounds())
            if box is None:
                continue
            part = canvas.grid.part(box)
            f = np.maximum(
                stomach(part), np.maximum(frame.cavity(part), part.z - frame.diaphragm(part)) + 4
            )
            f = f + np.float32(shrink)
            if air:
                level = np.float32((0.3 + 0.3 * patient.hu["stomach air"]) * frame.b)
                f = np.maximum(f, level - part.y)
            hu = -950.0 if air else 75.0 if shrink == 0 else patient.hu["stomach"]
            canvas.blend(box, coverage(f, part), hu)


def paint_liver(canvas: Canvas, patient: Patient, labels: Array) -> None:
    """Paint parenchyma, vessels, cysts and tumors, and label them.

    Cysts and vessels inside count as liver, as in LiTS.

    Args:
        canvas: to paint on.
        patient: who is painted.
        labels: ndarray of the canvas's shape, uint8; filled in.
    """
    low, high = patient.liver_extent_mm
    a, b = patient.frame.a, patient.frame.b
    box = canvas.grid.box((low - 6, -b, -a), (high + 6, b, a))
    if box is None:
        return
    part = canvas.grid.part(box)
    f = shape_liver(patient.frame, patient.organs, patient.columns, part)
    # On a canvas of its own, so that vessels and tumors end at the liver's surface.
    inside = Canvas(part)
    inside.hu[:] = (
        patient.hu["liver"] + 2.5 * patient.texture(part) + 1.5 * patient.fine_texture(part)
    )
    for segment in patient.portal[1:]:
        inside.paint(segment, patient.hu["portal"])
    for segment in patient.hepatic:
        inside.paint(segment, patient.hu["hepatic"])
    for cyst in patient.liver_cysts:
        inside.paint(cyst, patient.hu["cyst"])
    view = labels[box]
    view[f < 0] = LIVER
    for tumor in patient.tumors:
        paint_tumor(inside, patient, tumor, view)
    canvas.blend(box, coverage(f, part), inside.hu)


def paint_tumor(canvas: Canvas, patient: Patient, tumor: Tumor, labels: Array) -> None:
    """Paint one tumor; the core of a large one has a little more contrast.

    Args:
        canvas, patient, labels: as of `paint_liver`.
        tumor: what is painted.
    """
    box = canvas.grid.box(*tumor.shape.bounds())
    if box is None:
        return
    part = canvas.grid.part(box)
    f = tumor.shape(part)
    depth = np.clip(-f / np.float32(tumor.diameter_mm / 2), 0, 1)
    hu = patient.hu["liver"] + np.float32(tumor.contrast_hu) * (
        np.float32(0.9) + np.float32(0.2) * depth
    )
    if tumor.kind == "rim":
        core = coverage(f + np.float32(tumor.rim_mm), part)
        ring = np.float32(patient.hu["liver"] + tumor.rim_hu)
        hu = ring + core * (hu - ring)
    canvas.blend(box, coverage(f, part, tumor.soft_mm), hu)
    view = labels[box]
    view[(f < 0) & (view > 0)] = TUMOR
