"""Every cohort's folder, written by the real writers, becomes a store with identical voxels and labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import pytest

from data.cohorts import COHORTS, Options, choose, lits
from data.cohorts.patients import NOT_BESIDE_IRCAD, patient_of, shared_patients
from data.command import InputError
from data.prepare import main
from data.store import Store
from tests.data.dicom_writers import SPACING, write_seg, write_series

N, SIDE = 5, 16


def ct_and_masks(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """HU (z, y, x) with a liver on the patient's right, a tumor and a cyst in it, and their masks."""
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
    nib.save(nib.Nifti1Image(canonical.T, np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])), path)


def make_lits(root: Path) -> list[str]:
    for number, batch in ((1, "Training Batch 1"), (2, "Training Batch 1"), (30, "Training Batch 2")):
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
        pairs.append({"image": f"./imagesTr/liver_{number}.nii.gz", "label": f"./labelsTr/liver_{number}.nii.gz"})
    (root / "imagesTr" / "._liver_1.nii.gz").write_bytes(b"the Mac's")
    content = {"labels": {"0": "background", "1": "liver", "2": "cancer"}, "training": pairs[::-1], "test": []}
    (root / "dataset.json").write_text(json.dumps(content))
    return ["liver_1", "liver_2", "liver_10"]


def make_ircad(root: Path) -> list[str]:
    for number in (1, 2, 10):
        hu, masks = ct_and_masks(number)
        patient = root / f"3Dircadb1.{number}"
        write_series(patient / "PATIENT_DICOM", hu, name="image_{}")
        one, other = masks["tumor"].copy(), masks["tumor"].copy()
        one[:, 6], other[:, 5] = False, False  # two lesions that make the tumor
        for name, mask in (
            ("liver", masks["liver"]),
            ("livertumor01", one),
            ("livertumor02", other),
            ("livercyst", masks["cyst"]),
            ("leftkidney", ~masks["liver"]),
        ):
            write_series(patient / "MASKS_DICOM" / name, hu, name="image_{}", stored=mask * 255, modality="OT")
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
        write_seg(patient / "study" / "seg" / "1-1.dcm", patient / "study" / "portal venous", segments)
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
    main(["--source", str(source), "--store", str(store), "--size", str(SIDE), *flags])
    return Store.open(store)


@pytest.mark.parametrize("cohort", MAKERS)
@pytest.mark.parametrize("said", [True, False], ids=["said", "recognised"])
def test_a_cohort_becomes_a_store_with_the_same_voxels(tmp_path: Path, cohort: str, said: bool) -> None:
    source = tmp_path / "a source"
    names = MAKERS[cohort](source)
    store = prepare(source, tmp_path / "store", *(["--cohort", cohort] if said else []))
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
    store = prepare(tmp_path / "source", tmp_path / "store", "--lesions", "tumors,cysts")
    _, masks = ct_and_masks(1)
    np.testing.assert_array_equal(store.label("3Dircadb1.1"), labels_of(masks, "tumor", "cyst"))


def test_the_clinical_spreadsheet_goes_with_its_patients(tmp_path: Path) -> None:
    make_hcc(tmp_path / "source")
    store = prepare(tmp_path / "source", tmp_path / "store")
    assert store.cases["HCC_002"]["clinical"] == {"age": 61, "AFP": 12.5}
    assert "clinical" not in store.cases["HCC_001"]


def test_patterns_pair_any_folder(tmp_path: Path) -> None:
    make_nifti(tmp_path / "source")
    (tmp_path / "source" / "labels").rename(tmp_path / "source" / "truth [1]")
    for path in (tmp_path / "source" / "truth [1]").iterdir():
        path.rename(path.with_name(f"seg_{path.name}"))
    flags = ["--cohort", "nifti", "--labels", "truth [1]/seg_{case}.nii.gz"]
    assert len(prepare(tmp_path / "source", tmp_path / "store", *flags).cases) == 3
    with pytest.raises(InputError, match=r"a pattern must hold \{case\} once"):
        prepare(tmp_path / "source", tmp_path / "other", "--cohort", "nifti", "--labels", "labels/*.nii.gz")


def test_cases_are_named_by_name_or_number(tmp_path: Path) -> None:
    make_hcc(tmp_path / "source")
    store = prepare(tmp_path / "source", tmp_path / "store", "--test", "HCC_010", "--validation", "2")
    assert (store.cases_of("test"), store.cases_of("validation")) == (["HCC_010"], ["HCC_002"])


def _no_json(root: Path) -> None:
    (root / "dataset.json").unlink()


def _other_task(root: Path) -> None:
    (root / "dataset.json").write_text('{"labels": {"0": "background", "1": "spleen"}, "training": []}')


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
    write_seg(study / "seg" / "1-1.dcm", study / "portal venous", {"Mass": ct_and_masks(2)[1]["tumor"]})


FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("msd", _no_json, r"dataset\.json: no such file"),
    ("msd", _other_task, "its labels must be 0 background, 1 liver, 2 cancer"),
    ("msd", _no_label, r"labelsTr/liver_2\.nii\.gz: named in dataset\.json and not there"),
    ("ircad", _no_liver, r"3Dircadb1\.2/MASKS_DICOM: no mask of the liver"),
    ("ircad", _no_masks, r"3Dircadb1\.2: no MASKS_DICOM or MASKS_DICOM\.zip"),
    ("ircad", _mask_slice, r"livertumor01: its shape \(16, 16, 4\) is not that of PATIENT_DICOM"),
    ("hcc-tace-seg", _no_seg, "HCC_002: no DICOM SEG in it"),
    ("hcc-tace-seg", _no_ct, r"1-1\.dcm: references series .*, which is not in .*HCC_002"),
    ("hcc-tace-seg", _no_column, r"clinical\.csv: no column TCIA_ID"),
    ("hcc-tace-seg", _seg_without_liver, r"1-1\.dcm: has no segment liver, only mass"),
    ("nifti", lambda root: (root / "labels" / "é 2.nii.gz").unlink(), r"images/é 2\.nii\.gz: no labels/é 2\.nii\.gz"),
]


@pytest.mark.parametrize(("cohort", "damage", "message"), FAULTS)
def test_what_a_cohort_refuses(tmp_path: Path, cohort: str, damage: Callable[[Path], None], message: str) -> None:
    MAKERS[cohort](tmp_path / "source")
    damage(tmp_path / "source")
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "source", tmp_path / "store", "--cohort", cohort)
    assert not (tmp_path / "store").exists()


def test_bad_cases_are_named_together_or_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_lits(tmp_path / "source")
    hu, masks = ct_and_masks(3)
    for number in (4, 5):
        save(tmp_path / "source" / f"volume-{number}.nii", hu + number)
        save(tmp_path / "source" / f"segmentation-{number}.nii", masks["liver"] * 7.0)
    with pytest.raises(InputError, match=r"segmentation-4\.nii: labels must be .* \(and 1 more of its cases"):
        prepare(tmp_path / "source", tmp_path / "store")
    assert "volume-5: cannot be used: " in capsys.readouterr().out
    store = prepare(tmp_path / "source", tmp_path / "store", "--skip-bad")
    assert list(store.cases) == ["volume-1", "volume-2", "volume-30"]
    assert set(store.info["skipped"]) == {"volume-4", "volume-5"}
    assert "left out as they cannot be used: volume-4, volume-5" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--jobs", "2"], ["--jobs", "2", "--backend", "threading"]])
def test_cases_in_parallel_give_the_same_store(tmp_path: Path, flags: list[str]) -> None:
    make_lits(tmp_path / "source")
    one = prepare(tmp_path / "source", tmp_path / "one")
    several = prepare(tmp_path / "source", tmp_path / "several", *flags)
    for path in (tmp_path / "one").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "several" / path.relative_to(tmp_path / "one")).read_bytes()
    assert list(several.cases) == list(one.cases)
    with pytest.raises(InputError, match="--backend nothing"):
        prepare(tmp_path / "source", tmp_path / "other", "--backend", "nothing")


def test_a_split_is_used_again_on_another_machine(tmp_path: Path) -> None:
    make_lits(tmp_path / "source")
    first = prepare(tmp_path / "source", tmp_path / "first", "--subset", "2,1,1", "--seed", "3")
    second = prepare(tmp_path / "source", tmp_path / "second", "--split", str(tmp_path / "first" / "split.json"))
    assert second.split == first.split
    shutil.rmtree(tmp_path / "source" / "Training Batch 2")
    with pytest.raises(InputError, match=r"split\.json: volume-30 of \w+ is not in the store"):
        prepare(tmp_path / "source", tmp_path / "third", "--split", str(tmp_path / "first" / "split.json"))


def test_false_spacing_of_lits_is_replaced_where_it_is_known(tmp_path: Path) -> None:
    """Volume 31 is patient 4 of 3D-IRCADb: 91 slices of 0.74 x 0.74 x 2.0 mm."""
    ones = (1.0, 1.0, 1.0)
    hu, masks = ct_and_masks(31)
    source = tmp_path / "source"
    for number, slices in ((1, 5), (31, 91), (32, 91)):
        repeats = np.arange(slices) % N
        for kind, array in (("volume", hu[repeats] + number), ("segmentation", labels_of(masks, "tumor")[repeats])):
            affine = np.eye(4)
            image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)  # as the files are: no direction, no spacing
            source.mkdir(exist_ok=True)
            nib.save(image, source / f"{kind}-{number}.nii")
    store = prepare(source, tmp_path / "store")
    assert store.cases["volume-31"]["spacing_mm"] == pytest.approx([2.0, 0.74, 0.74])
    assert store.cases["volume-31"]["notes"][0] == "false spacing of 1 mm replaced by 0.74 x 0.74 x 2 mm"
    for case in ("volume-1", "volume-32"):  # no patient of 3D-IRCADb; patient 5 has 139 slices
        assert store.cases[case]["spacing_mm"] == list(ones)
        assert store.cases[case]["notes"][0].startswith("its header says 1 x 1 x 1 mm, hardly true")
    # under the identity the liver of these arrays lies on the left: mirrored where the header is known to be false
    np.testing.assert_array_equal(store.label("volume-31")[2], labels_of(masks, "tumor")[2][::-1])
    assert "the liver is on the patient's left: is the affine right?" in store.cases["volume-1"]["notes"][1]


def test_the_list_of_spacings_is_whole() -> None:
    assert len(lits.IRCAD_SPACING) == 20
    assert all(0.5 < spacing[0] == spacing[1] < 0.9 and 1 <= spacing[2] <= 4 for spacing, _ in lits.IRCAD_SPACING)
    assert lits.true_spacing(28, 129) == (0.57, 0.57, 1.6)
    assert lits.true_spacing(47, 225) == (0.81, 0.81, 2.0)
    assert lits.true_spacing(48, 225) is None


def test_patients_of_several_cohorts() -> None:
    assert patient_of("lits", "volume-8") == patient_of("msd", "liver_10") == "lits:volume-7"
    assert patient_of("ircad", "3Dircadb1.20") == patient_of("lits", "volume-47") == "lits:volume-47"
    assert patient_of("hospital", "volume-8") == "hospital:volume-8"
    assert len(NOT_BESIDE_IRCAD) == 22
    patients = {"volume-3": "lits:volume-3", "volume-27": "lits:volume-27", "volume-28": "lits:volume-28"}
    assert list(shared_patients(patients, [], "ircad")) == ["volume-27", "volume-28"]
    assert list(shared_patients(patients, ["lits:volume-3"], "nifti")) == ["volume-3"]


def test_patients_of_the_external_cohort_do_not_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_ircad(tmp_path / "3Dircadb1")
    make_lits(tmp_path / "LITS")
    for number in (3, 4):
        hu, masks = ct_and_masks(number)
        save(tmp_path / "LITS" / f"volume-{number}.nii", hu)
        save(tmp_path / "LITS" / f"segmentation-{number}.nii", labels_of(masks, "tumor"))
    external = prepare(tmp_path / "3Dircadb1", tmp_path / "external", "--external")
    flags = ["--external-store", str(external.path)]
    with pytest.raises(InputError, match=r"LITS: volume-30 show, or may show, patients of the external cohort ircad"):
        prepare(tmp_path / "LITS", tmp_path / "store", *flags)
    dropped = prepare(tmp_path / "LITS", tmp_path / "store", *flags, "--shared-patients", "drop")
    assert list(dropped.cases) == ["volume-1", "volume-2", "volume-3", "volume-4"]
    allowed = prepare(tmp_path / "LITS", tmp_path / "allowed", *flags, "--shared-patients", "allow")
    assert "volume-30" in allowed.cases
    assert allowed.info["shared_patients"] == {"external": {"volume-30": "lits:volume-30"}, "policy": "allow"}


def test_auto_names_the_choices_where_nothing_fits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pair volume-N.*--cohort lits, msd, ircad, hcc-tace-seg, nifti"):
        choose("auto", tmp_path)
    for name, cohort in COHORTS.items():
        assert cohort.name == name
        with pytest.raises(InputError):
            cohort.find_cases(tmp_path, Options())
