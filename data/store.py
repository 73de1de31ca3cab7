"""The slice store: every case of a cohort as square slices on disk.

STORE/store.json                    what it holds and the parameters it was made with
STORE/split.json                    see data.splits
STORE/cases/<case>/image.npy        int16 (n_slices, size, size), HU clipped to [-1024, 3071]
STORE/cases/<case>/label.npy        uint8 (n_slices, size, size), 0 other, 1 liver, 2 tumor
STORE/cases/<case>/case.json        the case's entry in store.json, and the files it was made from
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.command import InputError
from data.files import hash_json, read_json, write_json
from data.splits import check_split

SCHEMA = 2


class Store:
    """A finished slice store, opened without reading a voxel.

    Attributes:
        path: its folder.
        size: pixels per side.
        cohort: name of the cohort, "lits" unless its source says otherwise.
        layout: how its folder was read, a name in `data.cohorts.COHORTS`.
        synthetic: True for a phantom.
        info: the content of store.json.
        cases: per case (in numeric order) {"patient", "identity", "n_slices", "liver_rows",
            "tumor_rows", "spacing_mm", "native_shape", "orientation", "notes", "sha256_image",
            "sha256_label"}. Rows are slice indices; spacing_mm is (slice, row, column) of the
            source volume and native_shape its (rows, columns); notes are what was found odd or set
            right; identity is the patient in all cohorts (`data.cohorts.patients`); "clinical"
            where the cohort's spreadsheet has it.
        split: the content of split.json.
    """

    def __init__(self, path: Path, info: dict[str, Any], split: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self.split = split
        self.size: int = info["size"]
        self.cohort: str = info["cohort"]
        self.layout: str = info["layout"]
        self.synthetic: bool = info["synthetic"]
        self.cases: dict[str, dict[str, Any]] = info["cases"]

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the store in the folder `path`.

        Raises:
            InputError: missing, not a store, another schema, an array file missing, a split that
                does not fit.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such store (python -m data.prepare makes one)")
        info = _read_info(path)
        split_path = path / "split.json"
        split = read_json(split_path)
        check_split(split, info["cases"], str(split_path))
        for case in info["cases"]:
            for name in ("image.npy", "label.npy"):
                if not (path / "cases" / case / name).is_file():
                    raise InputError(f"{path / 'cases' / case / name}: missing from the store")
        return cls(path, info, split)

    @property
    def sha256(self) -> str:
        """Hash of what the store holds: voxels, size of the slices, split."""
        names = ("sha256_image", "sha256_label")
        voxels = {case: [entry[name] for name in names] for case, entry in self.cases.items()}
        return hash_json({"size": self.size, "split": self.split["sha256"], "voxels": voxels})

    def image(self, case: str) -> np.ndarray:
        """Return the memory-mapped HU of a case: int16 (n_slices, size, size)."""
        return self._open_array(case, "image.npy")

    def label(self, case: str) -> np.ndarray:
        """Return the memory-mapped labels of a case: uint8 (n_slices, size, size)."""
        return self._open_array(case, "label.npy")

    def _open_array(self, case: str, name: str) -> np.ndarray:
        path = self.path / "cases" / case / name
        try:
            array: np.ndarray = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise InputError(f"{path}: damaged, prepare the store again ({error})") from None
        return array

    def patient(self, case: str) -> str:
        """Return the patient of a case."""
        return self.cases[case]["patient"]

    def cases_of(self, set_name: str) -> list[str]:
        """Return the cases of a set ("train", "validation", ...), in order.

        A set that the split lacks raises an InputError.
        """
        chosen = self._find_set(set_name)
        return [case for case in self.cases if case in chosen]

    def slices(self, set_name: str) -> list[tuple[str, int]]:
        """Return (case, row) of every slice of a set, in order of case, then row.

        A set that the split lacks raises an InputError.
        """
        chosen = self._find_set(set_name)
        return [(case, row) for case in self.cases_of(set_name) for row in sorted(chosen[case])]

    def _find_set(self, set_name: str) -> dict[str, list[int]]:
        sets = self.split["slices"]
        if set_name not in sets:
            raise InputError(
                f"{self.path}: no set {set_name!r} in its split, it has {', '.join(sets)}"
            )
        return sets[set_name]


def _read_info(path: Path) -> dict[str, Any]:
    file = path / "store.json"
    if not file.is_file():
        raise InputError(f"{path}: not a slice store (no store.json in it)")
    info = read_json(file)
    needed = {"schema", "cohort", "layout", "synthetic", "size", "cases"}
    if not isinstance(info, dict) or "schema" not in info:
        raise InputError(f"{file}: not the description of a slice store")
    if info["schema"] != SCHEMA:
        raise InputError(
            f"{file}: schema {info['schema']}, this version reads {SCHEMA}; prepare it again"
        )
    if not needed <= info.keys():
        raise InputError(f"{file}: lacks {', '.join(sorted(needed - info.keys()))}")
    return info


class StoreWriter:
    """Builds a store as `STORE.partial` beside it; complete, it takes the name.

    It is a context manager. An error before the first finished case removes STORE.partial. A later
    one leaves the finished cases; the next run takes them over if their files are the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).resolve()  # "." has no name of its own
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self._cases = self.partial / "cases"

    def __enter__(self) -> StoreWriter:
        if self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise InputError(f"{self.path}: already exists")
        self._cases.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_empty = not any(self._cases.glob("[!.]*/case.json"))
        if kind is not None and self.partial.exists() and is_empty:
            shutil.rmtree(self.partial)

    def find_case(self, case: str, made_from: dict[str, Any]) -> dict[str, Any] | None:
        """Return the entry of a case that was finished from the same files, or None."""
        file = self._cases / case / "case.json"
        if not file.is_file():
            return None
        record = read_json(file, ("made_from", "entry"))
        return record["entry"] if record["made_from"] == made_from else None

    def write_case(
        self, case: str, made_from: dict[str, Any], fill: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        """Write one case, whole or not at all, and return its entry.

        Args:
            case: its name.
            made_from: what it depends on.
            fill: called with a folder, writes the two arrays and returns the entry.
        """
        temporary, final = self._cases / f".partial-{case}", self._cases / case
        for folder in (temporary, final):
            if folder.exists():
                shutil.rmtree(folder)
        temporary.mkdir()
        try:
            entry = fill(temporary)
            write_json(temporary / "case.json", {"made_from": made_from, "entry": entry})
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary)
            raise
        return entry

    def finish(self, info: dict[str, Any], split: dict[str, Any]) -> None:
        """Write store.json and split.json, drop other cases, give the store its name."""
        for folder in self._cases.iterdir():
            if folder.name not in info["cases"]:
                shutil.rmtree(folder)
        write_json(self.partial / "split.json", split)
        write_json(self.partial / "store.json", info)
        self.partial.rename(self.path)


def find_finished_store(
    path: Path, parameters: dict[str, Any], made_from: dict[str, Any] | None
) -> Store | None:
    """Return the finished store at a path if it was made as asked for, else None.

    Args:
        path: the store.
        parameters: as `store.json` records them.
        made_from: files of each case with size and time, as `store.json` records them; None where
            the source is gone, the store is then taken as it is.

    Raises:
        InputError: something else is at `path`, or the store was made with other parameters.
    """
    path = Path(path)
    # An empty folder may be filled; anything else there is the user's.
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not path.is_dir():
        raise InputError(f"{path}: exists and is not a folder")
    store = Store.open(path)
    # Another store's voxels must not pass for what was asked for.
    made_with = store.info.get("parameters", {})
    for name, value in parameters.items():
        if made_with.get(name) != value:
            raise InputError(
                f"{path}: made with {name} {made_with.get(name)!r}, now asked for {value!r}; "
                "choose another --store or remove this one"
            )
    if made_from is not None and store.info.get("made_from") != made_from:
        raise InputError(
            f"{path}: its source has changed since it was made; choose another --store or remove "
            "this one"
        )
    return store
