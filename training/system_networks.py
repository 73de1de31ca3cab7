"""The networks of the other systems, and what they read: built and fed as their presets say."""

from __future__ import annotations

from typing import Any

from data.backend import keras
from data.batches import Load, SliceBatches, target_of
from data.clinical import compute_tumor_ratios, fit_weak_labels, read_clinical_rows
from data.enhance import INPUTS
from data.store import Store
from data.volume_batches import (
    CropBatches,
    Shape,
    global_crops,
    global_loader,
    local_crops,
    local_loader,
)
from models.alexnet import build_alexnet
from models.inference import BATCH_SIZE
from models.resnet18 import build_resnet18
from models.segnet import build_segnet
from models.segresnet_vae import build_segresnet_vae
from models.unet import build_unet
from training.losses import BalancedBinaryCrossentropy, BalancedCategoricalCrossentropy
from training.overlap_losses import DiceFocalRatio, DiceLoss
from training.presets import Preset
from training.system_presets import GlobalLocal, SliceSystem, System

ALIGNED = 16  # rows and columns of a local crop are a multiple of it (models.segresnet_vae)
SMALLEST = (
    32  # TensorFlow 2.21's graph optimizer fails on crops of 16 voxels a side (a fused padding)
)
Batches = tuple[SliceBatches, SliceBatches]


def build(system: Any, target: str, size: int, preset: Preset) -> keras.Model:
    """Return the network of a system for one of its targets, with weights drawn from Keras's seed.

    Args:
        system: of `training.system_presets`.
        target: one of its targets.
        size: rows and columns of the slices.
        preset: gives the U-Net its depth.
    """
    classes = 3 if target == "classes" else 1
    if system.architecture == "alexnet":
        width = system.filters / 64
        options = {
            "upsampling": system.upsampling,
            "variant": system.variant,
            "dropout": system.dropout,
        }
        return build_alexnet(size, 1, classes, width, name=system.name, **options)
    if system.architecture == "resnet18":
        return build_resnet18(size, 1, classes, system.filters, name=system.name)
    if system.architecture == "segnet":
        return build_segnet(size, 1, classes, system.filters, name=target)
    if system.architecture == "segresnet_vae":
        options = {
            "dropout": system.dropout,
            "latent": system.latent,
            "vae_weight": system.vae_weight,
        }
        return build_segresnet_vae(
            crop_shape(system, target, size), filters=system.filters, name=target, **options
        )
    widths = [system.filters * 2**level for level in range(preset.poolings + 1)]
    return build_unet(size, 1, classes, widths, dropout=system.dropout, name=target)


def crop_shape(system: GlobalLocal, target: str, size: int) -> Shape:
    """Return the crop of a network in 3D: whole slices for the liver, a part of them for the tumor."""
    side = (
        size
        if target == "liver"
        else max(SMALLEST, round(size * system.local_share / ALIGNED) * ALIGNED)
    )
    return system.depth, side, side


def loss_of(system: System, target: str) -> keras.losses.Loss:
    """Return a system's loss on logits.

    Raises:
        ValueError: a loss that is not known.
    """
    if system.loss == "cross_entropy":
        return (
            BalancedCategoricalCrossentropy()
            if target == "classes"
            else BalancedBinaryCrossentropy()
        )
    if system.loss == "dice":
        return DiceLoss()
    if system.loss == "dice_focal" and isinstance(system, GlobalLocal):
        return DiceFocalRatio(system.ratio_weight if penalised(system, target) else 0.0)
    raise ValueError(f"loss must be one of {', '.join(system.LOSSES)}, got {system.loss!r}")


def penalised(system: GlobalLocal, target: str) -> bool:
    """Whether a network's loss has the penalty on the tumor-to-liver ratio."""
    return target == "tumor" and system.weak_label != "none" and system.ratio_weight > 0


def slice_loader(
    store: Store, system: SliceSystem, target: str, window_hu: tuple[float, float]
) -> Load:
    """Load a slice as the system's network sees it, and its target."""
    prepare = INPUTS[system.input]

    def load(chosen: tuple[str, int]) -> tuple[Any, Any]:
        case, row = chosen
        return prepare(store.image(case)[row], window_hu), target_of(store.label(case)[row], target)

    return load


def slice_batches(store: Store, system: System, load: Load, seed: int) -> Batches:
    """Return the slices of the training and validation sets as batches."""
    train, validation = store.slices("train"), store.slices("validation")
    return SliceBatches(train, load, system.batch_size, seed=seed), SliceBatches(
        validation, load, BATCH_SIZE
    )


def crop_batches(
    store: Store, system: GlobalLocal, target: str, seed: int
) -> tuple[Batches, dict[str, Any]]:
    """Return crops of the training and validation cases, every slice of them, and what the record says of them."""
    train, validation = store.cases_of("train"), store.cases_of("validation")
    said: dict[str, Any] = {}
    if target == "liver":
        assert system.window_hu is not None
        load = global_loader(store, system.window_hu, system.depth)
        covering = global_crops(store, validation, system.depth)
        with_liver = train
    else:
        shape = crop_shape(system, target, store.size)
        weak = weak_label(store, train, validation, said) if penalised(system, target) else None
        load = local_loader(store, system.tumor_window_hu, shape, system.tumor_share, weak)
        covering = local_crops(store, validation, shape)
        with_liver = [case for case in train if store.cases[case]["liver_rows"]]
    drawn = [(case, number) for case in with_liver for number in range(system.crops_per_case)]
    batches = CropBatches(drawn, load, system.batch_size, seed=seed), CropBatches(covering, load, 1)
    return batches, said


def weak_label(
    store: Store, train: list[str], validation: list[str], said: dict[str, Any]
) -> dict[str, float]:
    """Fit the regression of the tumor-to-liver ratio on training cases, and return the weak label of every case.

    `said` gets what the record says: the regression, the labels, and the reference's ratios beside them.

    Raises:
        InputError: a case without a clinical row, or too few rows.
    """
    rows = read_clinical_rows(store, [*train, *validation])
    fitted = fit_weak_labels(
        rows[: len(train)],
        compute_tumor_ratios(store, train),
        [store.patient(case) for case in train],
    )
    labels = {
        case: fitted.predict(row) for case, row in zip([*train, *validation], rows, strict=True)
    }
    ratios = dict(zip(labels, map(float, compute_tumor_ratios(store, list(labels))), strict=True))
    said["weak_label"] = {**fitted.describe(), "labels": labels, "reference_ratios": ratios}
    return labels
