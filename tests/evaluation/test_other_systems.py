"""How the other systems decide, with networks whose answers are known: classes, pairs, smoothing, the 3D pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data.batches import make_loader
from data.command import InputError
from data.volumes import Volume, read_image
from evaluation import other_systems
from evaluation.other_systems import OtherSystem, tumor_contour
from evaluation.segmenters import OtherSegmenter
from training.systems import SYSTEMS


class Network:
    """Stands for a Keras model: answers by a function of its input."""

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.answer = answer

    def predict_on_batch(self, batch: np.ndarray) -> np.ndarray:
        return self.answer(batch).astype(np.float32)


def system(networks: dict[str, Network], **settings: Any) -> OtherSystem:
    settings = {
        "architecture": "x",
        "input": "windowed",
        "smoothing_variance": 0.0,
        "postprocess": [],
        "overlap": 0.5,
        **settings,
    }
    records = {
        target: {"window_hu": [0.0, 100.0], "status": "ok", "crop": [4, 8, 8]}
        for target in networks
    }
    return OtherSystem("x", settings, records, networks)  # type: ignore[arg-type]


def volume() -> np.ndarray:
    """Six slices of 16 x 16: liver at 60 HU with a tumor at 30 HU in it, 0 HU around, a loose piece at 60 HU."""
    hu = np.zeros((6, 16, 16), np.int16)
    hu[1:5, 3:13, 3:13] = 60
    hu[1:5, 3, 3] = 0
    hu[2:4, 6:9, 6:9] = 30
    hu[5, 15, 15] = 60
    return hu


def classes(batch: np.ndarray) -> np.ndarray:
    x = batch[..., 0]
    return np.stack([x < 0.2, x > 0.45, (x > 0.2) & (x < 0.45)], -1) * 0.8 + 0.1


def test_three_classes_are_decided_by_the_most_probable() -> None:
    labels = system({"classes": Network(classes)}).labels(volume())
    wanted = np.where(volume() == 60, 1, np.where(volume() == 30, 2, 0))
    np.testing.assert_array_equal(labels, wanted)
    assert labels.dtype == np.uint8


def test_smoothing_removes_what_is_a_single_pixel() -> None:
    """A Gaussian of variance 4 leaves a lone pixel 4 % of its own probability."""
    labels = system({"classes": Network(classes)}, smoothing_variance=4.0).labels(volume())
    assert labels[5, 15, 15] == 0
    assert labels[1, 8, 8] == 1


def test_the_gaussian_has_the_variance_that_is_set() -> None:
    """Variance 0.25, so SD 0.5: a lone pixel p = 0.9 among 0.1 keeps g^2 = (1 / (1 + 2 exp(-2) + ...))^2 of 0.8."""
    probabilities = np.full((9, 9, 1), 0.1)
    probabilities[4, 4] = 0.9
    smoothed = system({}, smoothing_variance=0.25)._smoothed(probabilities)
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.25))
    assert smoothed[4, 4, 0] == pytest.approx(0.1 + 0.8 * (1 / kernel.sum()) ** 2)


def test_a_pair_is_decided_at_one_half_with_tumor_inside_the_liver() -> None:
    """The first network finds liver and tumor, the second the tumor and the rim at 0 HU, which is no liver."""
    liver = Network(lambda batch: (batch > 0.2) * 0.51)
    tumor = Network(lambda batch: (batch < 0.45) * 0.51)
    labels, livers = system({"liver": liver, "tumor": tumor}).found(volume())
    np.testing.assert_array_equal(labels == 2, volume() == 30)
    np.testing.assert_array_equal(labels == 1, volume() == 60)
    np.testing.assert_array_equal(livers, labels > 0)


def pipeline(seen: list[np.ndarray], options: list[str]) -> OtherSystem:
    def find_tumor(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return (batch < 0.45) * 0.9  # the tumor, and everything outside the liver

    liver = Network(lambda batch: (batch > 0.2) * 0.9)
    found = system(
        {"liver": liver, "tumor": Network(find_tumor)},
        architecture="segresnet_vae",
        postprocess=options,
    )
    found.records["liver"]["crop"] = [4, 16, 16]
    return found


def test_the_pipeline_looks_for_tumors_in_the_box_of_the_largest_liver() -> None:
    seen: list[np.ndarray] = []
    labels = pipeline(seen, ["largest_liver", "fill_holes", "inside_liver"]).labels(volume())
    assert labels[5, 15, 15] == 0
    np.testing.assert_array_equal(labels == 2, volume() == 30)
    assert {round(float(value), 4) for batch in seen for value in np.unique(batch)} == {
        0.0,
        0.3,
        0.6,
    }
    assert all(batch.shape == (1, 4, 8, 8, 1) for batch in seen)


def test_each_network_of_the_pipeline_has_the_window_it_was_trained_with() -> None:
    """The liver at 60 HU is 1 in its window [0, 60]; in the tumor's, [0, 120], it is 0.5 and the tumor 0.25."""
    seen: dict[str, set[float]] = {"liver": set(), "tumor": set()}

    def answer(target: str) -> Callable[[np.ndarray], np.ndarray]:
        def found(batch: np.ndarray) -> np.ndarray:
            seen[target] |= {round(float(value), 4) for value in np.unique(batch)}
            return (batch > 0.2) * 0.9

        return found

    networks = {target: Network(answer(target)) for target in seen}
    trained = system(
        networks, architecture="segresnet_vae", postprocess=["largest_liver", "fill_holes"]
    )
    trained.records["liver"] |= {"crop": [4, 16, 16], "window_hu": [0.0, 60.0]}
    trained.records["tumor"]["window_hu"] = [0.0, 120.0]
    trained.labels(volume())
    assert seen == {"liver": {0.0, 0.5, 1.0}, "tumor": {0.0, 0.25, 0.5}}


def test_without_its_options_the_pipeline_keeps_what_the_networks_say() -> None:
    """Tumor outside the liver stays where nothing drops it, and the loose piece is liver."""
    labels = pipeline([], []).labels(volume())
    assert labels[5, 15, 15] == 1
    assert (labels[volume() == 0] == 2).any()


def test_no_liver_gives_no_tumor() -> None:
    labels = pipeline([], ["largest_liver"]).labels(np.zeros((6, 16, 16), np.int16))
    assert not labels.any()


def test_the_contour_moves_the_tumor_alone_towards_the_image() -> None:
    """A tumor found one voxel too narrow on each side grows towards the darker voxels; the liver's outline stays."""
    labels = np.zeros((16, 32, 32), np.uint8)
    labels[2:14, 3:29, 3:29] = 1
    image = np.where(labels > 0, 0.8, 0.75)
    image[4:12, 9:23, 9:23] = 0.3
    truth = image == 0.3
    labels[5:11, 10:22, 10:22] = 2
    moved = tumor_contour(labels, image)
    np.testing.assert_array_equal(moved > 0, labels > 0)
    before, after = labels == 2, moved == 2
    assert not (after & ~truth).any()
    assert (after & truth).sum() > 1.2 * before.sum()


def test_a_contour_without_tumor_changes_nothing() -> None:
    labels = np.ones((4, 8, 8), np.uint8)
    np.testing.assert_array_equal(tumor_contour(labels, np.zeros((4, 8, 8))), labels)


def test_the_contour_starts_from_the_tumor_in_the_liver_and_is_the_last_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[np.ndarray] = []

    def contour(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
        seen.append(labels.copy())
        return np.full_like(labels, 2)

    monkeypatch.setattr(other_systems, "tumor_contour", contour)
    found = pipeline([], ["largest_liver", "fill_holes", "inside_liver", "tumor_contour"]).labels(
        volume()
    )
    without = pipeline([], ["largest_liver", "fill_holes", "inside_liver"]).labels(volume())
    np.testing.assert_array_equal(without == 2, volume() == 30)
    assert (seen[0] == 2).sum() == (without == 2).sum()
    assert (found == 2).sum() == seen[0].size


def test_what_lies_around_the_liver_misleads_the_contour() -> None:
    """A correct tumor grows into the liver where most of the box is darker still: why it is scored without, too."""
    labels = np.zeros((16, 32, 32), np.uint8)
    labels[2:14, 8:24, 8:24] = 1
    labels[5:11, 13:19, 13:19] = 2
    image = np.choose(labels, (0.1, 0.7, 0.5))
    moved = tumor_contour(labels, image)
    assert (moved == 2).sum() > 1.5 * (labels == 2).sum()


def test_a_failed_network_is_named() -> None:
    found = system({"classes": Network(classes)})
    assert found.failure == ""
    found.records["classes"] |= {"status": "collapsed", "why": "sees nothing"}
    assert found.failure == "classes collapsed: sees nothing"


@pytest.mark.parametrize("name", ["cdnn_alexnet", "segnet", "korabelnikov"])
def test_the_input_is_made_as_in_training(name: str) -> None:
    seen: list[np.ndarray] = []

    def answer(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return np.repeat(batch, 3, axis=-1)

    documented: Any = SYSTEMS[name]
    store: Any = SimpleNamespace(
        image=lambda case: volume(), label=lambda case: np.zeros(volume().shape, np.uint8)
    )
    options = {"name": documented.input, "window_hu": (0.0, 100.0)}
    load = make_loader(store, "classes", {"classes": options})
    system({"classes": Network(answer)}, input=documented.input).labels(volume())
    for row in range(len(volume())):
        np.testing.assert_array_equal(seen[0][row, ..., 0], load(("a", row))[0])


def on_a_grid(path: Path, slices: int = 6) -> Volume:
    """Write `volume()` with pixels split in two each way, padding cut off the first and last rows."""
    hu = np.repeat(np.repeat(volume()[:slices], 2, axis=1), 2, axis=2)[:, 4:28]
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0), np.diag([0.5, 0.5, 2.5, 1])), path)
    return read_image(path, allow_non_hu=True)


def test_a_volume_is_labelled_on_its_own_grid(tmp_path: Path) -> None:
    """24 x 32 pixels are 16 x 16 of the network, and come back; canonical slices run the other way in the file."""
    ct = on_a_grid(tmp_path / "ct.nii")
    hu = ct.slices(0, ct.n_slices)
    livers = np.zeros(ct.shape, bool)
    trained = system({"classes": Network(classes)})
    labels = OtherSegmenter(tmp_path, trained, 16, False).segment(ct, (), "", livers)
    for label, value in ((1, 60), (2, 30)):
        both = np.count_nonzero((labels == label) & (hu == value))
        assert 2 * both / (np.count_nonzero(labels == label) + np.count_nonzero(hu == value)) > 0.9
    np.testing.assert_array_equal(livers, labels > 0)
    only = OtherSegmenter(tmp_path, trained, 16, True).segment(ct, (), "", None)
    np.testing.assert_array_equal(only, labels > 0)


def test_the_liver_of_the_pipeline_is_that_before_the_contour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        other_systems, "tumor_contour", lambda labels, image: np.full_like(labels, 2)
    )
    trained = pipeline([], ["largest_liver", "fill_holes", "inside_liver", "tumor_contour"])
    labels, livers = trained.found(volume())
    assert (labels[~livers] == 2).any()
    ct = on_a_grid(tmp_path / "ct.nii")
    by_itself = np.zeros(ct.shape, bool)
    labels = OtherSegmenter(tmp_path, trained, 16, False).segment(ct, (), "", by_itself)
    assert (labels[~by_itself] == 2).any()
    only = OtherSegmenter(tmp_path, trained, 16, True).segment(ct, (), "", None)
    np.testing.assert_array_equal(only, by_itself)


def test_where_the_tumor_s_network_failed_the_liver_is_a_result() -> None:
    network = Network(lambda batch: (batch > 0.2) * 0.9)
    both = system({"liver": network, "tumor": network})
    assert both.targets == ("liver", "tumor")
    both.records["tumor"] |= {"status": "collapsed", "why": "all of it"}
    assert both.targets == ("liver",)
    labels, livers = both.found(volume())
    np.testing.assert_array_equal(labels, volume() > 20)
    np.testing.assert_array_equal(labels, livers)
    found = pipeline([], ["largest_liver", "tumor_contour"])
    found.records["tumor"]["status"] = "diverged"
    del found.networks["tumor"]  # of the first epoch, none was saved
    assert set(np.unique(found.labels(volume()))) == {0, 1}
    both.records["liver"]["status"] = "diverged"
    assert both.targets == ()
    classes_alone = system({"classes": network})
    classes_alone.records["classes"]["status"] = "collapsed"
    assert classes_alone.targets == ()


@pytest.mark.parametrize("targets", [("classes",), ("liver", "tumor")])
def test_nan_is_no_answer(targets: tuple[str, ...]) -> None:
    broken = system(
        {target: Network(lambda batch: np.full(batch.shape, np.nan)) for target in targets}
    )
    with pytest.raises(InputError, match="x: a probability of slice 0 is NaN; train it again"):
        broken.labels(volume())
    pair = {
        "liver": Network(lambda batch: batch > 0.2),
        "tumor": Network(lambda batch: np.full(batch.shape, np.nan)),
    }
    with pytest.raises(InputError, match="x: a probability of the tumor network is NaN"):
        system(pair, architecture="segresnet_vae").labels(volume())


def test_a_volume_shorter_than_the_window_is_refused(tmp_path: Path) -> None:
    trained = system({"classes": Network(classes)}, depth=8)
    with pytest.raises(InputError, match=r"ct\.nii: has 6 slices, the 3D window takes 8"):
        OtherSegmenter(tmp_path, trained, 16, False).segment(
            on_a_grid(tmp_path / "ct.nii"), (), "", None
        )
