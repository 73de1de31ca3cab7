"""The run directory: flags that are refused in one line, the preset that fits, whose run it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data.command import InputError, run_command
from data.store import Store
from tests.conftest import ROOT, Command
from tests.training.conftest import TINY, open_tiny
from training import liver
from training.presets import PRESETS
from training.run import find_fitting_preset, open_run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "nope"), "unknown preset"),
        (("--store", "missing"), "missing: no such store"),
        (("--seed", "-1"), "must be from 0 to 2**32 - 1"),
        (("--set", "depth=3"), "no field depth"),
        (("--set", "filters='x'"), "filters must be of the kind of 8"),
        (("--set", "filters=True"), "filters must be of the kind of 8"),
        (
            ("--set", "liver_epochs=(2.5,1)"),
            f"liver_epochs must be of the kind of {PRESETS['smoke'].liver_epochs}",
        ),
        (
            ("--set", "liver_window_hu=(0,)"),
            "liver_window_hu must be of the kind of (-100.0, 400.0)",
        ),
        (("--set", "subset=(1,2,3)"), "data.prepare --subset decides it"),
        (
            ("--set", "size=64"),
            "its slices of 32 px are not those of preset smoke+size=32+size=64, 64 px",
        ),
        (("--seed", str(2**32)), "must be from 0 to 2**32 - 1"),
        (("--set", "poolings=6"), "needs a multiple of 64"),
        (("--set", "dropout=2.0"), "dropout is out of its range"),
        (("--set", "liver_epochs=(0,1)"), "liver_epochs is out of its range"),
        (("--set", "precision=foo"), "precision is out of its range"),
        (
            ("--set", "mask_threshold_rule=foo"),
            "mask_threshold_rule is out of its range; there are 0.5, roc, iou",
        ),
        (("--phase", "late"), "invalid choice"),
    ],
)
def test_bad_flags_end_in_one_line(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    flags = ["--store", store.path, "--run", tmp_path / "run", "--preset", "smoke"]
    given = [str(flag) for flag in (*flags, "--set", "size=32", *arguments)]
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: liver.main(given), "training.liver")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("module", "flags", "words"),
    [
        ("liver", ("--store", "missing", "--run", "run"), "missing: no such store"),
        ("joint", ("--store", "s", "--run", "r", "--aplha", "1"), "did you mean --alpha?"),
        ("system", ("--store", "s", "--run", "r", "--name", "nope"), "unknown system; there are"),
        ("all_stages", ("--help",), "example:"),
        ("systems", ("segnet", "--preset", "demo"), "learning_rate = 0.01"),
        ("presets", ("demo",), "batch_normalization = False    [assumed: 2.2 mentions none]"),
    ],
)
def test_what_trains_nothing_needs_no_tensorflow(
    module: str, flags: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    code = f"""
        import sys
        from training.{module if module != "systems" else "systems.__main__"} import main
        from data.command import run_command
        heavy = ("tensorflow", "keras", "skimage", "sklearn", "matplotlib", "pydicom")
        try:
            sys.argv = ["training.{module}", *{flags!r}]
            run_command(main, "training.{module}")
        finally:
            assert not [name for name in heavy if name in sys.modules], sys.modules.keys()
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("size", "synthetic", "name"),
    [(64, True, "smoke"), (128, True, "demo"), (128, False, "mini"), (512, False, "paper")],
)
def test_without_a_preset_the_one_that_fits_the_store_is_taken(
    size: int, synthetic: bool, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store: Any = SimpleNamespace(path="STORE", size=size, synthetic=synthetic)
    assert find_fitting_preset(tmp_path, store) == name
    assert capsys.readouterr().out.startswith(f"preset {name}: it fits slices of {size} px of ")
    (tmp_path / "run.json").write_text(json.dumps({"preset": "mini-short+dropout=0.1"}))
    assert find_fitting_preset(tmp_path, store) == "mini-short"
    assert capsys.readouterr().out == f"preset mini-short: that of {tmp_path}\n"


def test_a_store_that_no_preset_fits_names_the_flags_that_help(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no preset fits slices of 32 px; --preset smoke --set"):
        open_run(tmp_path / "run", store.path, None, 0)


def test_whole_numbers_are_taken_where_a_preset_holds_fractions(
    store: Store, tmp_path: Path
) -> None:
    run = open_tiny(tmp_path / "run", store, "dropout=0", "liver_window_hu=(-50,200)")
    assert (run.preset.dropout, run.preset.liver_window_hu) == (0.0, (-50.0, 200.0))


def test_a_split_without_tumor_is_refused_before_the_run_exists(
    cohort: Path, store: Store, tmp_path: Path, run_module: Command
) -> None:
    healthy = tmp_path / "healthy"
    shutil.copytree(cohort, healthy)
    path = healthy / "segmentation-104.nii.gz"
    label = nib.load(path)
    nib.save(nib.Nifti1Image(np.minimum(np.asarray(label.dataobj), 1), label.affine), path)
    paths = ("--source", healthy, "--store", tmp_path / "store")
    sets = ("--size", 32, "--test", 105, "--validation", 104)
    assert run_module("data.prepare", *paths, *sets).returncode == 0
    with pytest.raises(InputError, match="no validation slice holds tumor"):
        open_run(tmp_path / "run", tmp_path / "store", "smoke", 0, TINY)
    assert not (tmp_path / "run").exists()
    assert open_run(tmp_path / "run", tmp_path / "store", "smoke", 0, TINY, False).seed == 0


def test_run_directory_of_another_preset_seed_or_folder_is_refused(
    store: Store, tmp_path: Path
) -> None:
    path = open_tiny(tmp_path / "run", store).path
    with pytest.raises(InputError, match="run directory of another preset: smoke"):
        open_run(path, store.path, "demo", 0, ["size=32"])
    with pytest.raises(InputError, match="run directory of another seed: 0, not 1"):
        open_run(path, store.path, "smoke", 1, TINY)
    (tmp_path / "photo.txt").write_text("mine")
    with pytest.raises(InputError, match="not a run directory, and not empty"):
        open_run(tmp_path, store.path, "smoke", 0, TINY)
    assert {entry.name for entry in tmp_path.iterdir()} == {"run", "photo.txt"}


@pytest.mark.parametrize("flag", ["--set", "--set-preset"])
def test_slices_of_another_size_name_the_flag_that_helps(
    flag: str, store: Store, tmp_path: Path
) -> None:
    """`--set` of training.system changes the system, that of the other commands the preset."""
    with pytest.raises(InputError, match=rf"\({flag} size=32 trains on them\)"):
        open_run(tmp_path / "run", store.path, "demo", 0, flag=flag)
