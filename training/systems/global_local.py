"""The global and local pipeline in 3D: a liver model, a tumor model in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from training.presets import assumed
from training.systems.base import NetworkData, OnePhaseSystem, Step, is_window, reported, stated

if TYPE_CHECKING:
    from data.backend import keras
    from data.store import Store
    from training.validation import Validation

ALIGNED = 16  # rows and columns of a local crop are a multiple of it (models.segresnet_vae)
SMALLEST = 32
"""Rows and columns of the smallest local crop: TensorFlow 2.21's graph optimizer fails on crops of
16 voxels a side (a fused padding)."""
POSTPROCESSING = ("largest_liver", "fill_holes", "inside_liver", "tumor_contour")


@dataclass(frozen=True)
class GlobalLocal(OnePhaseSystem):
    """SegResNetVAE in 3D for the liver, then for the tumor in the liver's box.

    Assumed: the tumor's network trains, and keeps its best epoch, in the reference liver, since
    each network trains by itself; at prediction it sees the liver that the first one found.
    """

    SMALL: ClassVar[Mapping[str, Any]] = {
        "filters": 8,
        "latent": 64,
        "depth": 16,
        "epochs": 30,
        "tumor_epochs": 60,
        "batch_size": 1,
        "crops_per_case": 2,
        "learning_rate": 1e-3,
    }
    UNREAD: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "liver": (
            "tumor_window_hu",
            "tumor_epochs",
            "weak_label",
            "ratio_weight",
            "local_share",
            "tumor_share",
            "overlap",
            "postprocess",
        )
    }

    name: str = "global_local"
    document: str = "global and local pipeline"
    architecture: str = "segresnet_vae"
    networks: tuple[str, ...] = stated(
        ("liver", "tumor"), "text: global-view liver model, then local-view tumor model"
    )
    input: str = stated("global", "text: global view for the liver, local view for the tumor")
    window_hu: tuple[float, float] = reported((-150.0, 250.0), "window of the liver model")
    tumor_window_hu: tuple[float, float] = reported((-200.0, 250.0), "window of the tumor model")
    loss: str = reported("dice_focal", "Dice and focal loss, gamma 2")
    optimizer: str = reported("adam", "the optimizer")
    learning_rate: float = assumed(1e-4, "not given; as in the paper of SegResNetVAE")
    epochs: int = assumed(300, "not given; as in the paper of SegResNetVAE")
    tumor_epochs: int | None = assumed(
        None, "of the tumor network; not given; None: as many as of the liver's"
    )
    batch_size: int = assumed(1, "not given; as in the paper of SegResNetVAE")
    precision: str = assumed(
        "float32", "in bfloat16 TensorFlow 2.21 gave 3D convolutions gradients of NaN, CPU"
    )
    filters: int = reported(16, "initial filters of SegResNetVAE")
    dropout: float = reported(0.2, "dropout of SegResNetVAE")
    latent: int = reported(256, "latent variables of the VAE branch")
    vae_weight: float = assumed(
        0.0, "the reported code discards the branch's output; 0.1 uses it, as its paper does"
    )
    weak_label: str = stated(
        "clinical", "text: an indicator of tumor severity from clinical data; none: no penalty"
    )
    ratio_weight: float = reported(0.5, "lambda of the penalty on the tumor-to-liver ratio")
    depth: int = assumed(32, "slices of a crop; not given, a multiple of 16")
    local_share: float = assumed(
        0.5, "rows and columns of a local crop, as a share of the slice's; not given"
    )
    crops_per_case: int = assumed(4, "crops of each case in an epoch; not given")
    tumor_share: float = assumed(
        0.5, "of the local crops, drawn around a tumor voxel; not given, as is common"
    )
    overlap: float = assumed(0.5, "of the windows at prediction, blended by a Gaussian; not given")
    postprocess: tuple[str, ...] = reported(
        POSTPROCESSING, "in this order; the text names the contour"
    )

    def list_rules(self) -> dict[str, bool]:
        """Return by field whether its value is one that training can use.

        Network and VAE branch halve the depth four times.
        """
        whole = isinstance(self.tumor_epochs, int) and self.tumor_epochs > 0
        return {
            **super().list_rules(),
            "input": self.input == "global",
            "tumor_window_hu": is_window(self.tumor_window_hu),
            "dropout": 0 <= self.dropout < 1,
            "latent": self.latent > 0,
            "tumor_epochs": self.tumor_epochs is None or whole,
            "vae_weight": 0 <= self.vae_weight < math.inf,
            "weak_label": self.weak_label in ("clinical", "none"),
            "ratio_weight": 0 <= self.ratio_weight < math.inf,
            "depth": self.depth > 0 and self.depth % 16 == 0,
            "local_share": 0 < self.local_share <= 1,
            "crops_per_case": self.crops_per_case > 0,
            "tumor_share": 0 <= self.tumor_share <= 1,
            "overlap": 0 <= self.overlap < 1,
            "postprocess": set(self.postprocess) <= set(POSTPROCESSING),
        }

    def find_epochs(self, network: str, phase: str) -> int:
        """Return for how many epochs a network trains: `tumor_epochs` where it is given."""
        liver = network == "liver" or self.tumor_epochs is None
        return self.epochs if liver else int(self.tumor_epochs or 0)

    def describe_inputs(self, network: str, begun: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the view of a network; `load_data` cuts its crops."""
        if network == "liver":
            return {network: {"name": "global", "window_hu": list(self.window_hu)}}
        return {network: {"name": "local", "window_hu": list(self.tumor_window_hu)}}

    def find_shape(self, network: str, size: int) -> tuple[int, int, int]:
        """Return the crop of a network: for the liver whole slices, for the tumor less.

        Returns:
            (slices, rows, columns).
        """
        side = max(SMALLEST, round(size * self.local_share / ALIGNED) * ALIGNED)
        return (self.depth, size, size) if network == "liver" else (self.depth, side, side)

    def is_penalised(self, network: str) -> bool:
        """Return whether a network's loss has the penalty on the tumor-to-liver ratio."""
        reads_it = self.loss == "dice_focal" and self.weak_label != "none"
        return network == "tumor" and reads_it and self.ratio_weight > 0

    def list_loss_settings(self, network: str) -> dict[str, Any]:
        """Return the loss's settings: no penalty where there is no weak label."""
        weight = self.ratio_weight if self.is_penalised(network) else 0.0
        return {**self.settings(), "ratio_weight": weight}

    def list_options(self, network: str) -> dict[str, Any]:
        """Return filters and VAE branch of the network."""
        return {
            "filters": self.filters,
            "dropout": self.dropout,
            "latent": self.latent,
            "vae_weight": self.vae_weight,
        }

    def check_store(self, store: Store) -> None:
        """Check that every case holds a crop, and that clinical data allow a weak label.

        Raises:
            InputError: volumes smaller than the windows; a case without clinical data.
        """
        from data.command import InputError
        from data.volume_batches import check_depth

        check_depth(store, list(store.cases), self.depth)
        side = self.find_shape("tumor", store.size)[1]
        if side > store.size:
            raise InputError(
                f"{store.path}: slices of {store.size} px, the tumor's 3D window takes {side}"
            )
        if self.is_penalised("tumor"):
            fit_weak_label(store, store.cases_of("train"), store.cases_of("validation"))

    def load_data(self, step: Step, begun: Mapping[str, Any]) -> NetworkData:
        """Return what a network learns from: crops of every slice of the cases."""
        from data.volume_batches import (
            CropBatches,
            list_global_crops,
            list_local_crops,
            make_global_loader,
            make_local_loader,
        )

        store, network = step.run.store, step.network
        train, validation = store.cases_of("train"), store.cases_of("validation")
        crop = self.find_shape(network, store.size)
        options = {**self.describe_inputs(network, begun)[network], "crop": list(crop)}
        record: dict[str, Any] = {"inputs": {network: options}, "unit": "crops"}
        if network == "liver":
            # The liver is looked for everywhere, the tumor in the liver only.
            load = make_global_loader(store, options, self.depth)
            covering, cases = list_global_crops(store, validation, self.depth), train
        else:
            labels = None
            if self.is_penalised(network):
                labels, record["weak_label"] = fit_weak_label(store, train, validation)
            load = make_local_loader(store, options, crop, self.tumor_share, labels)
            covering = list_local_crops(store, validation, crop)
            cases = [case for case in train if store.cases[case]["liver_rows"]]
        # Crops are drawn anew to train, and cover the cases to compare epochs.
        drawn = [(case, number) for case in cases for number in range(self.crops_per_case)]
        return NetworkData(
            CropBatches(drawn, load, self.batch_size, seed=step.run.seed),
            CropBatches(covering, load, 1),
            record,
        )

    def validate(self, model: keras.Model, step: Step, data: NetworkData) -> Validation:
        """Return what the best weights reach on crops of the validation cases.

        Args:
            model, step, data: as of `System.validate`.
        """
        from training.validation import validate_crops

        return validate_crops(model, data.validation, step.network)


def fit_weak_label(
    store: Store, train: list[str], validation: list[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Fit the regression of the tumor-to-liver ratio on training cases.

    Args:
        store: holds the cases and their clinical rows.
        train: cases of the training set.
        validation: cases of the validation set.

    Returns:
        The weak label of every case; and what the record says: the regression, the labels, and the
        reference's ratios beside them.

    Raises:
        InputError: a case without a clinical row, or too few rows.
    """
    from data.clinical import compute_tumor_ratios, fit_weak_labels, read_clinical_rows

    cases = [*train, *validation]
    rows = read_clinical_rows(store, cases)
    patients = [store.patient(case) for case in train]
    regression = fit_weak_labels(rows[: len(train)], compute_tumor_ratios(store, train), patients)
    labels = {case: regression.predict(row) for case, row in zip(cases, rows, strict=True)}
    ratios = dict(zip(cases, map(float, compute_tumor_ratios(store, cases)), strict=True))
    return labels, {**regression.describe(), "labels": labels, "reference_ratios": ratios}
