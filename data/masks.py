"""The first network's thresholded prediction on disk: the liver mask M of each case (paper 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from pathlib import Path

import numpy as np

from data.command import InputError
from data.files import read_json, replacing, write_json
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
        content = read_json(folder / "masks.json")
        self.s1: float = content["s1"]
        self._medians: dict[str, float | None] = content["median_hu"]
        self._open: dict[str, np.ndarray] = {}

    def mask(self, case: str) -> np.ndarray:
        """Return the case's masks, uint8 (slices, rows, columns), read from disk as they are used."""
        if case not in self._open:
            path = self.folder / f"{case}.npy"
            if not path.is_file():
                raise InputError(f"{path}: no liver mask for {case}; the split may have changed since the liver stage")
            self._open[case] = np.load(path, mmap_mode="r")
        return self._open[case]

    def median_hu(self, case: str) -> float | None:
        """Return the median HU of the liver found in the case, None where none was found."""
        return self._medians[case]


def write_mask(folder: Path, case: str, mask: np.ndarray) -> None:
    """Write one case's masks (slices, rows, columns), whole or not at all."""
    with replacing(folder / f"{case}.npy") as temporary:
        np.save(temporary, mask.astype(np.uint8))


def finish_masks(folder: Path, s1: float, median_hu: dict[str, float | None]) -> None:
    """Write `masks.json`, which marks the folder finished."""
    write_json(folder / "masks.json", {"schema": 1, "s1": s1, "median_hu": median_hu})


def find_liver(
    slices: Iterable[np.ndarray], predict: Predict, s1: float, window_hu: tuple[float, float]
) -> tuple[np.ndarray, float | None]:
    """Return M = [L(X) > s1] of a whole case, and the median HU inside it.

    Args:
        slices: HU, each (rows, columns), all of the case; read as they are needed.
        predict: windowed slices -> liver probabilities (rows, columns, 1), one by one in order.
        s1: threshold of the first network.
        window_hu: window of the first network.

    Returns:
        uint8 (n_slices, rows, columns), and the median in HU (None where no liver was found).
    """
    for_network, for_median = tee(slices)
    inputs = (window(np.asarray(hu, np.float32), *window_hu) for hu in for_network)
    masks, median = [], HuMedian()
    for hu, probability in zip(for_median, predict(inputs), strict=True):
        masks.append(probability[..., 0] > s1)
        median.add(np.asarray(hu, np.float32), masks[-1])
    return np.stack(masks).astype(np.uint8), median.value()
