"""HCC-TACE-Seg: the first study, the right contrast phase, the segments, the clinical table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.data.cohort_folders import ct_and_masks, labels_of, make_hcc, prepare
from tests.data.conftest import refuses
from tests.data.dicom_writers import write_seg, write_series


def test_the_clinical_spreadsheet_goes_with_its_patients(tmp_path: Path) -> None:
    make_hcc(tmp_path / "source")
    store = prepare(tmp_path / "source", tmp_path / "store")
    assert store.cases["HCC_002"]["clinical"] == {"age": 61, "AFP": 12.5}
    assert "clinical" not in store.cases["HCC_001"]


def test_hcc_takes_the_first_study_and_the_right_phase(tmp_path: Path) -> None:
    def phases(index: int, dataset: pydicom.Dataset) -> None:
        dataset.AcquisitionNumber = 7

    make_hcc(tmp_path / "source")
    study = tmp_path / "source" / "HCC-TACE-Seg" / "HCC_001" / "study"
    hu, masks = ct_and_masks(1)
    shutil.rmtree(study / "portal venous")
    uid = write_series(study / "portal venous", hu, change=phases)
    write_seg(
        study / "seg" / "1-1.dcm",
        study / "portal venous",
        {"Liver": masks["liver"], "Mass 1": masks["tumor"]},
    )
    write_series(
        study / "portal venous", hu - 50, uid=uid, name="other-{}.dcm"
    )  # another phase, same series
    store = prepare(tmp_path / "source", tmp_path / "store")
    np.testing.assert_array_equal(store.image("HCC_001"), hu)
    np.testing.assert_array_equal(store.label("HCC_001"), labels_of(masks, "tumor"))


def _later_seg(root: Path) -> None:
    patient = root / "HCC-TACE-Seg" / "HCC_002"
    shutil.rmtree(patient / "study" / "seg")
    write_seg(
        patient / "seg.dcm", patient / "later study" / "ct", {"Liver": ct_and_masks(2)[1]["liver"]}
    )


def _two_segs(root: Path) -> None:
    study = root / "HCC-TACE-Seg" / "HCC_002" / "study"
    write_seg(study / "again.dcm", study / "portal venous", {"Liver": ct_and_masks(2)[1]["liver"]})


def _unknown_segment(root: Path) -> None:
    study = root / "HCC-TACE-Seg" / "HCC_002" / "study"
    masks = ct_and_masks(2)[1]
    write_seg(
        study / "seg" / "1-1.dcm",
        study / "portal venous",
        {"Liver": masks["liver"], "Thrombus": masks["tumor"]},
    )


def _empty_liver(root: Path) -> None:
    study = root / "HCC-TACE-Seg" / "HCC_002" / "study"
    masks = ct_and_masks(2)[1]
    segments = {"Liver": masks["liver"] & False, "Mass": masks["tumor"]}
    write_seg(study / "seg" / "1-1.dcm", study / "portal venous", segments)


def _no_workbook(root: Path) -> None:
    (root / "HCC-TACE-Seg_clinical_data-V2.xlsx").write_bytes(b"PK and no more")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_later_seg, r"seg\.dcm: drawn on a later study than the first, of 20200101"),
        (_two_segs, "segments the same study; keep one of them"),
        (_unknown_segment, r"1-1\.dcm: has a segment 'thrombus' that is not known"),
        (_empty_liver, r"1-1\.dcm: the segment liver is empty"),
        (_no_workbook, r"clinical_data-V2\.xlsx: not a readable spreadsheet"),
    ],
)
def test_what_hcc_refuses(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    make_hcc(tmp_path / "source")
    damage(tmp_path / "source")
    with refuses(message):
        prepare(tmp_path / "source", tmp_path / "store")
