"""The systems that can be trained, by name.

Those of a document are one file, and one line here.

A new one is a frozen dataclass (`training.systems.base.System`) given to `register`.
"""

from __future__ import annotations

from collections.abc import Mapping

from data.command import InputError
from training.systems.base import System
from training.systems.dhanush import Segnet, UnetDhanush
from training.systems.elmenabawy import (
    CdnnAlexnet,
    CdnnAlexnetPlain,
    CdnnResnet18,
    CdnnResnet18Plain,
    Korabelnikov,
)
from training.systems.global_local import GlobalLocal
from training.systems.gruber import OneStep, Sequential
from training.systems.joint import Joint

SYSTEMS: dict[str, System] = {}
"""Every system by its name, as its document describes it; those of Table 1 first."""

VARIANTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "cdnn_alexnet_skips": ("cdnn_alexnet", ("upsampling=skips",)),
    "cdnn_alexnet_stride_32": ("cdnn_alexnet", ("upsampling=stride_32",)),
    "global_local_vae": ("global_local", ("vae_weight=0.1",)),
    "global_local_no_weak_label": ("global_local", ("weak_label=none",)),
    "global_local_vae_no_weak_label": ("global_local", ("vae_weight=0.1", "weak_label=none")),
}
"""Options of the systems that are measured beside them: label, and the system with its changes."""


def register(system: System) -> System:
    """Add a system to `SYSTEMS`."""
    SYSTEMS[system.name] = system
    return system


def find_system(name: str) -> tuple[System, tuple[str, ...]]:
    """Return a system, or that of a variant with its changes.

    An unknown name raises an InputError.
    """
    known, changes = VARIANTS.get(name, (name, ()))
    if known not in SYSTEMS:
        listed = ", ".join([*SYSTEMS, *VARIANTS])
        raise InputError(f"--name {name}: unknown system; there are {listed}")
    return SYSTEMS[known], changes


for _kind in (
    OneStep,
    Sequential,
    Joint,
    CdnnAlexnet,
    CdnnAlexnetPlain,
    CdnnResnet18,
    CdnnResnet18Plain,
    Korabelnikov,
    UnetDhanush,
    Segnet,
    GlobalLocal,
):
    register(_kind())
