"""Patients of several cohorts stay on one side; split lists travel between machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.cohorts.patients import NOT_BESIDE_IRCAD, find_shared_patients, identify_patient
from data.files import hash_json
from evaluation.evaluate import check_unseen
from tests.data.cohort_folders import (
    ct_and_masks,
    labels_of,
    make_ircad,
    make_lits,
    make_nifti,
    prepare,
    save,
)
from tests.data.conftest import refuses


def test_a_split_is_used_again_on_another_machine(tmp_path: Path) -> None:
    make_lits(tmp_path / "source")
    first = prepare(tmp_path / "source", tmp_path / "first", "--subset 2,1,1 --seed 3")
    second = prepare(
        tmp_path / "source", tmp_path / "second", "--split", str(tmp_path / "first" / "split.json")
    )
    assert second.split == first.split
    shutil.rmtree(tmp_path / "source" / "Training Batch 2")
    with refuses(r"split\.json: volume-30 of \w+ is not in the store"):
        prepare(
            tmp_path / "source",
            tmp_path / "third",
            "--split",
            str(tmp_path / "first" / "split.json"),
        )


def test_patients_of_several_cohorts() -> None:
    assert (
        identify_patient("lits", "volume-8")
        == identify_patient("msd", "liver_10")
        == "lits:volume-7"
    )
    assert (
        identify_patient("ircad", "3Dircadb1.20")
        == identify_patient("lits", "volume-47")
        == "lits:volume-47"
    )
    assert identify_patient("hospital", "volume-8") == "hospital:volume-8"
    assert len(NOT_BESIDE_IRCAD) == 22
    patients = {
        "volume-3": "lits:volume-3",
        "volume-27": "lits:volume-27",
        "volume-28": "lits:volume-28",
    }
    assert list(find_shared_patients(patients, [], "ircad")) == ["volume-27", "volume-28"]
    assert list(find_shared_patients(patients, ["lits:volume-3"], "nifti")) == ["volume-3"]


def test_patients_of_the_external_cohort_do_not_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ircad(tmp_path / "3Dircadb1")
    make_lits(tmp_path / "LITS")
    for number in (1, 2, 3, 4):
        hu, masks = ct_and_masks(20 + number)
        place = tmp_path / "LITS" / ("Training Batch 1" if number < 3 else "")
        save(place / f"volume-{number}.nii", hu)
        save(place / f"segmentation-{number}.nii", labels_of(masks, "tumor"))
    external = prepare(tmp_path / "3Dircadb1", tmp_path / "external", "--external")
    flags = ["--external-store", str(external.path)]
    with refuses(r"LITS: volume-30 show, or may show, patients of the external cohort ircad"):
        prepare(tmp_path / "LITS", tmp_path / "store", *flags)
    dropped = prepare(tmp_path / "LITS", tmp_path / "store", *flags, "--shared-patients drop")
    assert list(dropped.cases) == ["volume-1", "volume-2", "volume-3", "volume-4"]
    allowed = prepare(tmp_path / "LITS", tmp_path / "allowed", *flags, "--shared-patients allow")
    assert "volume-30" in allowed.cases
    assert allowed.info["shared_patients"]["cases"] == ["volume-30"]
    assert check_unseen(dropped, external) == []
    with pytest.raises(SystemExit):
        prepare(tmp_path / "LITS", tmp_path / "other", "--shared-patients allow")  # with whom?


def test_a_shared_patient_does_not_hide_behind_another_name(tmp_path: Path) -> None:
    """Joined to volume-30, a case is the external cohort's patient, too: both must not train."""
    make_ircad(tmp_path / "3Dircadb1")
    make_lits(tmp_path / "LITS")
    for number in (3, 4, 5):
        hu, masks = ct_and_masks(20 + number)
        save(tmp_path / "LITS" / f"volume-{number}.nii", hu)
        save(tmp_path / "LITS" / f"segmentation-{number}.nii", labels_of(masks, "tumor"))
    external = prepare(tmp_path / "3Dircadb1", tmp_path / "external", "--external")
    flags = ["--same-patient 3,30 --external-store", str(external.path)]
    with refuses(r"LITS: volume-3, volume-30 show, or may show"):
        prepare(tmp_path / "LITS", tmp_path / "store", *flags)
    loose = prepare(
        tmp_path / "LITS", tmp_path / "loose", "--same-patient 3,30 --test 4 --validation 5"
    )
    with refuses(r"external: its patients trained the run, or may have: .*volume-3, volume-30"):
        check_unseen(loose, external)


def test_the_same_voxels_do_not_train_and_test(tmp_path: Path) -> None:
    make_ircad(tmp_path / "3Dircadb1")
    make_nifti(tmp_path / "hospital")  # the same arrays under other names
    external = prepare(tmp_path / "3Dircadb1", tmp_path / "external", "--external")
    with refuses(r"é 1: the same voxels as 3Dircadb1\.1 of the external store"):
        prepare(tmp_path / "hospital", tmp_path / "store", "--external-store", str(external.path))
    with refuses("its patients trained the run"):
        check_unseen(prepare(tmp_path / "hospital", tmp_path / "store"), external)


SPLITS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no validation": (
        lambda s: s["slices"].pop("validation"),
        "must hold the sets train, validation, test",
    ),
    "half a row": (
        lambda s: s["slices"]["test"].update({next(iter(s["slices"]["test"])): [1.5]}),
        "whole numbers",
    ),
    "a row twice": (
        lambda s: s["slices"]["test"].update({next(iter(s["slices"]["test"])): [1, 1]}),
        "each row once",
    ),
    "no sets": (lambda s: s.update(slices=[]), "whole numbers"),
    "other volumes": (
        lambda s: s["n_slices"].update({"volume-1": 50}),
        "drawn from a volume-1 of 50 slices",
    ),
}


@pytest.mark.parametrize("fault", SPLITS)
def test_a_split_that_does_not_fit_is_refused(tmp_path: Path, fault: str) -> None:
    change, message = SPLITS[fault]
    make_lits(tmp_path / "source")
    split = prepare(tmp_path / "source", tmp_path / "first").split
    change(split)
    split["sha256"] = hash_json(split["slices"])
    (tmp_path / "split.json").write_text(json.dumps(split))
    with refuses(message):
        prepare(tmp_path / "source", tmp_path / "second", "--split", str(tmp_path / "split.json"))
