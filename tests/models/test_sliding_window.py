"""Sliding-window prediction: the same as MONAI's, by its own code."""

from __future__ import annotations

import numpy as np
import pytest

from models.sliding_window import place_windows, predict_volume, weigh_voxels
from tests.conftest import TorchReference

# Shape of the volume, window, overlap, batch: an axis as long as the window, steps that do and do
# not divide.
SETS = [
    ((20, 33, 47), (8, 16, 16), 0.5, 1),
    ((8, 17, 40), (8, 16, 12), 0.25, 4),
    ((9, 30, 21), (4, 10, 7), 0.7, 3),
    ((8, 16, 16), (8, 16, 16), 0.5, 4),
    ((5, 9, 4), (3, 3, 3), 0.0, 2),
]


def test_starts_by_hand() -> None:
    assert place_windows(20, 8, 0.5) == [0, 4, 8, 12]
    assert place_windows(21, 8, 0.5) == [0, 4, 8, 12, 13]
    assert place_windows(8, 8, 0.5) == [0]
    assert place_windows(4, 2, 0.9) == [0, 1, 2]


def test_weights_by_hand() -> None:
    weights = weigh_voxels((3, 1, 2), 0.5)
    assert weights.shape == (3, 1, 2)
    # sigma 1.5 and 1: exp(-1 / 4.5) one voxel from the centre, exp(-0.125) half a voxel from it
    np.testing.assert_allclose(
        weights[:, 0, 0], np.exp([-1 / 4.5 - 0.125, -0.125, -1 / 4.5 - 0.125]), rtol=1e-6
    )
    assert weigh_voxels((32, 32, 32)).min() == np.float32(1e-3)


@pytest.mark.parametrize("number", range(len(SETS)))
def test_a_window_is_seen_whole_and_a_constant_stays_constant(number: int) -> None:
    shape, window, overlap, batch = SETS[number]
    seen = []

    def predict(inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs.shape)
        return np.broadcast_to(np.float32([0.25, 0.75]), (*inputs.shape[:4], 2))

    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    probability = predict_volume(predict, volume, window, overlap, batch_size=batch)
    assert probability.shape == (*shape, 2)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(
        probability, np.broadcast_to([0.25, 0.75], probability.shape), rtol=1e-5
    )
    assert len(set(seen)) == 1, "one shape, so that a backend compiles once"


def test_the_input_comes_back() -> None:
    volume = np.random.default_rng(0).normal(size=(9, 30, 21)).astype(np.float32)
    np.testing.assert_allclose(
        predict_volume(np.copy, volume, (4, 10, 7))[..., 0], volume, atol=1e-5
    )


def test_prediction_is_monais(torch_reference: TorchReference) -> None:
    rng = np.random.default_rng(0)
    given = {}
    for index, (shape, window, _, _) in enumerate(SETS):
        given[f"volume_{index}"] = rng.normal(size=shape).astype(np.float32)
        given[f"ramp_{index}"] = rng.normal(size=window).astype(
            np.float32
        )  # a result that depends on the place
    expected = torch_reference(
        f"""
        import sys
        sys.modules |= {{"tensorflow": None, "torchvision": None}}  # MONAI would load them
        from monai.inferers import sliding_window_inference
        for index, (shape, window, overlap, batch) in enumerate({SETS}):
            volume, ramp = (
                torch.from_numpy(globals()[f"{{name}}_{{index}}"]) for name in ("volume", "ramp")
            )
            predict = lambda x: torch.cat([x * ramp, x - x.mean((1, 2, 3, 4), keepdim=True)], 1)
            blended = sliding_window_inference(
                volume[None, None], window, batch, predict, overlap, mode="gaussian",
                sigma_scale=0.125 + 0.1 * index,
            )
            results[str(index)] = blended[0].permute(1, 2, 3, 0).numpy()
        """,
        **given,
    )
    for index, (_, window, overlap, batch) in enumerate(SETS):
        ramp = given[f"ramp_{index}"][..., None]

        def predict(x: np.ndarray, ramp: np.ndarray = ramp) -> np.ndarray:
            return np.concatenate([x * ramp, x - x.mean((1, 2, 3, 4), keepdims=True)], -1)

        ours = predict_volume(
            predict, given[f"volume_{index}"], window, overlap, 0.125 + 0.1 * index, batch
        )
        np.testing.assert_allclose(ours, expected[str(index)], atol=2e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"volume": np.zeros((4, 9, 9), np.float32)}, r"window \(8, 8, 8\), got \(4, 9, 9\)"),
        ({"volume": np.zeros((9, 9), np.float32)}, "volume"),
        ({"window": (8, 8)}, "window"),
        ({"window": (8, 8, 0)}, "window"),
        ({"overlap": 1.0}, "overlap"),
        ({"sigma_scale": 0}, "sigma_scale"),
        ({"batch_size": 0}, "batch_size"),
        ({"predict": lambda x: x[:, 1:]}, "predict"),
    ],
)
def test_wrong_arguments_are_named(changes: dict, named: str) -> None:
    arguments = {
        "predict": np.copy,
        "volume": np.zeros((9, 9, 9), np.float32),
        "window": (8, 8, 8),
        **changes,
    }
    with pytest.raises(ValueError, match=named):
        predict_volume(**arguments)
