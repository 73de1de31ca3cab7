"""Trained systems as they are used: HU of a CT in, labels and probabilities of its liver and tumor out.

One `Segmenter` serves every system. It is built from RUN/<system>/system.json, which says what the
system is, and from the record of each network, which says how its input is made, the thresholds
that validation data chose and whether its scores are a result. A system decides by one of:

thresholds    the thresholds of its records, by a rule; of three classes also the most probable one
argmax        the most probable of three classes, smoothed where the settings say so
half          a probability above 0.5

A network of whole slices is asked slice by slice. One of volumes (input `volume`) is asked window by
window: the liver first, then the tumor in the liver's box, with post-processing and contour between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.command import InputError
from data.files import read_json
from data.inputs import INPUTS, Liver, find_liver_box, make_input, read_slices, stream_slices
from data.masks import find_median
from data.progress import track
from data.scaling import window
from evaluation.names import ARGMAX, NO_CONTOUR, PHASES, SYSTEMS, TARGETS
from evaluation.postprocess import TUMOR_CONTOUR, move_tumor_contour, postprocess
from models.sequential import (
    label_map,
    mask_liver,
    mask_tumor,
    split_classes,
)

if TYPE_CHECKING:
    from data.backend import keras
    from data.volumes import Volume

Slices = Callable[[Mapping[str, Any]], Iterator[np.ndarray]]
"""The slices to predict, float32 HU: given an input's options, what that input reads of each slice."""
Probabilities = Iterator[tuple[np.ndarray, ...]]

THRESHOLDS, HALF = "thresholds", "half"
RULE_OF = {THRESHOLDS: "roc", ARGMAX: ARGMAX, HALF: "0.5"}
"""The rule by which a system decides on whole cases, by its decision."""
HALF_THRESHOLDS = {"0.5": 0.5}  # assumed: the other documents name no threshold
ONE_SLICE = {"name": "windowed"}
"""Options of an input that reads a slice without its neighbours."""
LIVER_OPTIONS = ("largest_liver", "fill_holes")
"""Post-processing of the liver, before tumors are looked for in its box."""
UNREAD_SPACING = (1.0, 1.0, 1.0)  # mm; none of the pipeline's own options reads it


@dataclass(frozen=True)
class System:
    """What `system.json` says of a system.

    Attributes:
        folder: RUN/<system>.
        name: of its folder; with `NO_CONTOUR` at the end where its contour is left out.
        kind: name under which it is registered for training.
        title: for readers.
        document: where it is described.
        networks: ("classes",), ("liver", "tumor") or ("nested",).
        phases: of its training, in order.
        decision: a key of `RULE_OF`.
        table1: whether it stands in Table 1.
        settings: as trained.
    """

    folder: Path
    name: str
    kind: str
    title: str
    document: str
    networks: tuple[str, ...]
    phases: tuple[str, ...]
    decision: str
    table1: bool
    settings: dict[str, Any]

    def list_networks(self, liver_only: bool = False) -> tuple[str, ...]:
        """Return the networks that are needed; for the liver alone, the first one."""
        return self.networks[:1] if liver_only else self.networks

    def list_records(self, phase: str, liver_only: bool = False) -> dict[str, Path]:
        """Return where the record of each needed network lies, by network."""
        networks = self.list_networks(liver_only)
        return {name: self.folder / name / phase / "record.json" for name in networks}

    def is_finished(self, phase: str, liver_only: bool = False) -> bool:
        """Return whether the needed networks have finished a phase."""
        return all(path.is_file() for path in self.list_records(phase, liver_only).values())


def read_run(run: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        InputError: not a run directory.
    """
    if not (run / "run.json").is_file():
        raise InputError(f"{run}: not a run directory (no run.json in it)")
    content: dict[str, Any] = read_json(run / "run.json", ("size", "synthetic"))
    return content


def read_system(run: Path, name: str) -> System:
    """Read what a system of a run is.

    Args:
        run: its run directory.
        name: of the system; ending in `NO_CONTOUR`, the system without its contour.

    Raises:
        InputError: the run has no such system, or its file is damaged.
    """
    folder = run / name
    without_contour = not folder.is_dir() and name.endswith(NO_CONTOUR)
    if without_contour:
        folder = run / name.removesuffix(NO_CONTOUR)
    keys = ("kind", "title", "document", "networks", "phases", "decision", "table1", "settings")
    content = read_json(folder / "system.json", keys)
    settings, title = content["settings"], content["title"]
    if without_contour:
        steps = [step for step in settings["postprocess"] if step != TUMOR_CONTOUR]
        settings, title = {**settings, "postprocess": steps}, f"{title}{NO_CONTOUR}"
    return System(
        folder,
        name,
        content["kind"],
        title,
        content["document"],
        tuple(content["networks"]),
        tuple(content["phases"]),
        content["decision"],
        content["table1"],
        settings,
    )


def list_systems(run: Path) -> list[System]:
    """Return the systems that were begun in a run, the paper's first, the others by name.

    One that ends with a contour is followed by itself without it.
    """
    names = [path.parent.name for path in run.glob("*/system.json")]
    order = {name: rank for rank, name in enumerate(SYSTEMS)}
    systems = []
    for name in sorted(names, key=lambda name: (order.get(name, len(order)), name)):
        systems.append(read_system(run, name))
        if TUMOR_CONTOUR in systems[-1].settings.get("postprocess", ()):
            systems.append(read_system(run, name + NO_CONTOUR))
    return systems


def list_phases(run: Path, liver_only: bool = False) -> list[tuple[str, str]]:
    """Return (system, phase) of all that is finished, phase by phase; none is no error."""
    systems = list_systems(run)
    phases = dict.fromkeys([*PHASES, *(phase for system in systems for phase in system.phases)])
    return [
        (system.name, phase)
        for phase in phases
        for system in systems
        if phase in system.phases and system.is_finished(phase, liver_only)
    ]


def finished_systems(run: Path, liver_only: bool = False) -> list[tuple[str, str]]:
    """Return (system, phase) of all that is finished (`list_phases`), at least one.

    Raises:
        InputError: not a run directory, or nothing is finished.
    """
    read_run(run)
    finished = list_phases(run, liver_only)
    if not finished:
        raise InputError(
            f"{run}: no system is finished (python -m training.one_step, liver and tumor, or system)"
        )
    return finished


def list_sweep_points(run: Path) -> list[tuple[str, str]]:
    """Return (system, phase) of the finished points of joint sweeps.

    Controls with a hard mask come first, then those from the pair and from scratch, by ratio.
    """

    def rank(folder: Path) -> tuple[bool, str, float]:
        record = read_json(folder / "record.json", ("mask", "start", "alpha", "beta"))
        ratio = record["beta"] / max(record["alpha"], 1e-12)
        return record["mask"] != "hard", record["start"], ratio

    folders = [path.parent for path in run.glob("*/nested/sweep_*/record.json")]
    return [(folder.parent.parent.name, folder.name) for folder in sorted(folders, key=rank)]


def choose_phase(run: Path, name: str, liver_only: bool = False) -> str:
    """Return the finished phase of the higher validation IoU (rule roc).

    The IoU is that of the tumor; with `liver_only`, that of the liver.

    Raises:
        InputError: no phase of the system is finished.
    """
    finished = finished_systems(run, liver_only)
    phases = [phase for system, phase in finished if system == name]
    if not phases:
        names = ", ".join(dict.fromkeys(system for system, _ in finished))
        raise InputError(f"{run}: {name} is not finished; finished there: {names}")
    if len(phases) == 1:
        return phases[0]
    system = read_system(run, name)

    def read_iou(phase: str) -> float:
        paths = system.list_records(phase, liver_only).values()
        records = [read_json(path, ("status", "validation")) for path in paths]
        if any(record["status"] != "ok" for record in records):
            return -1.0
        validation = records[-1]["validation"]["liver" if liver_only else "tumor"]
        return float(validation["iou_at_roc"])

    return max(phases, key=read_iou)


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
    def title(self) -> str:
        """Name of the system for readers."""
        return self.about.title

    @property
    def decision(self) -> str:
        """How it decides, a key of `RULE_OF`."""
        return self.about.decision

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the system."""
        return self.about.settings

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
        """Where its networks find nothing on validation data, or are no better than chance."""
        notes = [record["note"] for record in self.records.values() if record.get("note")]
        return "; ".join(dict.fromkeys(notes))

    @property
    def targets(self) -> tuple[str, ...]:
        """What it gives results for.

        Where the tumor's network failed, or was not loaded, it is the liver alone. A system that
        decides by thresholds then has no result: they were chosen for both of its networks.
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

    def thresholds(self, target: str) -> dict[str, float]:
        """Return the thresholds by rule for "liver" (s1) or "tumor" (s2)."""
        if self.decision != THRESHOLDS:
            return HALF_THRESHOLDS
        record = self.records["classes" if "classes" in self.records else target]
        thresholds: dict[str, float] = record["thresholds"][target]
        return thresholds

    def rules(self, target: str) -> dict[str, float | None]:
        """Return the threshold of each rule of a target; the most probable class has none."""
        most_probable: dict[str, float | None] = {ARGMAX: None} if "classes" in self.records else {}
        return {**most_probable, **self.thresholds(target)}

    def check_usable(self, liver_only: bool = False) -> None:
        """Check that it gives results for liver and tumor; with `liver_only`, for the liver.

        Raises:
            InputError: a network of it failed.
        """
        if not set(TARGETS[:1] if liver_only else TARGETS) <= set(self.targets):
            raise InputError(f"{self.about.folder}: {self.name} is not usable: {self.failure}")

    # --- Probabilities, slice by slice ---

    def probabilities(self, all_slices: Slices, wanted: Slices) -> Probabilities:
        """Yield (liver or tumor, tumor) probabilities, each (rows, columns) float32, by slice.

        Loaded for the liver only, a pair yields (liver,).

        Args:
            all_slices: every slice of the case. Where the second input needs the median HU of the
                liver, the first network looks at them before the first answer.
            wanted: the slices to predict.
        """
        if "classes" in self.networks:
            return map(split_classes, self._predict_slices("classes", wanted))
        if "tumor" not in self.records:
            return ((liver,) for liver in self._find_livers(wanted))
        return self._find_pairs(wanted, None, self.find_median(all_slices))

    def of_whole_case(self, slices: Slices) -> Probabilities:
        """Yield what `probabilities` does for every slice of a case, each network asked once.

        Where the second input needs the liver's median first, memory holds the liver probabilities
        of the case (4 bytes a pixel).
        """
        if not self.needs_median:
            return self.probabilities(slices, slices)
        livers = list(self._find_livers(slices))
        s1 = self.mask_threshold
        masked = (
            (hu, mask_liver(liver, s1)) for hu, liver in zip(slices(ONE_SLICE), livers, strict=True)
        )
        return self._find_pairs(slices, livers, find_median(masked))

    def find_median(self, all_slices: Slices) -> float | None:
        """Return the median HU of the liver that the first network finds in a case.

        None where none is found, and where the second input does not need it.
        """
        if not self.needs_median:
            return None
        s1 = self.mask_threshold
        for_network, for_median = _share_slices(all_slices, self.read_options("liver"), ONE_SLICE)
        livers = self._find_livers(lambda options: for_network)
        return find_median(
            (hu, mask_liver(liver, s1)) for hu, liver in zip(for_median, livers, strict=True)
        )

    def read_options(self, network: str) -> dict[str, Any]:
        """Return the options of a network's input (`data.inputs`)."""
        options: dict[str, Any] = self.records[network]["inputs"][network]
        return options

    @property
    def mask_threshold(self) -> float:
        """Threshold s1 of the mask M inside which tumor counts."""
        return float(self.read_options("tumor").get("mask_s1", HALF_THRESHOLDS["0.5"]))

    def _predict_slices(self, network: str, slices: Slices) -> Iterator[np.ndarray]:
        """Yield the probabilities of each slice, (rows, columns, classes) float32."""
        options = self.read_options(network)
        return self._ask(network, (make_input(hu, options) for hu in slices(options)))

    def _ask(self, network: str, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        from models.inference import predict_slices

        return predict_slices(self.networks[network], inputs)

    def _find_livers(self, slices: Slices) -> Iterator[np.ndarray]:
        return (liver[..., 0] for liver in self._predict_slices("liver", slices))

    def _find_pairs(
        self, slices: Slices, livers: Iterable[np.ndarray] | None, median_hu: float | None
    ) -> Probabilities:
        """Yield the liver's probability and the tumor's, which is 0 outside the mask M.

        Args:
            slices: those to predict.
            livers: the liver's probabilities, where they are known already.
            median_hu: of the case's liver, where the second input needs it.
        """
        options, s1 = self.read_options("tumor"), self.mask_threshold
        for_tumor = slices(options) if livers is not None else None
        if livers is None:
            for_liver, for_tumor = _share_slices(slices, self.read_options("liver"), options)
            livers = self._find_livers(lambda _: for_liver)
        for_input, for_output = tee(livers)
        assert for_tumor is not None
        # An input that needs no liver is made without one, as its network was trained.
        needs_liver = INPUTS[options["name"]].needs_liver
        inputs = (
            make_input(
                hu, options, Liver(mask_liver(liver, s1), median_hu) if needs_liver else None
            )
            for hu, liver in zip(for_tumor, for_input, strict=True)
        )
        for liver, tumor in zip(for_output, self._ask("tumor", inputs), strict=True):
            yield liver, mask_tumor(tumor[..., 0], mask_liver(liver, s1))

    # --- Labels ---

    def labels(self, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the label map of a case at the networks' size, and the liver by itself.

        The liver by itself is the liver before tumor was counted to it; it differs from the labels
        that are not 0 where tumor, or its contour, lies outside it.

        Args:
            hu: (n_slices, rows, columns), rows and columns as the networks see them.

        Returns:
            uint8 of the same shape, 0 other, 1 liver, 2 tumor; bool of the same shape.

        Raises:
            InputError: a probability is NaN.
        """
        if self.is_volumetric:
            return self._label_volume(hu)
        labels, livers = np.zeros(hu.shape, np.uint8), np.zeros(hu.shape, bool)
        if self.decision == ARGMAX:
            for row, classes in enumerate(self._predict_slices("classes", slices_of(hu))):
                check_numbers(self.name, f"slice {row}", classes)
                labels[row] = np.argmax(self._smooth(classes), axis=-1)
            return labels, labels > 0
        for row, probabilities in enumerate(self._of_targets(slices_of(hu))):
            check_numbers(self.name, f"slice {row}", *probabilities)
            labels[row], livers[row] = self.decide(probabilities, self.rule)
        return labels, livers

    def _of_targets(self, slices: Slices) -> Probabilities:
        """Yield the probabilities of `targets`, those that labels are made of."""
        if self.targets == TARGETS[:1]:
            return ((liver,) for liver in self._find_livers(slices))
        return self.of_whole_case(slices)

    def decide(
        self, probabilities: Sequence[np.ndarray], rule: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the labels of a slice and its liver by itself.

        Args:
            probabilities: (liver or tumor, tumor), or (liver,): each (rows, columns).
            rule: of `rules`.

        Returns:
            uint8 (rows, columns), 0 other, 1 liver, 2 tumor; bool (rows, columns).
        """
        if rule == ARGMAX:
            labels = find_most_probable(*probabilities).astype(np.uint8)
            return labels, labels > 0
        s1 = self.thresholds("liver")[rule]
        liver = np.asarray(mask_liver(probabilities[0], s1))
        if len(probabilities) == 1:
            return liver.astype(np.uint8), liver
        s2 = self.thresholds("tumor")[rule]
        return np.asarray(label_map(probabilities[0], probabilities[1], s1, s2)), liver

    def _smooth(self, classes: np.ndarray) -> np.ndarray:
        """Smooth the probabilities of a slice by a Gaussian of the settings' variance."""
        from scipy.ndimage import gaussian_filter

        variance = self.settings.get("smoothing_variance", 0)
        if not variance:
            return classes
        return np.asarray(gaussian_filter(classes, np.sqrt(variance), axes=(0, 1)))

    def _label_volume(self, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `labels` does, of the global and local pipeline."""
        hu = np.asarray(hu, np.float32)
        options: Sequence[str] = self.settings["postprocess"]

        def clean(labels: np.ndarray, liver: np.ndarray, names: Sequence[str]) -> np.ndarray:
            chosen = [name for name in options if name in names]
            return postprocess(labels, liver, hu, UNREAD_SPACING, chosen)

        # The liver, on the global view.
        found = self._predict_volume("liver", make_input(hu, self.read_options("liver"))) > 0.5
        labels = clean(found.astype(np.uint8), found, LIVER_OPTIONS)
        liver = labels > 0
        box = None
        if "tumor" in self.targets:
            box = find_liver_box(liver, tuple(self.records["tumor"]["inputs"]["tumor"]["crop"]))
        if box is None:
            return labels, liver
        # The tumor, on the local view: the liver's box without what lies around the liver.
        view = make_input(hu[box], self.read_options("tumor"), Liver(liver[box]))
        labels[box][self._predict_volume("tumor", view) > 0.5] = 2
        labels = clean(labels, liver, ("inside_liver",))
        if TUMOR_CONTOUR in options:
            image = window(hu[box], *self.read_options("tumor")["window_hu"])
            labels[box] = move_tumor_contour(labels[box], image)
        return labels, liver

    def _predict_volume(self, network: str, view: np.ndarray) -> np.ndarray:
        from models.sliding_window import predict_volume

        crop = self.read_options(network)["crop"]
        ask = self.networks[network].predict_on_batch
        probabilities = predict_volume(ask, view, crop, self.settings["overlap"])[..., 0]
        check_numbers(self.name, f"the {network} network", probabilities)
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

        A system that decides by thresholds decides on that grid, slice by slice: beyond the voxels,
        the labels and `maps`, memory holds some slices at a time. The others decide at the
        networks' size; a voxel is then what covers at least half of it, and memory holds every
        slice at the networks' size (4 bytes a pixel).

        Args:
            volume: CT in HU.
            rule: of `rules`; None for the system's own.
            liver_only: give 1 where liver (or tumor) is and 0 elsewhere.
            maps: float32 arrays of the volume's shape, filled with the probabilities of liver
                (tumor included) and tumor; only where the system decides by thresholds.
            livers: bool array of the volume's shape, filled with the liver by itself (`labels`).
            progress: title of a bar of the slices that are done; no bar for "".

        Returns:
            uint8 (n_slices, rows, columns), canonical order, 0 other, 1 liver, 2 tumor.

        Raises:
            InputError: a probability is NaN; fewer slices than the window of a system in 3D.
        """
        depth = self.settings.get("depth", 0)
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

        slices = slices_of_volume(volume, self.size)
        n_targets = 1 if liver_only and rule != ARGMAX else 2
        for index, probabilities in enumerate(self.probabilities(slices, slices)):
            check_numbers(self.name, f"slice {index}", *probabilities)
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

        hu = np.stack(list(slices_of_volume(volume, self.size)(ONE_SLICE)))
        for labels, liver in zip(*self.labels(hu), strict=True):
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


def find_most_probable(liver: np.ndarray, tumor: np.ndarray) -> np.ndarray:
    """Return the label 0/1/2 of the most probable of other, liver and tumor.

    Args:
        liver: probability of liver or tumor, (rows, columns).
        tumor: probability of tumor, (rows, columns).

    Returns:
        int64 (rows, columns); of equal ones the first.
    """
    return np.argmax(np.stack([1 - liver, liver - tumor, tumor]), axis=0)


def check_numbers(name: str, where: str, *probabilities: np.ndarray) -> None:
    """Check that the probabilities that a system gives somewhere are numbers.

    Args:
        name: of the system.
        where: what they are of, for the message.
        *probabilities: of any shape.

    Raises:
        InputError: one is NaN, which no comparison with a threshold would show.
    """
    if any(np.isnan(values).any() for values in probabilities):
        raise InputError(f"{name}: a probability of {where} is NaN; train it again")


def slices_of(image: np.ndarray, rows: Sequence[int] | None = None) -> Slices:
    """Return the slices (all, or `rows`) of an array of HU, as `Segmenter` takes them."""

    def read(options: Mapping[str, Any]) -> Iterator[np.ndarray]:
        for row in range(len(image)) if rows is None else rows:
            yield np.asarray(read_slices(image, row, options), np.float32)

    return read


def slices_of_volume(volume: Volume, size: int) -> Slices:
    """Return the slices of a volume as the networks see them, (size, size) float32 in HU."""

    def read(options: Mapping[str, Any]) -> Iterator[np.ndarray]:
        from data.resize import resize_hu

        small = (hu for _, chunk in volume.chunks() for hu in resize_hu(chunk, size))
        return iter(stream_slices(small, options))

    return read


def _share_slices(
    slices: Slices, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray]]:
    """Return the slices for two inputs; those that read alike are made once."""
    if INPUTS[first["name"]].context == INPUTS[second["name"]].context:
        shared = tee(slices(first))
        return shared[0], shared[1]
    return slices(first), slices(second)
