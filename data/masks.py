"""The first network's thresholded prediction on disk: the liver mask M of each case (paper 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from pathlib import Path

import numpy as np

from data.command import InputError
from data.files import read_json, replace_file, write_json
from data.scaling import HuMedian, window

Predict = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]


class LiverMasks:
    """A folder with `<case>.npy`, uint8 (slices, rows, columns), 1 where L(X) > s1, and `masks.json`.

    `masks.json` is {"schema": 1, "s1": the threshold, "median_hu": {case: median HU inside M or null}},
    written last: a folder without it is unfinished.
    """

    def __init__(self, folder: Path) -> None:
        """Open a finished folder.

        Raises:
            InputError: `masks.json` is missing.
        """
        self.folder = folder
        content = read_json(folder / "masks.json", ("s1", "median_hu"))
        self.s1: float = content["s1"]
        self._medians: dict[str, float | None] = content["median_hu"]
        self._open: dict[str, np.ndarray] = {}

    def mask(self, case: str) -> np.ndarray:
        """Return the case's masks, uint8 (slices, rows, columns), read from disk as they are used."""
        if case not in self._open:
            path = self.folder / f"{case}.npy"
            if not path.is_file():
                raise InputError(
                    f"{path}: no liver mask for {case}; the split may have changed since the liver stage"
                )
            try:
                self._open[case] = np.load(path, mmap_mode="r")
            except (ValueError, EOFError):
                raise InputError(
                    f"{path}: damaged; remove {self.folder} and train the liver stage again"
                ) from None
        return self._open[case]

    def median_hu(self, case: str) -> float | None:
        """Return the median HU of the liver found in the case, None where none was found.

        Raises:
            InputError: the folder holds no such case.
        """
        if case not in self._medians:
            path = self.folder / "masks.json"
            raise InputError(f"{path}: no {case}; the split may have changed since the liver stage")
        return self._medians[case]


def write_masks(
    folder: Path, case: str, n_slices: int, masked: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Write one case's masks, whole or not at all, and pass its (HU, mask) slices on as they come."""
    with replace_file(folder / f"{case}.npy") as temporary:
        array = None
        for row, (hu, mask) in enumerate(masked):
            if array is None:
                array = np.lib.format.open_memmap(
                    temporary, "w+", np.uint8, (n_slices, *mask.shape)
                )
            array[row] = mask
            yield hu, mask
        if array is not None:
            array.flush()


def finish_masks(folder: Path, s1: float, median_hu: dict[str, float | None]) -> None:
    """Write `masks.json`, which marks the folder finished."""
    write_json(folder / "masks.json", {"schema": 1, "s1": s1, "median_hu": median_hu})


def liver_masks(
    slices: Iterable[np.ndarray], predict: Predict, s1: float, window_hu: tuple[float, float]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (HU, M = [L(X) > s1]) slice by slice: float32 and bool, each (rows, columns).

    Args:
        slices: HU, each (rows, columns); read as they are needed.
        predict: windowed slices -> liver probabilities (rows, columns, 1), one by one in order.
        s1: threshold of the first network.
        window_hu: window of the first network.
    """
    for_network, for_output = tee(slices)
    inputs = (window(np.asarray(hu, np.float32), *window_hu) for hu in for_network)
    for hu, probability in zip(for_output, predict(inputs), strict=True):
        yield np.asarray(hu, np.float32), probability[..., 0] > s1


def median_of_liver(masked: Iterable[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Return the median HU inside the masks of a case's (HU, mask) slices, None where they are all empty."""
    median = HuMedian()
    for hu, mask in masked:
        median.add(hu, mask)
    return median.value()
