"""Every cohort's folder, written by the real writers, becomes a store with the same voxels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from data.cohorts import COHORTS, Options, choose_cohort, lits
from data.cohorts.ircad import choose_lesions
from data.command import InputError
from tests.data.cohort_folders import (
    MAKERS,
    N,
    ct_and_masks,
    labels_of,
    make_hcc,
    make_ircad,
    make_lits,
    make_nifti,
    prepare,
    save,
)
from tests.data.conftest import refuses
from tests.data.dicom_writers import SPACING, write_seg, write_series


@pytest.mark.parametrize("cohort", MAKERS)
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "recognised"])
def test_a_cohort_becomes_a_store_with_the_same_voxels(
    tmp_path: Path, cohort: str, is_named: bool
) -> None:
    source = tmp_path / "a source"
    names = MAKERS[cohort](source)
    store = prepare(source, tmp_path / "store", *(["--cohort", cohort] if is_named else []))
    assert (store.layout, list(store.cases), store.synthetic) == (cohort, names, False)
    assert store.cohort == ("a source" if cohort == "nifti" else cohort)
    for name in names:
        hu, masks = ct_and_masks(int("".join(filter(str.isdigit, name.split("1.")[-1]))))
        np.testing.assert_array_equal(store.image(name), hu)
        np.testing.assert_array_equal(store.label(name), labels_of(masks, "tumor"))
        assert store.cases[name]["spacing_mm"] == pytest.approx(SPACING)
        assert store.cases[name]["notes"] == []


def test_ircad_is_read_from_its_nested_zip_files(tmp_path: Path) -> None:
    make_ircad(tmp_path / "3Dircadb1")
    for patient in (tmp_path / "3Dircadb1").iterdir():
        for name in ("PATIENT_DICOM", "MASKS_DICOM"):
            shutil.make_archive(str(patient / name), "zip", patient, name)
            shutil.rmtree(patient / name)
    (tmp_path / "download").mkdir()
    shutil.make_archive(str(tmp_path / "download" / "3Dircadb1"), "zip", tmp_path, "3Dircadb1")
    zipped = prepare(tmp_path / "download", tmp_path / "zipped")
    loose = prepare(tmp_path / "3Dircadb1", tmp_path / "loose")
    assert zipped.sha256 == loose.sha256
    assert list(zipped.cases) == ["3Dircadb1.1", "3Dircadb1.2", "3Dircadb1.10"]


def test_ircad_lesions_are_chosen_by_name(tmp_path: Path) -> None:
    make_ircad(tmp_path / "source")
    flags = ["--cohort ircad --lesions tumors,cysts"]
    store = prepare(tmp_path / "source", tmp_path / "store", *flags)
    _, masks = ct_and_masks(1)
    np.testing.assert_array_equal(store.label("3Dircadb1.1"), labels_of(masks, "tumor", "cyst"))
    names = [
        "liver",
        "livertumor02",
        "livertumor1",
        "livercyst",
        "metastasectomie",
        "tumor",
        "livertumors",
    ]
    assert choose_lesions(names, ("tumors",)) == ["livertumor1", "livertumor02", "livertumors"]
    assert choose_lesions(names, ("metastases",)) == []  # patient 14's is the cavity of a resection


def test_a_run_that_is_resumed_with_other_lesions_takes_nothing_over(tmp_path: Path) -> None:
    make_ircad(tmp_path / "source")
    bad = tmp_path / "source" / "3Dircadb1.2" / "PATIENT_DICOM" / "image_3"
    bad.write_bytes(bad.read_bytes()[:-20])
    with refuses("image_3: its pixels cannot be read"):
        prepare(tmp_path / "source", tmp_path / "store")
    flags = ["--cohort ircad --lesions tumors,cysts --skip-bad"]
    with refuses("at least 3 patients"):
        prepare(tmp_path / "source", tmp_path / "store", *flags)
    make_ircad(tmp_path / "whole")
    shutil.rmtree(tmp_path / "source")
    (tmp_path / "whole").rename(tmp_path / "source")
    store = prepare(tmp_path / "source", tmp_path / "store", *flags)
    np.testing.assert_array_equal(
        store.label("3Dircadb1.1"), labels_of(ct_and_masks(1)[1], "tumor", "cyst")
    )


def test_patterns_pair_any_folder(tmp_path: Path) -> None:
    make_nifti(tmp_path / "source")
    (tmp_path / "source" / "labels").rename(tmp_path / "source" / "truth [1]")
    for path in (tmp_path / "source" / "truth [1]").iterdir():
        path.rename(path.with_name(f"seg_{path.name}"))
    flags = "--cohort nifti --labels 'truth [1]/seg_{case}.nii.gz'"
    assert len(prepare(tmp_path / "source", tmp_path / "store", flags).cases) == 3
    with refuses(r"a pattern must hold \{case\} once"):
        prepare(tmp_path / "source", tmp_path / "other", "--cohort nifti --labels labels/*.nii.gz")


def test_cases_are_named_by_name_or_number(tmp_path: Path) -> None:
    make_hcc(tmp_path / "source")
    store = prepare(tmp_path / "source", tmp_path / "store", "--test HCC_010 --validation 2")
    assert (store.cases_of("test"), store.cases_of("validation")) == (["HCC_010"], ["HCC_002"])


def _no_json(root: Path) -> None:
    (root / "dataset.json").unlink()


def _other_task(root: Path) -> None:
    (root / "dataset.json").write_text(
        '{"labels": {"0": "background", "1": "spleen"}, "training": []}'
    )


def _no_label(root: Path) -> None:
    (root / "labelsTr" / "liver_2.nii.gz").unlink()


def _no_liver(root: Path) -> None:
    shutil.rmtree(root / "3Dircadb1.2" / "MASKS_DICOM" / "liver")


def _no_masks(root: Path) -> None:
    shutil.rmtree(root / "3Dircadb1.2" / "MASKS_DICOM")


def _mask_slice(root: Path) -> None:
    (root / "3Dircadb1.2" / "MASKS_DICOM" / "livertumor01" / "image_1").unlink()


def _no_seg(root: Path) -> None:
    shutil.rmtree(root / "HCC-TACE-Seg" / "HCC_002" / "study" / "seg")


def _no_ct(root: Path) -> None:
    shutil.rmtree(root / "HCC-TACE-Seg" / "HCC_002" / "study" / "portal venous")


def _no_column(root: Path) -> None:
    (root / "HCC-TACE-Seg_clinical_data-V2.xlsx").unlink()
    (root / "clinical.csv").write_text("patient,age\nHCC_001,61\n")


def _seg_without_liver(root: Path) -> None:
    study = root / "HCC-TACE-Seg" / "HCC_002" / "study"
    write_seg(
        study / "seg" / "1-1.dcm", study / "portal venous", {"Mass": ct_and_masks(2)[1]["tumor"]}
    )


FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("msd", _no_json, r"dataset\.json: no such file"),
    ("msd", _other_task, "its labels must be 0 background, 1 liver, 2 cancer"),
    ("msd", _no_label, r"labelsTr/liver_2\.nii\.gz: no such file"),
    ("ircad", _no_liver, r"3Dircadb1\.2/MASKS_DICOM: no mask of the liver"),
    ("ircad", _no_masks, r"3Dircadb1\.2: no MASKS_DICOM or MASKS_DICOM\.zip"),
    ("ircad", _mask_slice, r"livertumor01: its shape \(16, 16, 4\) is not that of PATIENT_DICOM"),
    ("hcc-tace-seg", _no_seg, "HCC_002: no DICOM SEG in it"),
    ("hcc-tace-seg", _no_ct, r"1-1\.dcm: references series .*, which is not in .*HCC_002"),
    ("hcc-tace-seg", _no_column, r"clinical\.csv: no column TCIA_ID"),
    ("hcc-tace-seg", _seg_without_liver, r"1-1\.dcm: has no segment liver, its segments are mass"),
    (
        "nifti",
        lambda root: (root / "labels" / "é 2.nii.gz").unlink(),
        r"images/é 2\.nii\.gz: no labels/é 2\.nii\.gz",
    ),
]


@pytest.mark.parametrize(("cohort", "damage", "message"), FAULTS)
def test_what_a_cohort_refuses(
    tmp_path: Path, cohort: str, damage: Callable[[Path], None], message: str
) -> None:
    MAKERS[cohort](tmp_path / "source")
    damage(tmp_path / "source")
    with refuses(message):
        prepare(tmp_path / "source", tmp_path / "store", "--cohort", cohort)
    assert not (tmp_path / "store").exists()


def test_false_spacing_of_lits_is_replaced_where_it_is_known(tmp_path: Path) -> None:
    """Volume 31 is patient 4 of 3D-IRCADb: 91 slices of 0.74 x 0.74 x 2.0 mm."""
    ones = (1.0, 1.0, 1.0)
    hu, masks = ct_and_masks(31)
    source = tmp_path / "source"
    for number, slices in ((1, 5), (31, 91), (32, 91)):
        repeats = np.arange(slices) % N
        for kind, array in (
            ("volume", hu[repeats] + number),
            ("segmentation", labels_of(masks, "tumor")[repeats]),
        ):
            affine = np.eye(4)
            image = nib.Nifti1Image(
                array.transpose(2, 1, 0), affine
            )  # as the files are: no direction, no spacing
            source.mkdir(exist_ok=True)
            nib.save(image, source / f"{kind}-{number}.nii")
    store = prepare(source, tmp_path / "store")
    assert store.cases["volume-31"]["spacing_mm"] == pytest.approx([2.0, 0.74, 0.74])
    assert (
        store.cases["volume-31"]["notes"][0]
        == "false spacing of 1 mm replaced by 0.74 x 0.74 x 2 mm"
    )
    for case in ("volume-1", "volume-32"):  # no patient of 3D-IRCADb; patient 5 has 139 slices
        assert store.cases[case]["spacing_mm"] == list(ones)
        assert store.cases[case]["notes"][0].startswith("its header says 1 x 1 x 1 mm, hardly true")
    # Under the identity the liver of these arrays lies on the left; no spine, so none is mirrored.
    for case in ("volume-1", "volume-31"):
        assert store.cases[case]["notes"][1].endswith(
            "is the affine right? (too little to tell whether to mirror it)"
        )


def test_the_list_of_spacings_is_whole() -> None:
    assert len(lits.IRCAD_SPACING) == 20
    assert all(
        0.5 < spacing[0] == spacing[1] < 0.9 and 1 <= spacing[2] <= 4
        for spacing, _ in lits.IRCAD_SPACING
    )
    assert lits.look_up_spacing(28, 129) == (0.57, 0.57, 1.6)
    assert lits.look_up_spacing(47, 225) == (0.81, 0.81, 2.0)
    assert lits.look_up_spacing(48, 225) is None


def test_lits_as_its_archives_unpack(tmp_path: Path) -> None:
    deep = tmp_path / "source" / "media" / "nas" / "01_Datasets" / "CT" / "LITS"
    assert make_lits(deep) == list(prepare(tmp_path / "source", tmp_path / "store").cases)


def test_masks_are_taken_as_stored(tmp_path: Path) -> None:
    """A rescale in a mask's header, copied from its CT, changes nothing; an empty one fails."""

    def rescaled(_: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleIntercept = -1024

    make_ircad(tmp_path / "source")
    hu, masks = ct_and_masks(1)
    folder = tmp_path / "source" / "3Dircadb1.1" / "MASKS_DICOM"
    write_series(
        folder / "liver", hu, name="image_{}", stored=masks["liver"] * 255, change=rescaled
    )
    store = prepare(tmp_path / "source", tmp_path / "store")
    np.testing.assert_array_equal(store.label("3Dircadb1.1"), labels_of(masks, "tumor"))
    write_series(folder / "liver", hu, name="image_{}", stored=masks["liver"] * 0)
    with refuses("liver: the mask of the liver is empty"):
        prepare(tmp_path / "source", tmp_path / "other")


def test_images_and_labels_in_one_folder(tmp_path: Path) -> None:
    for number in range(3):
        hu, masks = ct_and_masks(number)
        save(tmp_path / "source" / f"{number}.nii.gz", hu)
        save(tmp_path / "source" / f"{number}_seg.nii.gz", labels_of(masks, "tumor"))
    flags = "--cohort nifti --images {case}.nii.gz --labels {case}_seg.nii.gz"
    assert list(prepare(tmp_path / "source", tmp_path / "store", flags).cases) == ["0", "1", "2"]


def test_auto_names_the_choices_where_nothing_fits(tmp_path: Path) -> None:
    with refuses(r"no pair volume-N.*--cohort lits, msd, ircad, hcc-tace-seg, nifti"):
        choose_cohort("auto", tmp_path)
    for name, cohort in COHORTS.items():
        assert cohort.name == name
        with pytest.raises(InputError):
            cohort.find_cases(tmp_path, Options())
