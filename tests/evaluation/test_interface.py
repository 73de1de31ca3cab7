"""The Python interface: the examples of its documentation, and a CT in each of its forms."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import evaluation
from data.command import InputError
from evaluation.score_table import read_table
from tests.conftest import ROOT
from tests.data.dicom_writers import write_series
from tests.evaluation.fake_out import write_out
from tests.evaluation.known_networks import make_image, make_run, make_scene, save


def test_the_examples_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that need a run or a CT find them in the working directory here."""
    monkeypatch.chdir(tmp_path)
    write_out(tmp_path / "out")
    make_run(tmp_path / "out" / "run")
    save(tmp_path / "scan.nii.gz", make_scene(5)[0])
    runner = doctest.DocTestRunner()
    for case in doctest.DocTestFinder().find(evaluation):
        for example in case.examples:
            example.options.pop(doctest.SKIP, None)
        runner.run(case)
    assert runner.failures == 0
    assert runner.tries > 10
    assert (tmp_path / "labels.nii.gz").is_file()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import evaluation, sys; print(sorted({'numpy', 'pandas', 'keras'} & set(sys.modules)))"
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("form", ["path", "text", "file", "float array", "scaled", "dicom"])
def test_a_ct_in_any_form_gives_the_same_labels(known_run: Path, tmp_path: Path, form: str) -> None:
    hu, labels = make_scene(5)
    path = save(tmp_path / "ct.nii.gz", hu, "LSA")
    expected = make_image(labels, "LSA")
    image: object = path
    if form == "text":
        image = str(path)
    elif form == "file":
        image = nib.load(path)
    elif form == "float array":
        loaded = nib.load(path)
        image = nib.Nifti1Image(np.asarray(loaded.dataobj, np.float64), loaded.affine)
    elif form == "scaled":  # as stored: (HU + 1024) / 2
        image = make_image((hu + 1024) // 2, "LSA")
        image.header.set_slope_inter(2, -1024)
        nib.save(image, path)
        image = nib.load(path)
        assert image.dataobj.slope == 2
    elif form == "dicom":
        write_series(tmp_path / "dicom", hu)
        image, expected = tmp_path / "dicom", nib.Nifti1Image(labels.T, np.eye(4))
    result = evaluation.segment(image, known_run)
    np.testing.assert_array_equal(np.asarray(result.labels.dataobj), np.asarray(expected.dataobj))
    assert result.labels.get_data_dtype() == np.uint8
    assert result.probabilities == {}
    if form != "dicom":
        np.testing.assert_allclose(result.labels.affine, nib.load(path).affine)


def test_probabilities_lie_on_the_grid_of_the_image(known_run: Path) -> None:
    hu, labels = make_scene(5)
    image = make_image(hu, "LSA")
    result = evaluation.segment(image, known_run, phase="ce", probabilities=True)
    expected = np.asarray(make_image(labels, "LSA").dataobj)
    for target, inside in (("liver", expected > 0), ("tumor", expected == 2)):
        probability = result.probabilities[target]
        assert probability.get_data_dtype() == np.float32
        np.testing.assert_array_equal(probability.affine, image.affine)
        np.testing.assert_array_equal(np.asarray(probability.dataobj) > 0.5, inside)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "nowhere.nii"}, "nowhere.nii: no such file"),
        ({"image": nib.Nifti1Image(np.zeros((2, 2, 2, 2)), np.eye(4))}, "must have 3 axes"),
        ({"image": nib.Nifti1Image(np.full((2, 2, 2), np.nan), np.eye(4))}, "must be finite"),
        ({"image": nib.Nifti1Image(np.ones((2, 2, 2)), np.eye(4))}, "so not HU"),
        ({"system": "joint"}, "joint"),
        ({"run": "nowhere"}, "nowhere: not a run directory"),
    ],
)
def test_what_cannot_be_segmented(known_run: Path, change: dict[str, object], message: str) -> None:
    arguments = {"image": make_image(make_scene(5)[0]), "run": known_run} | change
    with pytest.raises(InputError, match=message):
        evaluation.segment(**arguments)


def test_the_table_of_scores_has_the_metrics(tmp_path: Path) -> None:
    write_out(tmp_path / "out")
    scores = evaluation.read_scores(tmp_path / "out")
    table = read_table(tmp_path / "out" / "scores.csv")
    assert len(scores) == len(table) > 0
    row = scores[(scores["tp"] > 0) & (scores["fp"] > 0)].iloc[0]
    assert row["dice"] == pytest.approx(2 * row["tp"] / (2 * row["tp"] + row["fp"] + row["fn"]))
    with pytest.raises(InputError, match="no such file"):
        evaluation.read_scores(tmp_path)
