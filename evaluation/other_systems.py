"""The systems of the other source documents as they are scored: a whole case in, its label map out.

Everything comes from RUN/systems/<label>, where `training.system` left settings, networks and records. Each system
decides as its document says, or as is assumed here: the most probable of three classes, or a probability above 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.segmentation import morphological_chan_vese

from data.backend import keras, load_network
from data.files import read_json
from data.inputs import Liver, find_liver_box, make_input
from data.scaling import window
from evaluation.names import NO_CONTOUR, TARGETS
from evaluation.postprocess import CONTOUR_STEPS, postprocess
from evaluation.systems import check_numbers, noted
from models import segresnet_vae, unpooling  # their layers must be known before a network is loaded
from models.inference import predict_slices
from models.sequential import label_map, mask_liver, mask_tumor
from models.sliding_window import predict_volume

HALF = 0.5  # assumed: the documents name no threshold
CONTOUR = "tumor_contour"
"""The last step of the global and local pipeline."""
LIVER_OPTIONS = ("largest_liver", "fill_holes")
"""Post-processing that the global and local pipeline applies to the liver before it looks for tumors in its box."""

CUSTOM_LAYERS = (segresnet_vae, unpooling)
UNREAD_SPACING = (1.0, 1.0, 1.0)  # mm; none of the options that the pipeline has reads it
Found = tuple[np.ndarray, np.ndarray]


def tumor_contour(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Move the tumors' outline by a morphological active contour on the image; the liver's stays.

    `skimage.segmentation.morphological_chan_vese`, `CONTOUR_STEPS` steps, of a voxel each, from the tumors as they are.
    What it takes for outside is the mean of everything else in the box, fat and other organs too, so it can spoil
    correct tumors, the more the larger the voxels; that is why systems are scored without it, too (`NO_CONTOUR`).

    Args:
        labels: (n_slices, rows, columns), 0 other, 1 liver, 2 tumor.
        image: CT windowed to [0, 1], the same shape.

    Returns:
        Labels of the same shape; what is no longer tumor is liver, and tumor may reach out of the liver.
    """
    tumor = labels == 2
    if not tumor.any() or tumor.all():
        return labels
    moved = morphological_chan_vese(image, CONTOUR_STEPS, init_level_set=tumor).astype(bool)
    return np.where(moved, 2, np.minimum(labels, 1)).astype(np.uint8)


@dataclass(frozen=True)
class OtherSystem:
    """A trained system.

    Attributes:
        name: in the tables.
        settings: as trained; `training.system_presets` says what they mean.
        records: content of `record.json` by target.
        networks: Keras models by target.
    """

    name: str
    settings: dict[str, Any]
    records: dict[str, dict[str, Any]]
    networks: dict[str, keras.Model]

    @property
    def weakness(self) -> str:
        """Where its networks find nothing on validation data, or rank no better than chance ("": nowhere)."""
        return noted(self.records)

    @property
    def failure(self) -> str:
        """Why its scores are no result ("": they are one): a network collapsed or diverged."""
        failed = [
            f"{target} {r['status']}: {r['why']}"
            for target, r in self.records.items()
            if r["status"] != "ok"
        ]
        return "; ".join(failed)

    @property
    def targets(self) -> tuple[str, ...]:
        """What it gives results for: both, none, or the liver alone where the tumor's network failed or is left out."""
        done = [target for target, record in self.records.items() if record["status"] == "ok"]
        found = (
            TARGETS if "classes" in done else tuple(target for target in TARGETS if target in done)
        )
        return found if found[:1] == TARGETS[:1] else ()

    @property
    def trained_with(self) -> str:
        """What its networks trained with, in words."""
        record = next(iter(self.records.values()))
        if "crop" in record:
            return (
                f"every slice of the training cases, {record['fit']['train_slices']} crops an epoch"
            )
        return f"{record['fit']['train_slices']} slices"

    def labels(self, hu: np.ndarray) -> np.ndarray:
        """Return the label map of a case: the first of what `found` returns."""
        return self.found(hu)[0]

    def found(self, hu: np.ndarray) -> Found:
        """Return the label map of a case and the liver by itself.

        Of a pair of networks that each see the whole slice, tumor counts inside the liver found alone (assumed; else
        the second network's mistakes would be liver, too). The liver by itself differs from the labels that are not 0
        where the pipeline's contour has left it.

        Args:
            hu: (n_slices, rows, columns), the networks' size in rows and columns.

        Returns:
            uint8 of the same shape, 0 other, 1 liver, 2 tumor; bool of the same shape.

        Raises:
            InputError: a probability is NaN.
        """
        if self.settings["architecture"] == "segresnet_vae":
            return self._pipeline(hu)
        if "classes" in self.networks:
            smoothed = (self._smoothed(found) for found in self._predicted("classes", hu))
            labels = np.stack([np.argmax(found, axis=-1) for found in smoothed]).astype(np.uint8)
            return labels, labels > 0
        if "tumor" not in self.targets:
            labels = np.stack(
                [mask_liver(liver[..., 0], HALF) for liver in self._predicted("liver", hu)]
            )
            return labels.astype(np.uint8), labels
        labels = np.zeros(hu.shape, np.uint8)
        pair = zip(self._predicted("liver", hu), self._predicted("tumor", hu), strict=True)
        for index, (liver, tumor) in enumerate(pair):
            inside = mask_tumor(tumor[..., 0], mask_liver(liver[..., 0], HALF))
            labels[index] = label_map(liver[..., 0], inside, HALF, HALF)
        return labels, labels > 0

    def _predicted(self, target: str, hu: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the probabilities of one slice after another, (rows, columns, classes)."""
        options = {
            "name": self.settings["input"],
            "window_hu": self.records[target]["window_hu"],
        }
        inputs = (make_input(slice_, options) for slice_ in hu)
        for index, probabilities in enumerate(predict_slices(self.networks[target], inputs)):
            check_numbers(self.name, f"slice {index}", probabilities)
            yield probabilities

    def _smoothed(self, classes: np.ndarray) -> np.ndarray:
        variance = self.settings.get("smoothing_variance", 0)
        if not variance:
            return classes
        return np.asarray(gaussian_filter(classes, np.sqrt(variance), axes=(0, 1)))

    def _pipeline(self, hu: np.ndarray) -> Found:
        """Global view, liver, local view, tumor: the global and local pipeline."""
        hu = np.asarray(hu, np.float32)
        livers = self._volume("liver", window(hu, *self.records["liver"]["window_hu"])) > HALF
        options = self.settings["postprocess"]
        labels = livers.astype(np.uint8)
        labels = postprocess(
            labels, livers, hu, UNREAD_SPACING, [name for name in options if name in LIVER_OPTIONS]
        )
        liver = labels > 0
        if "tumor" not in self.targets:
            return labels, liver
        box = find_liver_box(liver, tuple(self.records["tumor"]["crop"]))
        if box is None:
            return labels, liver
        options_of_view = {"name": "local", "window_hu": self.records["tumor"]["window_hu"]}
        view = make_input(hu[box], options_of_view, Liver(liver[box]))
        labels[box][self._volume("tumor", view) > HALF] = 2
        labels = postprocess(
            labels, liver, hu, UNREAD_SPACING, [name for name in options if name == "inside_liver"]
        )
        if CONTOUR in options:
            labels[box] = tumor_contour(
                labels[box], window(hu[box], *self.records["tumor"]["window_hu"])
            )
        return labels, liver

    def _volume(self, target: str, volume: np.ndarray) -> np.ndarray:
        network, crop = self.networks[target], self.records[target]["crop"]
        probabilities = predict_volume(
            network.predict_on_batch, volume, crop, self.settings["overlap"]
        )[..., 0]
        check_numbers(self.name, f"the {target} network", probabilities)
        return probabilities


def finished_names(run: Path) -> list[str]:
    """Return the names under which finished systems are scored, in the order of their folders' names.

    A name is a label of `training.system`; where the system ends with the contour, there is one without it, too.
    """
    found = []
    for path in sorted(run.glob("systems/*/system.json")):
        settings, label = read_json(path, ("settings",))["settings"], path.parent.name
        if all((path.parent / target / "record.json").is_file() for target in settings["targets"]):
            found += (
                [label, label + NO_CONTOUR]
                if CONTOUR in settings.get("postprocess", ())
                else [label]
            )
    return found


def unfinished_names(run: Path) -> list[str]:
    """Return the labels of the systems that `training.system` has begun and not finished."""
    finished = finished_names(run)
    begun = (path.parent.name for path in sorted(run.glob("systems/*/system.json")))
    return [label for label in begun if label not in finished]


def folder_of(run: Path, name: str) -> Path:
    """Return where the networks lie of a system with a name of `finished_names`."""
    folder = run / "systems" / name
    return folder if folder.is_dir() else folder.with_name(name.removesuffix(NO_CONTOUR))


def load_other(run: Path, name: str, liver_only: bool = False) -> OtherSystem:
    """Load a finished system of a run by a name of `finished_names`.

    Args:
        run: its run directory.
        name: of the system.
        liver_only: leave a tumor network out.

    Raises:
        InputError: a file of it is missing or damaged.
    """
    folder = folder_of(run, name)
    settings = read_json(folder / "system.json", ("settings",))["settings"]
    if folder.name != name:
        settings["postprocess"] = [step for step in settings["postprocess"] if step != CONTOUR]
    needed = ("status", "why", "window_hu", "fit")
    targets = [target for target in settings["targets"] if target != "tumor" or not liver_only]
    records = {target: read_json(folder / target / "record.json", needed) for target in targets}
    networks = {
        target: load_network(folder / target / "best.keras")
        for target, record in records.items()
        if record["fit"]["best_epoch"] > 0
    }
    if settings["architecture"] == "segresnet_vae":
        networks = {
            target: segresnet_vae.take_segmentation(network) for target, network in networks.items()
        }
    return OtherSystem(name, settings, records, networks)
