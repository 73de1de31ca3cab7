"""Published scores of the other documents' systems: beside ours, not to compare.

Their data and splits are their own. Dice and shares are fractions of 1. ASSD: Elmenabawy et al.
state neither unit nor slices or volumes; mm of volumes is assumed. The paper's own (Gruber et al.,
Table 1) are not available.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """A system's published scores.

    Attributes:
        where: data and split.
        liver, tumor: by score ("dice", "assd_mm", "accuracy", "sensitivity", "iou").
        of: settings by which a system of another name is the published one, if it begins with
            ImageNet weights.
    """

    where: str
    liver: dict[str, float] = field(default_factory=dict)
    tumor: dict[str, float] = field(default_factory=dict)
    of: dict[str, Any] = field(default_factory=dict)


ELMENABAWY = "LiTS, 130 scans, 4-fold cross-validation"
DHANUSH = (
    "LiTS and 3D-IRCADb: which of them, which split, and whether of liver or tumor is not said"
)
PIPELINE = "HCC-TACE-Seg, 80/20 by patient"

_TRAINED = {"loss": "cross_entropy", "optimizer": "sgd", "filters": 64}
_ALEXNET = {"architecture": "alexnet", "upsampling": "dilated", **_TRAINED}
_RESNET18 = {"architecture": "resnet18", **_TRAINED}
_CDNN, _PLAIN = ({"input": name, "smoothing_variance": 0.0} for name in ("equalised", "windowed"))
_KORABELNIKOV = {"input": "windowed", "smoothing_variance": 0.25, "window_hu": [-2000.0, 2000.0]}


def _list_elmenabawy(liver: list[float], tumor: list[float], of: dict[str, Any]) -> Published:
    """Return a row of Elmenabawy et al.: each target's Dice, and ASSD if given."""
    first, second = (dict(zip(("dice", "assd_mm"), row, strict=False)) for row in (liver, tumor))
    return Published(ELMENABAWY, first, second, of)


NUMBERS: dict[str, Published] = {
    "cdnn_alexnet": _list_elmenabawy([0.904, 2.65], [0.624, 4.98], _ALEXNET | _CDNN),
    "cdnn_alexnet_plain": _list_elmenabawy([0.885, 3.87], [0.597, 5.32], _ALEXNET | _PLAIN),
    "cdnn_resnet18": _list_elmenabawy([0.842, 3.65], [0.614, 4.77], _RESNET18 | _CDNN),
    "cdnn_resnet18_plain": _list_elmenabawy([0.823, 4.21], [0.577, 5.76], _RESNET18 | _PLAIN),
    "korabelnikov": _list_elmenabawy([0.887], [0.599], _ALEXNET | _KORABELNIKOV),
    "unet_dhanush": Published(DHANUSH, {"accuracy": 0.96, "sensitivity": 0.94, "dice": 0.76}),
    "segnet": Published(DHANUSH, {"accuracy": 0.98, "sensitivity": 0.97, "dice": 0.89}),
    "global_local": Published(
        PIPELINE,
        {"accuracy": 0.994, "dice": 0.942, "sensitivity": 0.955, "iou": 0.895},
        {"accuracy": 0.995, "dice": 0.570, "sensitivity": 0.801, "iou": 0.460},
    ),
}
"""By the name of the system as documented; a variant has none."""

HEADING = "published, other split"
"""What stands above these numbers."""
UNCLEAR = ("unet_dhanush", "segnet")
"""Systems whose document does not say of which target its numbers are; shown with the liver's."""


def write_published_heading(synthetic: bool) -> str:
    """Return the heading of these numbers; beside a phantom: they are of real CT."""
    return f"{HEADING}, real CT" if synthetic else HEADING


def find_published(system: str, settings: Mapping[str, Any] | None) -> Published | None:
    """Return what is published of a documented system, or of one begun and built so."""
    if system in NUMBERS:
        return NUMBERS[system]
    if not settings or not settings.get("weights_sha256"):
        return None
    for numbers in NUMBERS.values():
        if numbers.of and all(settings.get(key) == value for key, value in numbers.of.items()):
            return numbers
    return None
