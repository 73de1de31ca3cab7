"""Trained systems as they are used: HU of a CT in, labels and probabilities out.

`Segmenter` serves every system. It is built from RUN/<system>/system.json (what it is) and a record
per network: how its input is made, thresholds chosen on validation data, and whether its scores are
a result. A system decides by

thresholds    the thresholds of its records, by a rule; of three classes also the most probable one
argmax        the most probable of three classes, smoothed where the settings say so
half          a probability above 0.5

Networks of slices are asked slice by slice. Those of volumes (`data.inputs.Input.volume`) are asked
by window: liver first, then tumor in the liver's box; post-processing between, the contour at the
end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.command import InputError
from data.files import read_json
from data.inputs import (
    INPUTS,
    ONE_SLICE,
    Liver,
    Options,
    Slices,
    find_liver_box,
    make_input,
    share_slices,
    stream_slices,
    take_slices,
)
from data.masks import find_median
from data.progress import track
from data.runs import TUMOR_CONTOUR, System, choose_phase, read_run, read_system
from data.scaling import window
from evaluation.names import ARGMAX, TARGETS
from evaluation.postprocess import move_tumor_contour, postprocess
from models.sequential import (
    find_most_probable,
    label_map,
    mask_liver,
    mask_tumor,
    split_classes,
)

if TYPE_CHECKING:
    from data.backend import keras
    from data.volumes import Volume

Probabilities = Iterator[tuple[np.ndarray, ...]]

THRESHOLDS, HALF = "thresholds", "half"
RULE_OF = {THRESHOLDS: "roc", ARGMAX: ARGMAX, HALF: "0.5"}
"""The rule by which a system decides on whole cases, by its decision."""
HALF_THRESHOLDS = {"0.5": 0.5}  # assumed: the other documents name no threshold
LIVER_OPTIONS = ("largest_liver", "fill_holes")
"""Post-processing of the liver, before tumors are looked for in its box."""
UNREAD_SPACING = (1.0, 1.0, 1.0)  # mm; none of the pipeline's own options reads it


@dataclass(frozen=True)
class Segmenter:
    """A trained system after a phase.

    Attributes:
        about: what `system.json` says of it.
        phase: of its training.
        size: rows and columns of the networks' slices.
        records: content of `record.json` by network: "classes", or "liver" and "tumor".
        networks: Keras models by the same names; one whose training saved none is missing.
        files: what it was loaded from: the system's own file, network and record by network.
    """

    about: System
    phase: str
    size: int
    records: dict[str, dict[str, Any]]
    networks: dict[str, keras.Model]
    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def system(self) -> str:
        """Name of the system."""
        return self.about.name

    @property
    def decision(self) -> str:
        """How it decides, a key of `RULE_OF`."""
        return self.about.decision

    @property
    def name(self) -> str:
        """`<system>_<phase>`; without the phase where a system has only one."""
        one_phase = len(self.about.phases) == 1
        return self.system if one_phase else f"{self.system}_{self.phase}"

    @property
    def rule(self) -> str:
        """The rule by which it decides on whole cases."""
        return RULE_OF[self.decision]

    @property
    def failure(self) -> str:
        """Why its scores, or those of its tumors, are no result; "" where they are one."""
        failed = [record for record in self.records.values() if record["status"] != "ok"]
        texts = [f"{record['target']} {record['status']}: {record['why']}" for record in failed]
        return "; ".join(dict.fromkeys(texts))

    @property
    def weakness(self) -> str:
        """Where its networks find nothing on validation data, or guess."""
        notes = [record["note"] for record in self.records.values() if record.get("note")]
        return "; ".join(dict.fromkeys(notes))

    @property
    def targets(self) -> tuple[str, ...]:
        """What it gives results for.

        The liver alone, where the tumor's network failed or was not loaded. A system that decides
        by thresholds then has none: they were chosen for both networks.
        """
        usable = [name for name, record in self.records.items() if record["status"] == "ok"]
        if "classes" in usable:
            return TARGETS
        if "liver" not in usable or (self.failure and self.decision == THRESHOLDS):
            return ()
        return TARGETS if "tumor" in usable else TARGETS[:1]

    @property
    def is_volumetric(self) -> bool:
        """Whether its networks see volumes, not slices."""
        first = next(iter(self.records))
        return INPUTS[self.read_options(first)["name"]].volume

    @property
    def needs_median(self) -> bool:
        """Whether the second network's input needs the median HU of the case's liver."""
        return "tumor" in self.records and (
            self.read_options("tumor").get("scaling") == "liver_median"
        )

    def get_thresholds(self, target: str) -> dict[str, float]:
        """Return the thresholds by rule for "liver" (s1) or "tumor" (s2)."""
        if self.decision != THRESHOLDS:
            return HALF_THRESHOLDS
        record = self.records["classes" if "classes" in self.records else target]
        thresholds: dict[str, float] = record["thresholds"][target]
        return thresholds

    def list_rules(self, target: str) -> dict[str, float | None]:
        """Return each rule's threshold for a target; the most probable class has none."""
        most_probable: dict[str, float | None] = {ARGMAX: None} if "classes" in self.records else {}
        return {**most_probable, **self.get_thresholds(target)}

    def check_usable(self, liver_only: bool = False) -> None:
        """Check that it gives results for liver and, unless `liver_only`, tumor.

        Raises:
            InputError: a network of it failed.
        """
        if not set(TARGETS[:1] if liver_only else TARGETS) <= set(self.targets):
            raise InputError(f"{self.about.folder}: {self.name} is not usable: {self.failure}")

    def check_numbers(self, where: str, *probabilities: np.ndarray) -> None:
        """Check that the probabilities that it gives somewhere are numbers.

        Raises:
            InputError: one is NaN, which no comparison with a threshold would show.
        """
        if any(np.isnan(values).any() for values in probabilities):
            raise InputError(f"{self.name}: a probability of {where} is NaN; train it again")

    # --- Probabilities, slice by slice ---

    def predict(self, all_slices: Slices, wanted: Slices) -> Probabilities:
        """Yield (liver or tumor, tumor) probabilities by slice, (rows, columns) float32.

        A pair loaded for the liver only yields (liver,). `wanted` are the slices to predict; if the
        second input needs the liver's median HU, the first network sees `all_slices` before the
        first answer.
        """
        if "classes" in self.networks:
            slices = wanted(self.read_options("classes"))
            return map(split_classes, self._predict_slices("classes", slices))
        if "tumor" not in self.records:
            return ((liver,) for liver in self._find_livers(wanted(self.read_options("liver"))))
        median_hu = self.find_median(all_slices)
        options = self.read_options("liver"), self.read_options("tumor")
        for_liver, for_tumor = share_slices(wanted, *options)
        return self._find_tumors(for_tumor, self._find_livers(for_liver), median_hu)

    def predict_case(self, slices: Slices) -> Probabilities:
        """Yield what `predict` does for every slice of a case, each network asked once.

        If the liver's median is needed first, liver probabilities are held (4 bytes a pixel).
        """
        if not self.needs_median:
            return self.predict(slices, slices)
        livers = list(self._find_livers(slices(self.read_options("liver"))))
        median_hu = self._find_median(slices(ONE_SLICE), livers)
        return self._find_tumors(slices(self.read_options("tumor")), livers, median_hu)

    def find_median(self, slices: Slices) -> float | None:
        """Return the median HU of the liver found in a case; None if none, or not needed."""
        if not self.needs_median:
            return None
        for_liver, for_median = share_slices(slices, self.read_options("liver"), ONE_SLICE)
        return self._find_median(for_median, self._find_livers(for_liver))

    def read_options(self, network: str) -> dict[str, Any]:
        """Return the options of a network's input (`data.inputs`)."""
        options: dict[str, Any] = self.records[network]["inputs"][network]
        return options

    @property
    def mask_threshold(self) -> float:
        """Threshold s1 of the mask M inside which tumor counts."""
        return float(self.read_options("tumor").get("mask_s1", HALF_THRESHOLDS["0.5"]))

    def _predict_slices(self, network: str, slices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the probabilities of each slice, (rows, columns, classes) float32."""
        options = self.read_options(network)
        return self._ask(network, (make_input(hu, options) for hu in slices))

    def _ask(self, network: str, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        from models.inference import predict_slices

        return predict_slices(self.networks[network], inputs)

    def _find_livers(self, slices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        return (liver[..., 0] for liver in self._predict_slices("liver", slices))

    def _find_median(
        self, slices: Iterable[np.ndarray], livers: Iterable[np.ndarray]
    ) -> float | None:
        masks = (mask_liver(liver, self.mask_threshold) for liver in livers)
        return find_median(zip(slices, masks, strict=True))

    def _find_tumors(
        self, slices: Iterable[np.ndarray], livers: Iterable[np.ndarray], median_hu: float | None
    ) -> Probabilities:
        """Yield the liver's probability and the tumor's, which is 0 outside the mask M."""
        options, s1 = self.read_options("tumor"), self.mask_threshold
        for_input, for_output = tee(livers)
        # An input that needs no liver is made without one, as its network was trained.
        needs_liver = INPUTS[options["name"]].needs_liver
        masks = (
            Liver(mask_liver(liver, s1), median_hu) if needs_liver else None for liver in for_input
        )
        inputs = (make_input(hu, options, liver) for hu, liver in zip(slices, masks, strict=True))
        for liver, tumor in zip(for_output, self._ask("tumor", inputs), strict=True):
            yield liver, mask_tumor(tumor[..., 0], mask_liver(liver, s1))

    # --- Labels ---

    def label_case(self, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a case's label map at the networks' size, and the liver by itself.

        The liver by itself is the liver before tumor was counted to it: tumor, or its contour, may
        lie outside.

        Args:
            hu: (n_slices, rows, columns) at the networks' size.

        Returns:
            uint8 of the same shape, 0 other, 1 liver, 2 tumor; bool of the same shape.

        Raises:
            InputError: a probability is NaN.
        """
        if self.is_volumetric:
            return self._label_volume(hu)
        labels, livers = np.zeros(hu.shape, np.uint8), np.zeros(hu.shape, bool)
        if self.decision == ARGMAX:
            slices = take_slices(hu)(self.read_options("classes"))
            for row, classes in enumerate(self._predict_slices("classes", slices)):
                self.check_numbers(f"slice {row}", classes)
                labels[row] = np.argmax(self._smooth(classes), axis=-1)
            return labels, labels > 0
        if self.targets == TARGETS[:1]:
            slices = take_slices(hu)(self.read_options("liver"))
            by_slice: Probabilities = ((liver,) for liver in self._find_livers(slices))
        else:
            by_slice = self.predict_case(take_slices(hu))
        for row, probabilities in enumerate(by_slice):
            self.check_numbers(f"slice {row}", *probabilities)
            labels[row], livers[row] = self.decide(probabilities, self.rule)
        return labels, livers

    def decide(
        self, probabilities: Sequence[np.ndarray], rule: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a slice's labels, uint8 0/1/2, and its liver by itself, bool."""
        if rule == ARGMAX:
            labels = find_most_probable(*probabilities).astype(np.uint8)
            return labels, labels > 0
        s1 = self.get_thresholds("liver")[rule]
        liver = np.asarray(mask_liver(probabilities[0], s1))
        if len(probabilities) == 1:
            return liver.astype(np.uint8), liver
        s2 = self.get_thresholds("tumor")[rule]
        return np.asarray(label_map(probabilities[0], probabilities[1], s1, s2)), liver

    def _smooth(self, classes: np.ndarray) -> np.ndarray:
        """Smooth the probabilities of a slice by a Gaussian of the settings' variance."""
        from scipy.ndimage import gaussian_filter

        variance = self.about.settings.get("smoothing_variance", 0)
        if not variance:
            return classes
        return np.asarray(gaussian_filter(classes, np.sqrt(variance), axes=(0, 1)))

    def _label_volume(self, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `label_case` does, of the global and local pipeline."""
        hu = np.asarray(hu, np.float32)
        options: Sequence[str] = self.about.settings["postprocess"]

        def _clean(labels: np.ndarray, liver: np.ndarray, names: Sequence[str]) -> np.ndarray:
            chosen = [name for name in options if name in names]
            return postprocess(labels, liver, hu, UNREAD_SPACING, chosen)

        # The liver, on the global view.
        found = self._predict_volume("liver", make_input(hu, self.read_options("liver"))) > 0.5
        labels = _clean(found.astype(np.uint8), found, LIVER_OPTIONS)
        liver = labels > 0
        box = None
        if "tumor" in self.targets:
            box = find_liver_box(liver, tuple(self.records["tumor"]["inputs"]["tumor"]["crop"]))
        if box is None:
            return labels, liver
        # The tumor, on the local view: the liver's box without what lies around the liver.
        view = make_input(hu[box], self.read_options("tumor"), Liver(liver[box]))
        labels[box][self._predict_volume("tumor", view) > 0.5] = 2
        labels = _clean(labels, liver, ("inside_liver",))
        if TUMOR_CONTOUR in options:
            image = window(hu[box], *self.read_options("tumor")["window_hu"])
            labels[box] = move_tumor_contour(labels[box], image)
        return labels, liver

    def _predict_volume(self, network: str, view: np.ndarray) -> np.ndarray:
        from models.sliding_window import predict_volume

        crop = self.read_options(network)["crop"]
        ask = self.networks[network].predict_on_batch
        probabilities = predict_volume(ask, view, crop, self.about.settings["overlap"])[..., 0]
        self.check_numbers(f"the {network} network", probabilities)
        return probabilities

    # --- A volume on its own grid ---

    def segment(
        self,
        volume: Volume,
        rule: str | None = None,
        liver_only: bool = False,
        maps: Sequence[np.ndarray] = (),
        livers: np.ndarray | None = None,
        progress: str = "",
    ) -> np.ndarray:
        """Return the label map of a volume on its own grid.

        A system with thresholds decides on that grid, slice by slice, holding few slices. Others
        decide at the networks' size: a voxel is what covers half of it or more, and memory holds
        every such slice (4 bytes a pixel).

        Args:
            volume: CT in HU.
            rule: of `list_rules`; None for the system's own.
            liver_only: give 1 where liver (or tumor) is and 0 elsewhere.
            maps: float32 arrays of the volume's shape, filled with probabilities of liver (tumor
                included) and tumor; only with thresholds.
            livers: bool array of that shape, filled with the liver by itself.
            progress: title of a progress bar; "" for none.

        Returns:
            uint8 (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.

        Raises:
            InputError: a probability is NaN; fewer slices than the window of a system in 3D.
        """
        depth = self.about.settings.get("depth", 0)
        if volume.n_slices < depth:
            raise InputError(
                f"{volume.path}: has {volume.n_slices} slices, the 3D window takes {depth}"
            )
        labels = np.zeros(volume.shape, np.uint8)
        by_slice = (
            self._decide_natively(volume, rule or self.rule, liver_only, maps)
            if self.decision == THRESHOLDS
            else self._decide_small(volume, liver_only)
        )
        if progress:
            by_slice = track(by_slice, progress, volume.n_slices, "slice")
        for index, (of_slice, liver) in enumerate(by_slice):
            labels[index] = of_slice
            if livers is not None:
                livers[index] = liver
        return labels

    def _decide_natively(
        self, volume: Volume, rule: str, liver_only: bool, maps: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield labels and liver of each slice, decided on the volume's grid."""
        from data.resize import restore_probability

        slices = take_volume_slices(volume, self.size)
        n_targets = 1 if liver_only and rule != ARGMAX else 2
        for index, probabilities in enumerate(self.predict(slices, slices)):
            self.check_numbers(f"slice {index}", *probabilities)
            native = [
                restore_probability(values[np.newaxis], volume.rows, volume.columns)[0]
                for values in probabilities[:n_targets]
            ]
            for values, probability in zip(maps, native, strict=False):
                values[index] = probability
            labels, liver = self.decide(native, rule)
            yield (labels > 0 if liver_only else labels), liver

    def _decide_small(
        self, volume: Volume, liver_only: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield labels and liver of each slice, decided at the networks' size."""
        from data.resize import restore_probability

        hu = np.stack(list(take_volume_slices(volume, self.size)(ONE_SLICE)))
        for labels, liver in zip(*self.label_case(hu), strict=True):
            areas = np.stack([liver, labels > 0, labels == 2]).astype(np.float32)
            native = restore_probability(areas, volume.rows, volume.columns) >= 0.5
            alone, every, tumor = native
            yield (alone if liver_only else np.where(tumor, 2, every)), alone


def load_segmenter(
    run: Path, name: str, phase: str | None = None, liver_only: bool = False
) -> Segmenter:
    """Load a trained system of a run.

    Args:
        run: its run directory.
        name: of the system; ending in `NO_CONTOUR`, the system without its contour.
        phase: of its training, or a point of a joint sweep; None for that of `choose_phase`.
        liver_only: leave the tumor's network out.

    Raises:
        InputError: a network of it is not finished; a file is missing or damaged.
    """
    phase = choose_phase(run, name, liver_only) if phase is None else phase
    about, size = read_system(run, name), int(read_run(run)["size"])
    records: dict[str, dict[str, Any]] = {}
    networks: dict[str, keras.Model] = {}
    files = {"system": [about.folder / "system.json"]}
    for network, path in about.list_records(phase, liver_only).items():
        if not path.is_file():
            raise InputError(f"{run}: phase {phase} of {name}, network {network}, is not finished")
        record = read_json(path, ("status", "why", "inputs", "fit"))
        record = {"target": network, **record, "network": network}
        files[network] = [path.with_name("best.keras"), path]
        records |= dict.fromkeys(TARGETS, record) if network == "nested" else {network: record}
        if record["fit"]["best_epoch"] > 0:  # else none was saved
            networks |= _load_networks(path.with_name("best.keras"), network, about)
    if liver_only:
        records, networks = (
            {key: value for key, value in content.items() if key != "tumor"}
            for content in (records, networks)
        )
    return Segmenter(about, phase, size, records, networks, files)


def _load_networks(path: Path, network: str, about: System) -> dict[str, keras.Model]:
    """Load a file of weights: one network, or the two of a nested one."""
    # The modules of layers that are not Keras' own must be known before a network is loaded.
    from data.backend import load_network
    from models import cascade, segresnet_vae, unpooling  # noqa: F401

    model = load_network(path)
    if network == "nested":
        return dict(zip(TARGETS, cascade.split_cascade(model), strict=True))
    if about.settings.get("architecture") == "segresnet_vae":
        model = segresnet_vae.take_segmentation(model)
    return {network: model}


def take_volume_slices(volume: Volume, size: int) -> Slices:
    """Return a volume's slices for the networks, (size, size) float32 in HU."""

    def read(options: Options) -> Iterator[np.ndarray]:
        from data.resize import resize_hu

        small = (hu for _, chunk in volume.chunks() for hu in resize_hu(chunk, size))
        return iter(stream_slices(small, options))

    return read
