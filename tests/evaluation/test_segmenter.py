"""One segmenter for every system: pairs, nested networks, classes, the pipeline in 3D, grids.

Networks are hand-made, so that what they answer is known.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import nibabel as nib
import numpy as np
import pytest

from data.batches import make_loader
from data.command import InputError
from data.files import read_json, write_json
from data.inputs import INPUTS, ONE_SLICE, Input, take_slices
from data.runs import (
    System,
    choose_phase,
    list_finished_systems,
    list_sweep_points,
    read_system,
)
from data.volumes import Volume, read_image
from evaluation import segmenter as module
from evaluation.segmenter import Segmenter, load_segmenter, take_volume_slices
from models import inference
from models.cascade import build_cascade
from models.unet import build_unet
from tests.conftest import draw_case
from tests.evaluation.known_networks import SIZE, write_system

S1 = 0.45
WINDOWED = {"name": "windowed", "window_hu": [0.0, 100.0]}


class Network:
    """Stands for a Keras model: answers by a function of its input."""

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.answer = answer

    def predict_on_batch(self, batch: np.ndarray) -> np.ndarray:
        return self.answer(batch).astype(np.float32)


def make_segmenter(
    networks: dict[str, Network], options: dict[str, Any] = WINDOWED, **settings: Any
) -> Segmenter:
    """Make a system of another document of hand-made networks."""
    decision = "argmax" if "classes" in networks else "half"
    settings = {"smoothing_variance": 0.0, "postprocess": [], "overlap": 0.5, **settings}
    names = tuple(networks)
    about = System(Path("run/x"), "x", "x", "x", "", names, ("train",), decision, False, settings)
    records: dict[str, dict[str, Any]] = {
        name: {"target": name, "status": "ok", "why": "", "inputs": {name: dict(options)}}
        for name in names
    }
    return Segmenter(about, "train", 16, records, networks)  # type: ignore[arg-type]


def make_volume() -> np.ndarray:
    """Make six slices of 16 x 16: liver at 60 HU, in it a tumor at 30 HU, a loose piece at 60."""
    hu = np.zeros((6, 16, 16), np.int16)
    hu[1:5, 3:13, 3:13] = 60
    hu[1:5, 3, 3] = 0
    hu[2:4, 6:9, 6:9] = 30
    hu[5, 15, 15] = 60
    return hu


def answer_classes(batch: np.ndarray) -> np.ndarray:
    x = batch[..., :1]
    return np.concatenate([x < 0.2, x > 0.45, (x > 0.2) & (x < 0.45)], -1) * 0.8 + 0.1


def find_liver(batch: np.ndarray) -> np.ndarray:
    return (batch > 0.2) * 0.9


# --- The paper's pair, and the nested network that holds it ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose joint system holds the networks of its sequential pair."""
    path = tmp_path_factory.mktemp("systems") / "run"
    keras.utils.set_random_seed(3)
    pair = {
        name: build_unet(SIZE, widths=(4, 8), dropout=0.2, name=name) for name in ("liver", "tumor")
    }
    options = {
        "liver": {"name": "windowed", "window_hu": [-100, 400]},
        "tumor": {
            "name": "masked",
            "window_hu": [0, 200],
            "scaling": "liver_median",
            "mask_s1": S1,
        },
    }
    thresholds = {"0.5": 0.5, "roc": 0.4, "iou": 0.6}

    def record(*targets: str) -> dict[str, Any]:
        return {
            "inputs": {target: options[target] for target in targets},
            "thresholds": dict.fromkeys(targets, thresholds),
            "validation": {target: {"iou_at_roc": 0.5} for target in targets},
        }

    write_system(path, "sequential", {name: (pair[name], record(name)) for name in pair})
    nested = build_cascade(pair["liver"], pair["tumor"], S1)
    write_system(path, "joint", {"nested": (nested, record("liver", "tumor"))})
    return path


slices = take_slices(np.ascontiguousarray(draw_case(1)[0].T[:, ::2, ::2]))


def check_equal(
    first: Iterable[Sequence[np.ndarray]], second: Iterable[Sequence[np.ndarray]]
) -> None:
    for one, other in zip(first, second, strict=True):
        for value, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, expected)


def test_the_joint_system_answers_as_the_pair_it_is_made_of(run: Path) -> None:
    assert list_finished_systems(run) == [("sequential", "ce"), ("joint", "ce")]
    pair, joint = (load_segmenter(run, name, "ce") for name in ("sequential", "joint"))
    assert joint.get_thresholds("tumor") == pair.get_thresholds("tumor")
    answers = [list(system.predict(slices, slices)) for system in (pair, joint)]
    check_equal(*answers)
    inside = sum(float((tumor > 0).mean()) for _, tumor in answers[0])
    assert inside > 0.5, "the mask lets something through"
    assert joint.files == {
        "system": [run / "joint" / "system.json"],
        "nested": [
            run / "joint" / "nested" / "ce" / name for name in ("best.keras", "record.json")
        ],
    }


@pytest.mark.parametrize("name", ["sequential", "joint"])
def test_a_whole_case_gets_the_same_answers_with_each_slice_asked_once(
    run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = load_segmenter(run, name, "ce")
    expected = list(system.predict(slices, slices))
    asked: list[str] = []
    predict = inference.predict_slices

    def count(network: keras.Model, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for answer in predict(network, inputs):
            asked.append(network.name)
            yield answer

    monkeypatch.setattr(inference, "predict_slices", count)
    check_equal(system.predict_case(slices), expected)
    assert asked.count("liver") == asked.count("tumor") == len(list(slices(ONE_SLICE)))


def test_the_joint_system_for_the_liver_only(run: Path) -> None:
    pair, joint = (load_segmenter(run, name, "ce", True) for name in ("sequential", "joint"))
    check_equal(pair.predict(slices, slices), joint.predict(slices, slices))
    assert (choose_phase(run, "joint", liver_only=True), joint.targets) == ("ce", ("liver",))


def test_a_failed_network_is_named_once(run: Path) -> None:
    joint = load_segmenter(run, "joint", "ce")
    for record in joint.records.values():
        record |= {"target": "joint", "status": "collapsed", "why": "all is background"}
    assert joint.failure == "joint collapsed: all is background"
    assert joint.targets == ()
    with pytest.raises(InputError, match="joint_ce is not usable: joint collapsed"):
        joint.check_usable()
    classes = make_segmenter({"classes": Network(answer_classes)})
    assert classes.failure == ""
    classes.records["classes"] |= {"status": "collapsed", "why": "sees nothing"}
    assert classes.failure == "classes collapsed: sees nothing"
    assert classes.targets == ()


def test_where_one_network_of_a_pair_failed_its_thresholds_serve_nothing(run: Path) -> None:
    """They were chosen for both; a pair that decides at one half keeps its liver (below)."""
    pair = load_segmenter(run, "sequential", "ce")
    pair.records["tumor"] |= {"status": "collapsed", "why": "all is background"}
    assert pair.targets == ()


def test_points_of_the_joint_sweep_are_in_the_order_of_the_tables(
    run: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(run, tmp_path / "run")
    points = {
        "sweep_scratch_1": ("probability", "scratch", 1.0, 1.0),
        "sweep_pair_10": ("probability", "pair", 0.1818, 1.818),
        "sweep_pair_0.1": ("probability", "pair", 1.818, 0.1818),
        "sweep_pair_1_hard": ("hard", "pair", 1.0, 1.0),
    }
    for name, values in points.items():
        record = dict(zip(("mask", "start", "alpha", "beta"), values, strict=True))
        write_json(path / "joint" / "nested" / name / "record.json", record)
    assert [phase for _, phase in list_sweep_points(path)] == [
        "sweep_pair_1_hard",
        "sweep_pair_0.1",
        "sweep_pair_10",
        "sweep_scratch_1",
    ]
    assert list_finished_systems(path) == list_finished_systems(run), "points are no phases"


def test_what_is_not_finished_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="one_step is not finished; finished there: sequential, jo"
    ):
        choose_phase(run, "one_step")
    with pytest.raises(InputError, match="phase balanced of sequential, network liver, is not fin"):
        load_segmenter(run, "sequential", "balanced")
    with pytest.raises(InputError, match="not a run directory"):
        list_finished_systems(tmp_path)
    write_json(tmp_path / "run.json", {"size": 16, "synthetic": True})
    with pytest.raises(InputError, match="no system is finished"):
        list_finished_systems(tmp_path)


# --- How the other documents' systems decide ---


def test_three_classes_are_decided_by_the_most_probable() -> None:
    labels, livers = make_segmenter({"classes": Network(answer_classes)}).label_case(make_volume())
    hu = make_volume()
    np.testing.assert_array_equal(labels, np.where(hu == 60, 1, np.where(hu == 30, 2, 0)))
    np.testing.assert_array_equal(livers, labels > 0)
    assert labels.dtype == np.uint8


def test_smoothing_removes_what_is_a_single_pixel() -> None:
    """A Gaussian of variance 4 leaves a lone pixel 4 % of its own probability."""
    smooth = make_segmenter({"classes": Network(answer_classes)}, smoothing_variance=4.0)
    labels, _ = smooth.label_case(make_volume())
    assert labels[5, 15, 15] == 0
    assert labels[1, 8, 8] == 1


def test_the_gaussian_has_the_variance_that_is_set() -> None:
    """SD 0.5: p = 0.9 among 0.1 keeps g^2 = (1 / (1 + 2 exp(-2) + ...))^2 of 0.8."""
    probabilities = np.full((9, 9, 1), 0.1)
    probabilities[4, 4] = 0.9
    smoothed = make_segmenter({}, smoothing_variance=0.25)._smooth(probabilities)
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.25))
    assert smoothed[4, 4, 0] == pytest.approx(0.1 + 0.8 * (1 / kernel.sum()) ** 2)


def test_a_pair_is_decided_at_one_half_with_tumor_inside_the_liver() -> None:
    """The first finds liver and tumor, the second the tumor and the rim at 0 HU: no liver."""
    liver = Network(lambda batch: (batch > 0.2) * 0.51)
    tumor = Network(lambda batch: (batch < 0.45) * 0.51)
    labels, livers = make_segmenter({"liver": liver, "tumor": tumor}).label_case(make_volume())
    np.testing.assert_array_equal(labels == 2, make_volume() == 30)
    np.testing.assert_array_equal(labels == 1, make_volume() == 60)
    np.testing.assert_array_equal(livers, labels > 0)


@pytest.mark.parametrize("name", ["windowed", "equalised", "standardised"])
def test_the_input_is_made_as_in_training(name: str) -> None:
    seen: list[np.ndarray] = []

    def answer(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return np.repeat(batch, 3, axis=-1)

    options = {**WINDOWED, "name": name}
    store: Any = SimpleNamespace(
        image=lambda case: make_volume(), label=lambda case: np.zeros((6, 16, 16), np.uint8)
    )
    load = make_loader(store, "classes", {"classes": options})
    make_segmenter({"classes": Network(answer)}, options).label_case(make_volume())
    for row in range(len(make_volume())):
        np.testing.assert_array_equal(seen[0][row, ..., 0], load(("a", row))[0])


def test_an_input_may_read_the_neighbouring_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered from outside: three slices as channels, of an array and of a chunked volume."""
    stack = Input("three_slices", lambda hu, options, liver: np.moveaxis(hu, 0, -1), context=1)
    monkeypatch.setitem(INPUTS, stack.name, stack)
    seen: list[np.ndarray] = []

    def answer(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return np.repeat(batch[..., 1:2] / 100, 3, axis=-1)

    system = make_segmenter({"classes": Network(answer)}, {"name": "three_slices"})
    system.label_case(make_volume())
    hu = make_volume()
    np.testing.assert_array_equal(seen[0][2, ..., 0], hu[1])
    np.testing.assert_array_equal(seen[0][2, ..., 2], hu[3])
    np.testing.assert_array_equal(seen[0][0, ..., 0], hu[0], "the first stands for the one before")
    np.testing.assert_array_equal(seen[0][5, ..., 2], hu[5])
    volume = write_volume(tmp_path / "ct.nii")
    by_chunks = np.stack(list(take_volume_slices(volume, 16)({"name": "three_slices"})))
    alone = np.stack(list(take_volume_slices(volume, 16)(ONE_SLICE)))
    np.testing.assert_array_equal(by_chunks[:, 1], alone)
    np.testing.assert_array_equal(by_chunks[1:, 0], alone[:-1])


@pytest.mark.parametrize("targets", [("classes",), ("liver", "tumor")])
def test_nan_is_no_answer(targets: tuple[str, ...]) -> None:
    nothing = Network(lambda batch: np.full(batch.shape, np.nan))
    with pytest.raises(InputError, match="x: a probability of slice 0 is NaN; train it again"):
        make_segmenter(dict.fromkeys(targets, nothing)).label_case(make_volume())
    broken = make_pipeline([], [])
    broken.networks["tumor"] = nothing  # type: ignore[assignment]
    with pytest.raises(InputError, match="x: a probability of the tumor network is NaN"):
        broken.label_case(make_volume())


def test_where_the_tumor_s_network_failed_the_liver_is_a_result() -> None:
    both = make_segmenter({"liver": Network(find_liver), "tumor": Network(find_liver)})
    assert both.targets == ("liver", "tumor")
    both.records["tumor"] |= {"status": "collapsed", "why": "all of it"}
    assert both.targets == ("liver",)
    labels, livers = both.label_case(make_volume())
    np.testing.assert_array_equal(labels, make_volume() > 20)
    np.testing.assert_array_equal(labels, livers)
    with pytest.raises(InputError, match="tumor collapsed: all of it"):
        both.check_usable()
    both.check_usable(liver_only=True)
    in_3d = make_pipeline([], ["largest_liver", "tumor_contour"])
    in_3d.records["tumor"]["status"] = "diverged"
    del in_3d.networks["tumor"]  # of the first epoch, none was saved
    assert set(np.unique(in_3d.label_case(make_volume())[0])) == {0, 1}
    both.records["liver"]["status"] = "diverged"
    assert both.targets == ()


# --- The global and local pipeline ---


def make_pipeline(seen: list[np.ndarray], options: list[str]) -> Segmenter:
    def find_tumor(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return (batch < 0.45) * 0.9  # the tumor, and everything outside the liver

    networks = {"liver": Network(find_liver), "tumor": Network(find_tumor)}
    system = make_segmenter(networks, postprocess=options)
    for name, view, crop in (("liver", "global", [4, 16, 16]), ("tumor", "local", [4, 8, 8])):
        system.records[name]["inputs"][name] |= {"name": view, "crop": crop}
    return system


STEPS = ["largest_liver", "fill_holes", "inside_liver"]


def test_the_pipeline_looks_for_tumors_in_the_box_of_the_largest_liver() -> None:
    seen: list[np.ndarray] = []
    labels, _ = make_pipeline(seen, STEPS).label_case(make_volume())
    assert labels[5, 15, 15] == 0
    np.testing.assert_array_equal(labels == 2, make_volume() == 30)
    values = {round(float(value), 4) for batch in seen for value in np.unique(batch)}
    assert values == {0.0, 0.3, 0.6}
    assert all(batch.shape == (1, 4, 8, 8, 1) for batch in seen)


def test_each_network_of_the_pipeline_has_the_window_it_was_trained_with() -> None:
    """The liver at 60 HU is 1 in its window [0, 60]; in the tumor's, [0, 120], it is 0.5."""
    seen: dict[str, set[float]] = {"liver": set(), "tumor": set()}

    def answer(target: str) -> Network:
        def look(batch: np.ndarray) -> np.ndarray:
            seen[target] |= {round(float(value), 4) for value in np.unique(batch)}
            return find_liver(batch)

        return Network(look)

    trained = make_pipeline([], STEPS[:2])
    for target, high in (("liver", 60.0), ("tumor", 120.0)):
        trained.networks[target] = answer(target)  # type: ignore[assignment]
        trained.records[target]["inputs"][target]["window_hu"] = [0.0, high]
    trained.label_case(make_volume())
    assert seen == {"liver": {0.0, 0.5, 1.0}, "tumor": {0.0, 0.25, 0.5}}


def test_without_its_options_the_pipeline_keeps_what_the_networks_say() -> None:
    """Tumor outside the liver stays where nothing drops it, and the loose piece is liver."""
    labels, _ = make_pipeline([], []).label_case(make_volume())
    assert labels[5, 15, 15] == 1
    assert (labels[make_volume() == 0] == 2).any()
    labels, _ = make_pipeline([], STEPS[:1]).label_case(np.zeros((6, 16, 16), np.int16))
    assert not labels.any(), "no liver, no tumor"


def test_the_contour_starts_from_the_tumor_in_the_liver_and_is_the_last_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[np.ndarray] = []

    def contour(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
        seen.append(labels.copy())
        return np.full_like(labels, 2)

    monkeypatch.setattr(module, "move_tumor_contour", contour)
    moved, _ = make_pipeline([], [*STEPS, "tumor_contour"]).label_case(make_volume())
    without, _ = make_pipeline([], STEPS).label_case(make_volume())
    np.testing.assert_array_equal(without == 2, make_volume() == 30)
    assert (seen[0] == 2).sum() == (without == 2).sum()
    assert (moved == 2).sum() == seen[0].size


def test_a_system_with_a_contour_is_there_without_it_too(tmp_path: Path) -> None:
    model = build_unet(SIZE, widths=(4, 8))
    options = {"liver": {"name": "global", "crop": [4, 16, 16]}, "tumor": {"name": "local"}}
    networks = {name: (model, {"inputs": {name: options[name]}}) for name in options}
    settings = {"postprocess": [*STEPS, "tumor_contour"]}
    about: dict[str, Any] = {"phases": ["ce"], "decision": "half", "table1": False}
    write_system(tmp_path, "pipeline", networks, settings=settings, **about)
    names = ["pipeline", "pipeline_no_contour"]
    assert list_finished_systems(tmp_path) == [(name, "ce") for name in names]
    without = load_segmenter(tmp_path, names[1])
    assert (without.name, without.about.settings["postprocess"]) == (names[1], STEPS)
    assert without.about.folder == read_system(tmp_path, "pipeline").folder
    record = tmp_path / "pipeline" / "tumor" / "ce" / "record.json"
    write_json(record, {**read_json(record), "fit": {"best_epoch": 0}})
    assert set(load_segmenter(tmp_path, "pipeline").networks) == {"liver"}, "none was saved"


# --- Volumes on their own grid ---


def write_volume(path: Path) -> Volume:
    """Write `make_volume` with pixels split in two each way, first and last rows cut off."""
    hu = np.repeat(np.repeat(make_volume(), 2, axis=1), 2, axis=2)[:, 4:28]
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0), np.diag([0.5, 0.5, 2.5, 1])), path)
    return read_image(path, allow_non_hu=True)


def test_a_volume_is_labelled_on_its_own_grid(tmp_path: Path) -> None:
    """24 x 32 pixels are 16 x 16 of the network and come back."""
    ct = write_volume(tmp_path / "ct.nii")
    hu, livers = ct.slices(0, ct.n_slices), np.zeros(ct.shape, bool)
    trained = make_segmenter({"classes": Network(answer_classes)})
    labels = trained.segment(ct, livers=livers)
    for label, value in ((1, 60), (2, 30)):
        both = np.count_nonzero((labels == label) & (hu == value))
        assert 2 * both / (np.count_nonzero(labels == label) + np.count_nonzero(hu == value)) > 0.9
    np.testing.assert_array_equal(livers, labels > 0)
    np.testing.assert_array_equal(trained.segment(ct, liver_only=True), labels > 0)


def test_the_liver_of_the_pipeline_is_that_before_the_contour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "move_tumor_contour", lambda labels, image: np.full_like(labels, 2))
    trained = make_pipeline([], [*STEPS, "tumor_contour"])
    labels, livers = trained.label_case(make_volume())
    assert (labels[~livers] == 2).any()
    ct = write_volume(tmp_path / "ct.nii")
    alone = np.zeros(ct.shape, bool)
    labels = trained.segment(ct, livers=alone)
    assert (labels[~alone] == 2).any()
    np.testing.assert_array_equal(trained.segment(ct, liver_only=True), alone)


def test_a_volume_shorter_than_the_window_is_refused(tmp_path: Path) -> None:
    trained = make_segmenter({"classes": Network(answer_classes)}, depth=8)
    with pytest.raises(InputError, match=r"ct\.nii: has 6 slices, the 3D window takes 8"):
        trained.segment(write_volume(tmp_path / "ct.nii"))


def test_a_nan_in_a_volume_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(nib.Nifti1Image(draw_case(1)[0], np.diag([1.0, 1, 2, 1])), tmp_path / "ct.nii")
    system = load_segmenter(run, "sequential", "ce")

    def answer(self: Segmenter, all_slices: object, wanted: object) -> object:
        yield np.zeros((SIZE, SIZE)), np.full((SIZE, SIZE), np.nan)

    monkeypatch.setattr(Segmenter, "predict", answer)
    with pytest.raises(
        InputError, match="sequential_ce: a probability of slice 0 is NaN; train it"
    ):
        system.segment(read_image(tmp_path / "ct.nii"))
