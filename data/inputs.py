"""Make a network's input of HU: a registry for training and prediction.

`INPUTS` names every input. A network's record holds the name and the options of its own, so that
`make_input` makes at prediction what the network was trained on. A window, a mask and the liver's
median are made by hand, where no library has them; scikit-image does the rest.

Of a slice    windowed, equalised, standardised; masked and scaled (they need the liver)
Of a volume   global, local (it needs the liver)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np

from data.scaling import check_mask, window

Options = Mapping[str, Any]
Box = tuple[slice, slice, slice]
Slices = Callable[[Options], Iterator[np.ndarray]]
"""Slices of a case in float32 HU: given an input's options, what that input reads of each."""
ONE_SLICE: Options = {"name": "windowed"}
"""Options of an input that reads a slice without its neighbours."""

LIVER_SCALE_HU = 40.0  # assumed: about the spread of HU in a liver with tumors
MEDIAN_SIZE = 3  # assumed: Elmenabawy et al. do not give the size of their median filter
OUTSIDE_HU = -1000.0  # outside the liver in the local view; reported of the pipeline's figures


@dataclass(frozen=True)
class Liver:
    """The liver that an input is made with.

    Attributes:
        mask: ndarray of the shape of the HU, bool or 0/1.
        median_hu: median HU of the volume's liver; None where no liver was found.
    """

    mask: np.ndarray
    median_hu: float | None = None


Make = Callable[[np.ndarray, Options, Liver | None], np.ndarray]


@dataclass(frozen=True)
class Input:
    """A kind of input.

    Attributes:
        name: its key in `INPUTS`.
        make: (hu, options, liver) -> float32 (rows, columns) or (rows, columns, channels). hu is
            float32 (rows, columns), or (2 * context + 1, rows, columns) where context > 0; options
            are the "inputs" entry of the network's record; liver is None unless it is needed.
        needs_liver: whether it is made with the liver.
        context: neighbouring slices on each side that it reads.
        volume: whether it is made of (slices, rows, columns), for a network in 3D.
        channels: of the result.
    """

    name: str
    make: Make
    needs_liver: bool = False
    context: int = 0
    volume: bool = False
    channels: int = 1


INPUTS: dict[str, Input] = {}
"""Every kind of input by its name."""


def register_input(kind: Input) -> Input:
    """Add a kind of input to `INPUTS`."""
    INPUTS[kind.name] = kind
    return kind


def make_input(hu: np.ndarray, options: Options, liver: Liver | None = None) -> np.ndarray:
    """Make what a network sees of a slice or a volume.

    Args:
        hu: as the kind's `Input.make` takes it; any real dtype.
        options: {"name": a key of `INPUTS`, ...}, the "inputs" entry of the network's record.
        liver: where the kind needs it.

    Returns:
        ndarray, float32, with the rows and columns of `hu`.

    Raises:
        ValueError: there is no such kind, or it needs a liver and got none.
    """
    if options["name"] not in INPUTS:
        raise ValueError(f"input must be one of {', '.join(INPUTS)}, got {options['name']!r}")
    kind = INPUTS[options["name"]]
    if kind.needs_liver and liver is None:
        raise ValueError(f"input {kind.name} needs a liver, got None")
    return kind.make(np.asarray(hu, np.float32), options, liver)


def read_slices(volume: np.ndarray, row: int, options: Options) -> np.ndarray:
    """Return the slices of a volume that the input of one slice reads.

    Args:
        volume: ndarray of shape (n_slices, rows, columns), in HU; may be memory-mapped.
        row: the slice.
        options: of the input.

    Returns:
        (rows, columns), or (2 * context + 1, rows, columns); the first and the last slice stand
        for those beyond them.
    """
    context = INPUTS[options["name"]].context
    if not context:
        return np.asarray(volume[row])
    rows = np.clip(np.arange(row - context, row + context + 1), 0, len(volume) - 1)
    return np.stack([np.asarray(volume[index]) for index in rows])


def stream_slices(slices: Iterable[np.ndarray], options: Options) -> Iterator[np.ndarray]:
    """Yield what `read_slices` returns for every slice of a streamed volume."""
    context = INPUTS[options["name"]].context
    if not context:
        yield from slices
        return
    held: deque[np.ndarray] = deque(maxlen=2 * context + 1)
    for hu in slices:
        held.extend([hu] if held else [hu] * (context + 1))
        if len(held) == held.maxlen:
            yield np.stack(held)
    for _ in range(context if held else 0):
        held.append(held[-1])
        if len(held) == held.maxlen:
            yield np.stack(held)


def take_slices(image: np.ndarray, rows: Sequence[int] | None = None) -> Slices:
    """Return the slices (all, or `rows`) of HU, which may be memory-mapped."""

    def read(options: Options) -> Iterator[np.ndarray]:
        for row in range(len(image)) if rows is None else rows:
            yield np.asarray(read_slices(image, row, options), np.float32)

    return read


def share_slices(
    slices: Slices, first: Options, second: Options
) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray]]:
    """Return the slices for two inputs; where both read alike, make each once.

    Args:
        slices: HU, each (rows, columns); read as they are needed.
        first, second: options of the two inputs.
    """
    if INPUTS[first["name"]].context == INPUTS[second["name"]].context:
        shared = tee(slices(first))
        return shared[0], shared[1]
    return slices(first), slices(second)


def make_windowed(hu: np.ndarray, options: Options, liver: Liver | None = None) -> np.ndarray:
    """Clip a slice to the window and scale it to [0, 1]: X of the paper.

    Args:
        hu, options, liver: as `Input.make` takes them.
    """
    return window(hu, *options["window_hu"])


def make_equalised(hu: np.ndarray, options: Options, liver: Liver | None = None) -> np.ndarray:
    """Equalise the histogram of the windowed slice, then filter with a 3 x 3 median.

    Elmenabawy et al., II.A: "histogram equalization and median filter smoothing". One bin a HU of
    the window, so that no HU merge; the slice's own histogram (assumed). The result is in [0, 1].

    Args:
        hu, options, liver: as `Input.make` takes them.
    """
    from skimage.exposure import equalize_hist
    from skimage.filters import median

    picture = equalize_hist(np.rint(np.clip(hu, *options["window_hu"])).astype(np.int16))
    return np.asarray(median(picture, np.ones((MEDIAN_SIZE, MEDIAN_SIZE))), np.float32)


def make_standardised(hu: np.ndarray, options: Options, liver: Liver | None = None) -> np.ndarray:
    """Shift and scale the windowed slice to zero mean and unit variance.

    Dhanush et al., 3.2: "a zero mean and unit variance for every image". The window before is
    assumed: over the full range of HU, air and couch would set the scale. A slice of one value
    becomes 0.

    Args:
        hu, options, liver: as `Input.make` takes them.
    """
    picture = window(hu, *options["window_hu"])
    deviation = float(picture.std())
    shifted = (picture - picture.mean()) / deviation if deviation > 0 else picture * 0
    return np.asarray(shifted, np.float32)


def make_masked(hu: np.ndarray, options: Options, liver: Liver | None) -> np.ndarray:
    """Scale a slice inside the liver, 0 outside: the paper's second input (2.3).

    Scaling "window" is M * w(X). Scaling "liver_median" is (X - median) / 40 HU inside M, so that
    contrast phase and scanner drop out (assumed; the paper says "a consistent scale" and no more);
    a volume in which no liver was found gives zeros.

    Args:
        hu: ndarray of shape (..., rows, columns), float32, in HU.
        options: "scaling" and "window_hu", which "window" reads.
        liver: M, and the median HU that "liver_median" reads.

    Raises:
        ValueError: unknown scaling, an empty window, or a mask of another shape.
    """
    assert liver is not None
    check_mask(hu, liver.mask)
    scaling = options["scaling"]
    if scaling == "window":
        return np.asarray(liver.mask, np.float32) * window(hu, *options["window_hu"])
    if scaling != "liver_median":
        raise ValueError(f'scaling must be "window" or "liver_median", got {scaling!r}')
    if liver.median_hu is None:
        return np.zeros(np.shape(hu), np.float32)
    centred = (hu - np.float32(liver.median_hu)) / np.float32(LIVER_SCALE_HU)
    return np.where(np.asarray(liver.mask, bool), centred, np.float32(0))


def make_scaled(hu: np.ndarray, options: Options, liver: Liver | None) -> np.ndarray:
    """Scale a slice everywhere as `make_masked` does inside the liver: w(X).

    The nested network masks it. HU are clipped to the window first, also for scaling
    "liver_median": a soft mask lets a little of everything through, and air at -1000 HU would
    outweigh the liver.

    Args:
        hu, options, liver: as `make_masked` takes them.
    """
    assert liver is not None
    everywhere = Liver(np.ones(hu.shape, bool), liver.median_hu)
    return make_masked(np.clip(hu, *options["window_hu"]), options, everywhere)


def make_local(hu: np.ndarray, options: Options, liver: Liver | None) -> np.ndarray:
    """Set HU outside the liver to -1000 and window: the pipeline's local view.

    Args:
        hu: ndarray (slices, rows, columns) of the liver's box (`find_liver_box`).
        options: "window_hu".
        liver: the mask in the same box.
    """
    assert liver is not None
    check_mask(hu, liver.mask)
    return window(np.where(liver.mask, hu, np.float32(OUTSIDE_HU)), *options["window_hu"])


def find_liver_box(liver: np.ndarray, shape: tuple[int, int, int]) -> Box | None:
    """Return the bounding box of a mask, grown in the volume to hold `shape`.

    The mask is bool, (n_slices, rows, columns), at least `shape` along every axis. The box is a
    slice an axis; None for an empty mask.
    """
    box = []
    for axis, size in enumerate(shape):
        occupied = np.flatnonzero(liver.any(axis=tuple(k for k in range(3) if k != axis)))
        if not len(occupied):
            return None
        low, high = int(occupied[0]), int(occupied[-1]) + 1
        if high - low < size:
            # half of what is missing before the liver, as far as there is room
            low = max(0, min(low - (size - (high - low)) // 2, low))
        high = max(high, low + size)
        if high > liver.shape[axis]:
            low, high = liver.shape[axis] - (high - low), liver.shape[axis]
        box.append(slice(low, high))
    return box[0], box[1], box[2]


for _kind in (
    Input("windowed", make_windowed),
    Input("equalised", make_equalised),
    Input("standardised", make_standardised),
    Input("masked", make_masked, needs_liver=True),
    Input("scaled", make_scaled, needs_liver=True),
    Input("global", make_windowed, volume=True),
    Input("local", make_local, needs_liver=True, volume=True),
):
    register_input(_kind)


def target_of(label: np.ndarray, target: str) -> np.ndarray:
    """Return a network's target from labels 0 other, 1 liver, 2 tumor.

    `target` is "liver", the paper's A, 1 where liver or tumor; "tumor", its B, 1 where tumor; or
    "classes", the label itself. The result is uint8 of the label's shape.

    Raises:
        ValueError: another target.
    """
    if target == "liver":
        return (label >= 1).astype(np.uint8)
    if target == "tumor":
        return (label == 2).astype(np.uint8)
    if target == "classes":
        return np.asarray(label)
    raise ValueError(f"target must be 'liver', 'tumor' or 'classes', got {target!r}")
