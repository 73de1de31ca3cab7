"""The first network's liver mask M of each case, on disk (paper 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from pathlib import Path

import numpy as np

from data.command import InputError
from data.files import read_json, replace_file, write_json
from data.inputs import Liver, Options, make_input, stream_slices
from data.scaling import HuMedian

Predict = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]
Masked = Iterable[tuple[np.ndarray, np.ndarray]]


class LiverMasks:
    """A folder with `<case>.npy`, uint8 (slices, rows, columns), 1 where L(X) > s1.

    `masks.json` beside them is {"schema": 1, "s1": the threshold, "median_hu": {case: median HU
    inside M or null}}, written last: a folder without it is unfinished.
    """

    def __init__(self, folder: Path) -> None:
        """Open a finished folder; one without `masks.json` raises an InputError."""
        self.folder = folder
        content = read_json(folder / "masks.json", ("s1", "median_hu"))
        self.s1: float = content["s1"]
        self._medians: dict[str, float | None] = content["median_hu"]
        self._masks: dict[str, np.ndarray] = {}

    def read_mask(self, case: str) -> np.ndarray:
        """Return a case's memory-mapped masks, uint8 (slices, rows, columns).

        A case that the folder lacks, or a damaged file, raises an InputError.
        """
        if case not in self._masks:
            path = self.folder / f"{case}.npy"
            if not path.is_file():
                raise InputError(
                    f"{path}: no liver mask for {case}; "
                    "the split may have changed since the liver network was trained"
                )
            try:
                self._masks[case] = np.load(path, mmap_mode="r")
            except (ValueError, EOFError):
                raise InputError(
                    f"{path}: damaged; remove {self.folder} and train the liver network again"
                ) from None
        return self._masks[case]

    def find_median_hu(self, case: str) -> float | None:
        """Return the median HU of the liver found in a case; None where none was found.

        A case that the folder lacks raises an InputError.
        """
        if case not in self._medians:
            raise InputError(
                f"{self.folder / 'masks.json'}: no {case}; "
                "the split may have changed since the liver network was trained"
            )
        return self._medians[case]

    def find_liver(self, chosen: tuple[str, int]) -> Liver:
        """Return the liver of a slice (case, row), for the second network's input."""
        case, row = chosen
        return Liver(self.read_mask(case)[row].astype(bool), self.find_median_hu(case))


def write_masks(
    folder: Path, case: str, n_slices: int, masked: Masked
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Write one case's masks, whole or not at all, and pass its (HU, mask) slices on.

    Args:
        folder: where to.
        case: its name.
        n_slices: number of its slices.
        masked: (HU, mask) of each slice, each (rows, columns); read as they are passed on.
    """
    with replace_file(folder / f"{case}.npy") as temporary:
        array = None
        for row, (hu, mask) in enumerate(masked):
            if array is None:
                shape = (n_slices, *mask.shape)
                array = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            array[row] = mask
            yield hu, mask
        if array is not None:
            array.flush()


def finish_masks(folder: Path, s1: float, median_hu: dict[str, float | None]) -> None:
    """Write `masks.json`, which marks the folder finished.

    Args:
        folder: of the masks.
        s1: threshold of the first network.
        median_hu: by case, inside M; None where M is empty.
    """
    write_json(folder / "masks.json", {"schema": 1, "s1": s1, "median_hu": median_hu})


def find_masks(
    slices: Iterable[np.ndarray], predict: Predict, s1: float, options: Options
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (HU, M = [L(X) > s1]) of each slice: float32, bool, (rows, columns).

    Args:
        slices: HU, each (rows, columns); read as they are needed.
        predict: inputs -> liver probabilities (rows, columns, 1), one by one in order.
        s1: threshold of the first network.
        options: of its input, the "inputs" entry of its record.
    """
    for_network, for_output = tee(slices)
    inputs = (make_input(hu, options) for hu in stream_slices(for_network, options))
    for hu, probability in zip(for_output, predict(inputs), strict=True):
        yield np.asarray(hu, np.float32), probability[..., 0] > s1


def find_median(masked: Masked) -> float | None:
    """Return the median HU inside a case's masks; None where all are empty."""
    median = HuMedian()
    for hu, mask in masked:
        median.add(hu, mask)
    return median.value()
