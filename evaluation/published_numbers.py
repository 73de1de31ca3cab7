"""What the other documents published of their systems, on their own data and splits: to stand beside, not to compare.

Dice and shares as fractions of 1. ASSD: Elmenabawy et al. state no unit and not whether of slices or volumes; mm of
volumes is assumed. No number is the paper's (Gruber et al.): its Table 1 is not available.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """A system's published scores.

    Attributes:
        where: data and split.
        liver, tumor: by score ("dice", "assd_mm", "accuracy", "sensitivity", "iou").
    """

    where: str
    liver: dict[str, float] = field(default_factory=dict)
    tumor: dict[str, float] = field(default_factory=dict)


ELMENABAWY = "LiTS, 130 scans, 4-fold cross-validation"
DHANUSH = "LiTS and 3D-IRCADb: which of them, which split, and whether of liver or tumor is not said"
PIPELINE = "HCC-TACE-Seg, 80/20 by patient"

NUMBERS: dict[str, Published] = {
    "cdnn_alexnet": Published(ELMENABAWY, {"dice": 0.904, "assd_mm": 2.65}, {"dice": 0.624, "assd_mm": 4.98}),
    "cdnn_alexnet_plain": Published(ELMENABAWY, {"dice": 0.885, "assd_mm": 3.87}, {"dice": 0.597, "assd_mm": 5.32}),
    "cdnn_resnet18": Published(ELMENABAWY, {"dice": 0.842, "assd_mm": 3.65}, {"dice": 0.614, "assd_mm": 4.77}),
    "cdnn_resnet18_plain": Published(ELMENABAWY, {"dice": 0.823, "assd_mm": 4.21}, {"dice": 0.577, "assd_mm": 5.76}),
    "korabelnikov": Published(ELMENABAWY, {"dice": 0.887}, {"dice": 0.599}),
    "unet_dhanush": Published(DHANUSH, {"accuracy": 0.96, "sensitivity": 0.94, "dice": 0.76}),
    "segnet": Published(DHANUSH, {"accuracy": 0.98, "sensitivity": 0.97, "dice": 0.89}),
    "global_local": Published(
        PIPELINE,
        {"accuracy": 0.994, "dice": 0.942, "sensitivity": 0.955, "iou": 0.895},
        {"accuracy": 0.995, "dice": 0.570, "sensitivity": 0.801, "iou": 0.460},
    ),
}
"""By the label of the system as documented; a variant has none."""

UNCLEAR = ("unet_dhanush", "segnet")
"""Systems whose document does not say of which target its numbers are; they stand with the liver's."""
