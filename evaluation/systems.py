"""Trained models as they are scored and used: slices of a case in, liver and tumor probabilities out.

A system is a model ("one_step", "sequential" or "joint") after a phase ("ce" or "balanced"). All it needs comes from
the run directory: weights, windows, scaling, and the thresholds chosen on validation data. The joint model is a
sequential pair whose networks were trained together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from data.backend import keras, load_network
from data.command import InputError
from data.files import read_json
from data.inputs import Liver, make_input
from data.masks import find_masks, find_median
from data.scaling import window
from evaluation.names import LOSSES, MODELS, STAGES, TARGETS
from models.cascade import split_cascade
from models.inference import predict_slices
from models.sequential import mask_liver, mask_tumor, split_classes

Slices = Callable[[], Iterable[np.ndarray]]
Probabilities = Iterator[tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class System:
    """One trained model with its frozen thresholds.

    Attributes:
        model, loss: which one.
        records: content of `record.json` by network ("one_step"; "liver" and "tumor").
        networks: Keras models by the same names.
    """

    model: str
    loss: str
    records: dict[str, dict[str, Any]]
    networks: dict[str, keras.Model]

    @property
    def name(self) -> str:
        """`<model>_<loss>`, as in file names."""
        return f"{self.model}_{self.loss}"

    @property
    def failure(self) -> str:
        """Why its scores are no result ("": they are one): a stage collapsed or diverged."""
        failed = [
            f"{r['stage']} {r['status']}: {r['why']}"
            for r in self.records.values()
            if r["status"] != "ok"
        ]
        return "; ".join(dict.fromkeys(failed))

    @property
    def weakness(self) -> str:
        """Where its networks find nothing on validation data, or rank no better than chance ("": nowhere)."""
        return noted(self.records)

    def thresholds(self, target: str) -> dict[str, float]:
        """Return the thresholds by rule ("0.5", "roc", "iou") for "liver" (s1) or "tumor" (s2)."""
        stage = "one_step" if self.model == "one_step" else target
        found: dict[str, float] = self.records[stage]["thresholds"][target]
        return found

    def probabilities(self, all_slices: Slices, wanted: Slices) -> Probabilities:
        """Yield (liver or tumor, tumor) probabilities, each (rows, columns) float32, slice by slice.

        The sequential model loaded for the liver only yields (liver,).

        Args:
            all_slices: gives an iterator over the HU of every slice of the case; the sequential model with
                per-volume scaling looks at them first. May be called more than once.
            wanted: gives an iterator over the HU of the slices to predict.
        """
        if self.model == "one_step":
            return self._one_step(wanted())
        if "tumor" not in self.records:
            return ((liver,) for liver in self._livers(wanted()))
        return self._sequential(all_slices, wanted())

    def _one_step(self, wanted: Iterable[np.ndarray]) -> Probabilities:
        window_hu = self.records["one_step"]["window_hu"]
        inputs = (window(hu, *window_hu) for hu in wanted)
        for classes in predict_slices(self.networks["one_step"], inputs):
            yield split_classes(classes)

    def _livers(self, wanted: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        window_hu = self.records["liver"]["window_hu"]
        inputs = (window(hu, *window_hu) for hu in wanted)
        return (p[..., 0] for p in predict_slices(self.networks["liver"], inputs))

    def liver_median(self, all_slices: Slices) -> float | None:
        """Return the median HU of the liver that the first network finds in a case.

        None where none is found, and where the second network's scaling does not ask for it.
        """
        if self.records["tumor"]["scaling"] != "liver_median":
            return None
        predict = partial(predict_slices, self.networks["liver"])
        s1, window_hu = self.records["tumor"]["mask_s1"], self.records["liver"]["window_hu"]
        options = {"name": "windowed", "window_hu": window_hu}
        return find_median(find_masks(all_slices(), predict, s1, options))

    def of_whole_case(self, slices: Slices) -> Probabilities:
        """Yield what `probabilities` does for every slice of a case, each network asked once for each slice.

        Where the scaling needs the liver's median first, memory holds the liver probabilities of the case (4 bytes a
        pixel).
        """
        if (
            self.model == "one_step"
            or "tumor" not in self.records
            or self.records["tumor"]["scaling"] != "liver_median"
        ):
            return self.probabilities(slices, slices)
        livers = list(self._livers(slices()))
        s1 = self.records["tumor"]["mask_s1"]
        found = (
            (hu, mask_liver(probability, s1))
            for hu, probability in zip(slices(), livers, strict=True)
        )
        return self._tumors(slices(), livers, find_median(found))

    def _sequential(self, all_slices: Slices, wanted: Iterable[np.ndarray]) -> Probabilities:
        for_liver, for_tumor = tee(wanted)
        return self._tumors(for_tumor, self._livers(for_liver), self.liver_median(all_slices))

    def _tumors(
        self, wanted: Iterable[np.ndarray], livers: Iterable[np.ndarray], median_hu: float | None
    ) -> Probabilities:
        tumor = self.records["tumor"]
        s1 = tumor["mask_s1"]
        options = {"name": "masked", "scaling": tumor["scaling"], "window_hu": tumor["window_hu"]}
        for_input, for_output = tee(livers)
        inputs = (
            make_input(hu, options, Liver(mask_liver(probability, s1), median_hu))
            for hu, probability in zip(wanted, for_input, strict=True)
        )
        tumors = predict_slices(self.networks["tumor"], inputs)
        for liver_probability, probability in zip(for_output, tumors, strict=True):
            mask = mask_liver(liver_probability, s1)
            yield liver_probability, mask_tumor(probability[..., 0], mask)


def noted(records: Mapping[str, dict[str, Any]]) -> str:
    """Return what the records of networks note of their weaknesses, each note once."""
    return "; ".join(
        dict.fromkeys(record["note"] for record in records.values() if record.get("note"))
    )


def stages_of(model: str, liver_only: bool = False) -> tuple[str, ...]:
    """Return the stages whose networks the model needs; for the liver only, the first one."""
    return STAGES[model][:1] if liver_only else STAGES[model]


def check_finished(run: Path, model: str, loss: str, liver_only: bool = False) -> None:
    """Check that the networks of a model are trained.

    Raises:
        InputError: a stage of it is not finished.
    """
    for stage in stages_of(model, liver_only):
        if not (run / stage / loss / "record.json").is_file():
            raise InputError(
                f"{run}: phase {loss} of {stage} is not finished (python -m training.{stage})"
            )


def load_system(run: Path, model: str, loss: str, liver_only: bool = False) -> System:
    """Load a trained model of a run directory; for the liver only, without the second network.

    Raises:
        InputError: a stage of it is not finished.
    """
    records: dict[str, dict[str, Any]] = {}
    networks: dict[str, keras.Model] = {}
    check_finished(run, model, loss, liver_only)
    for stage in stages_of(model, liver_only):
        folder = run / stage / loss
        record = read_json(
            folder / "record.json", ("status", "why", "thresholds", "validation", "window_hu")
        )
        network = None if record["status"] == "diverged" else load_network(folder / "best.keras")
        records |= _by_network({**record, "stage": stage})
        if network is not None and stage == "joint":
            networks |= dict(zip(TARGETS, split_cascade(network), strict=True))
        elif network is not None:
            networks[stage] = network
    if liver_only:
        records.pop("tumor", None)
    return System(model, loss, records, networks)


def _by_network(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a stage's record under the name of its network; that of the joint stage serves both of its networks."""
    if record["stage"] != "joint":
        return {record["stage"]: record}
    return {"liver": record, "tumor": {**record, "window_hu": record["tumor_window_hu"]}}


def finished_systems(run: Path, liver_only: bool = False) -> list[tuple[str, str]]:
    """Return (model, loss) of every system of the run whose stages (see `stages_of`) are finished, at least one.

    Raises:
        InputError: not a run directory, or none is finished.
    """
    read_run(run)
    found = those_finished(run, liver_only)
    if not found:
        raise InputError(
            f"{run}: no model is finished (python -m training.one_step, or liver and tumor)"
        )
    return found


def those_finished(run: Path, liver_only: bool = False) -> list[tuple[str, str]]:
    """Return (model, loss) of every system of the run whose stages are finished; none is no error."""
    return [
        (model, loss)
        for loss in LOSSES
        for model in MODELS
        if all(
            (run / stage / loss / "record.json").is_file() for stage in stages_of(model, liver_only)
        )
    ]


def read_run(run: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        InputError: not a run directory.
    """
    if not (run / "run.json").is_file():
        raise InputError(f"{run}: not a run directory (no run.json in it)")
    content: dict[str, Any] = read_json(run / "run.json", ("size", "synthetic"))
    return content


def check_numbers(name: str, where: str, *probabilities: np.ndarray) -> None:
    """Check that the probabilities that a system gives somewhere are numbers.

    Raises:
        InputError: one is NaN, which no comparison with a threshold would show.
    """
    if any(np.isnan(values).any() for values in probabilities):
        raise InputError(f"{name}: a probability of {where} is NaN; train it again")


def slices_of(image: np.ndarray, rows: Sequence[int] | None = None) -> Slices:
    """Return a function that gives an iterator over slices (all, or `rows`) of an array as float32."""

    def iterate() -> Iterator[np.ndarray]:
        for row in range(len(image)) if rows is None else rows:
            yield np.asarray(image[row], np.float32)

    return iterate
