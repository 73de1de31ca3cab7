"""A trained model loaded from a run: the joint model is used as the pair it is made of; NaN is named."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest

from data.command import InputError
from data.files import write_json
from data.volumes import read_image
from evaluation import systems
from evaluation.predict import Options, Predictor
from evaluation.segmenters import PaperSegmenter, choose_system, segment
from evaluation.systems import System, finished_systems, load_system
from models.cascade import build_cascade
from models.unet import build_unet
from tests.conftest import draw_case

SIZE, S1 = 16, 0.45


def make_run(path: Path) -> Path:
    """Make a run whose joint model holds the networks of its sequential pair."""
    keras.utils.set_random_seed(3)
    nets = {
        stage: build_unet(SIZE, widths=(4, 8), dropout=0.2, name=stage)
        for stage in ("liver", "tumor")
    }
    write_json(path / "run.json", {"size": SIZE, "synthetic": True})
    thresholds = {stage: {"0.5": 0.5, "roc": 0.4, "iou": 0.6} for stage in nets}
    head = {"status": "ok", "why": "", "scaling": "liver_median", "mask_s1": S1}
    windows = {"liver": [-100, 400], "tumor": [0, 200]}
    for stage, network in nets.items():
        record = {**head, "thresholds": {stage: thresholds[stage]}, "window_hu": windows[stage]}
        write(path / stage / "ce", network, {**record, "validation": {stage: {"iou_at_roc": 0.5}}})
    record = {
        **head,
        "thresholds": thresholds,
        "window_hu": windows["liver"],
        "tumor_window_hu": windows["tumor"],
    }
    record["validation"] = {stage: {"iou_at_roc": 0.5} for stage in nets}
    write(path / "joint" / "ce", build_cascade(nets["liver"], nets["tumor"], S1), record)
    return path


def write(folder: Path, model: keras.Model, record: dict[str, object]) -> None:
    folder.mkdir(parents=True)
    model.save(folder / "best.keras")
    write_json(folder / "record.json", record)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("systems") / "run")


def slices() -> list[np.ndarray]:
    hu = draw_case(1)[0].T[:, ::2, ::2]
    return [np.ascontiguousarray(slice_, np.float32) for slice_ in hu]


def test_the_joint_model_answers_as_the_pair_it_is_made_of(run: Path) -> None:
    assert finished_systems(run) == [("sequential", "ce"), ("joint", "ce")]
    pair, joint = (load_system(run, model, "ce") for model in ("sequential", "joint"))
    assert joint.thresholds("tumor") == pair.thresholds("tumor")
    answers = [list(system.probabilities(slices, slices)) for system in (pair, joint)]
    for one, other in zip(*answers, strict=True):
        for found, wanted in zip(other, one, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert sum(float((tumor > 0).mean()) for _, tumor in answers[0]) > 0.5, (
        "the mask lets something through"
    )


@pytest.mark.parametrize("model", ["sequential", "joint"])
def test_a_whole_case_gets_the_same_answers_with_each_slice_asked_once(
    run: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = load_system(run, model, "ce")
    wanted = list(system.probabilities(slices, slices))
    asked: list[str] = []
    predict = systems.predict_slices

    def counted(network: keras.Model, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for answer in predict(network, inputs):
            asked.append(network.name)
            yield answer

    monkeypatch.setattr(systems, "predict_slices", counted)
    found = list(system.of_whole_case(slices))
    assert asked.count("liver") == asked.count("tumor") == len(slices())
    for one, other in zip(found, wanted, strict=True):
        for answer, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(answer, expected)


def test_the_joint_model_for_the_liver_only(run: Path) -> None:
    livers = [load_system(run, model, "ce", liver_only=True) for model in ("sequential", "joint")]
    for (one,), (other,) in zip(
        *(system.probabilities(slices, slices) for system in livers), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert choose_system(run, "joint", None, liver_only=True).name == "joint_ce"


def test_a_table_of_the_joint_model_names_its_own_file(run: Path, tmp_path: Path) -> None:
    """In a run that holds no pair: what was predicted from is joint/ce/best.keras."""
    alone = tmp_path / "run"
    shutil.copytree(run, alone)
    for stage in ("liver", "tumor"):
        shutil.rmtree(alone / stage)
    options = Options("roc", False, "", False, False, False)
    segmenter = PaperSegmenter(alone, load_system(alone, "joint", "ce"), SIZE, "roc", False)
    about = Predictor(alone, {"synthetic": True}, segmenter, options).about()
    wanted = hashlib.sha256((alone / "joint" / "ce" / "best.keras").read_bytes()).hexdigest()
    assert {stage: files["best.keras"] for stage, files in about["networks"].items()} == {
        "joint": wanted
    }


def test_a_failed_joint_phase_is_named_once(run: Path) -> None:
    joint = load_system(run, "joint", "ce")
    for record in joint.records.values():
        record |= {"status": "collapsed", "why": "all is background"}
    assert joint.failure == "joint collapsed: all is background"


def test_a_nan_in_a_volume_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(nib.Nifti1Image(draw_case(1)[0], np.diag([1.0, 1, 2, 1])), tmp_path / "ct.nii")
    system = load_system(run, "sequential", "ce")

    def broken(self: System, all_slices: object, wanted: object) -> object:
        yield np.zeros((SIZE, SIZE)), np.full((SIZE, SIZE), np.nan)

    monkeypatch.setattr(System, "probabilities", broken)
    with pytest.raises(
        InputError, match="sequential_ce: a probability of slice 0 is NaN; train it again"
    ):
        segment(system, read_image(tmp_path / "ct.nii"), SIZE)
