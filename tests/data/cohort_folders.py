"""Every public cohort in small, as it is downloaded: five slices of 16 x 16, liver, tumor, cyst."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl

from data.prepare import main
from data.store import Store
from tests.data.dicom_writers import SPACING, write_seg, write_series

N, SIDE = 5, 16


def ct_and_masks(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """HU (z, y, x) with a liver on the patient's right, a tumor and a cyst in it, and masks."""
    hu = np.random.default_rng(number).integers(-1000, 140, (N, SIDE, SIDE)).astype(np.int16)
    masks = {name: np.zeros(hu.shape, bool) for name in ("liver", "tumor", "cyst")}
    masks["liver"][1:4, 4:12, 2:8] = True
    masks["tumor"][2, 5:7, 3:5] = True
    masks["cyst"][1, 9:11, 3:6] = True
    return hu, masks


def labels_of(masks: dict[str, np.ndarray], *lesions: str) -> np.ndarray:
    labels = masks["liver"].astype(np.uint8)
    for lesion in lesions:
        labels[masks[lesion]] = 2
    return labels


def save(path: Path, canonical: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> None:
    """Write (z, y, x) with x to the left, y to the back, z to the head as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(
        nib.Nifti1Image(canonical.T, np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])), path
    )


def make_lits(root: Path) -> list[str]:
    for number, batch in (
        (1, "Training Batch 1"),
        (2, "Training Batch 1"),
        (30, "Training Batch 2"),
    ):
        hu, masks = ct_and_masks(number)
        save(root / batch / f"volume-{number}.nii", hu)
        save(root / batch / f"segmentation-{number}.nii", labels_of(masks, "tumor"))
    return ["volume-1", "volume-2", "volume-30"]


def make_msd(root: Path) -> list[str]:
    pairs = []
    for number in (1, 2, 10):
        hu, masks = ct_and_masks(number)
        save(root / "imagesTr" / f"liver_{number}.nii.gz", hu)
        save(root / "labelsTr" / f"liver_{number}.nii.gz", labels_of(masks, "tumor"))
        pairs.append(
            {
                "image": f"./imagesTr/liver_{number}.nii.gz",
                "label": f"./labelsTr/liver_{number}.nii.gz",
            }
        )
    (root / "imagesTr" / "._liver_1.nii.gz").write_bytes(b"the Mac's")
    content = {
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": pairs[::-1],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return ["liver_1", "liver_2", "liver_10"]


def make_ircad(root: Path) -> list[str]:
    for number in (1, 2, 10):
        hu, masks = ct_and_masks(number)
        patient = root / f"3Dircadb1.{number}"
        write_series(patient / "PATIENT_DICOM", hu, name="image_{}")
        upper, lower = masks["tumor"].copy(), masks["tumor"].copy()
        upper[:, 6], lower[:, 5] = False, False  # two lesions that make the tumor
        for name, mask in (
            ("liver", masks["liver"]),
            ("livertumor01", upper),
            ("livertumor02", lower),
            ("livercyst", masks["cyst"]),
            ("leftkidney", ~masks["liver"]),
        ):
            write_series(
                patient / "MASKS_DICOM" / name,
                hu,
                name="image_{}",
                stored=mask * 255,
                modality="OT",
            )
    return ["3Dircadb1.1", "3Dircadb1.2", "3Dircadb1.10"]


def make_hcc(root: Path) -> list[str]:
    for number in (1, 2, 10):
        hu, masks = ct_and_masks(number)
        patient = root / "HCC-TACE-Seg" / f"HCC_{number:03d}"
        write_series(patient / "later study" / "ct", hu[::-1].copy(), study_date="20200601")
        write_series(patient / "study" / "arterial", hu - 5)
        write_series(patient / "study" / "portal venous", hu)
        segments = {"Liver": masks["liver"], "Mass": masks["tumor"], "Portal vein": masks["cyst"]}
        segments["Abdominal aorta"] = ~masks["liver"]
        write_seg(
            patient / "study" / "seg" / "1-1.dcm", patient / "study" / "portal venous", segments
        )
    book = openpyxl.Workbook()
    book.active.append(["TCIA_ID", "age", "AFP"])
    book.active.append(["HCC_002", 61, 12.5])
    book.save(root / "HCC-TACE-Seg_clinical_data-V2.xlsx")
    return ["HCC_001", "HCC_002", "HCC_010"]


def make_nifti(root: Path) -> list[str]:
    for number in (1, 2, 10):
        hu, masks = ct_and_masks(number)
        save(root / "images" / f"é {number}.nii.gz", hu)
        save(root / "labels" / f"é {number}.nii.gz", labels_of(masks, "tumor"))
    return ["é 1", "é 2", "é 10"]


MAKERS: dict[str, Callable[[Path], list[str]]] = {
    "lits": make_lits,
    "msd": make_msd,
    "ircad": make_ircad,
    "hcc-tace-seg": make_hcc,
    "nifti": make_nifti,
}


def prepare(source: Path, store: Path, *flags: str) -> Store:
    """Run data.prepare; a flag may be a whole command line."""
    parts = [part for flag in flags for part in shlex.split(flag)]
    main(["--source", str(source), "--store", str(store), "--size", str(SIDE), *parts])
    return Store.open(store)
