"""The README's results are exactly what the published records give, for every experiment."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.command import InputError
from data.files import write_json
from evaluation import publish
from evaluation.experiments import (
    EXPERIMENTS,
    FOLDS,
    RUNS,
    SPLITS,
    SYSTEMS,
    Experiment,
    Layout,
    list_tables,
    register_experiment,
)
from evaluation.publish import PUBLISHED, ROOT, list_published, make_block, read_records
from evaluation.results import read_results
from evaluation.score_table import read_table, select, write_table
from tests.evaluation.fake_out import write_out
from tests.evaluation.tables.test_folds import make_record
from tests.evaluation.tables.test_systems import RECORDS

EMPTY = "before\n<!-- results: x -->\n<!-- end of results: x -->\nafter\n"
COMMAND = "bash reproduce.sh"


@pytest.fixture(scope="module")
def published() -> dict[str, list[Any]]:
    """The records of every experiment."""
    return {
        name: read_records(experiment, list_published(name))
        for name, experiment in EXPERIMENTS.items()
    }


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_readme_and_pages_show_the_published_records(
    name: str, published: dict[str, list[Any]]
) -> None:
    experiment, records = EXPERIMENTS[name], published[name]
    assert make_block(experiment, records) in (ROOT / "README.md").read_text(encoding="utf-8")
    for page in experiment.layout.pages:
        path = PUBLISHED / name / page.file
        text = page.make(name, records) if page.published else ""
        assert (path.read_text(encoding="utf-8") if path.is_file() else "") == text
    figure = experiment.layout.figure
    assert figure is None or (PUBLISHED / name / f"{figure.name}.png").is_file()


def test_every_block_and_folder_is_an_experiment() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"^<!-- results: (\S+) -->$", readme, re.MULTILINE)
    assert sorted(names) == sorted(EXPERIMENTS)
    assert sorted(path.name for path in PUBLISHED.iterdir()) == sorted(EXPERIMENTS)


@pytest.mark.parametrize("name", [n for n, e in EXPERIMENTS.items() if e.layout.keeps_split])
def test_the_published_list_of_slices_is_that_of_the_records(name: str) -> None:
    split = json.loads((PUBLISHED / name / "split.json").read_text())
    canonical = json.dumps(split["slices"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == split["sha256"]
    for path in list_published(name):
        assert read_results(path).data["split_sha256"] == split["sha256"]


# --- Made-up experiments. ---


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A house of its own, whose README has the block x; experiments registered in it go again."""
    (tmp_path / "README.md").write_text(EMPTY)
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(publish, "PUBLISHED", tmp_path / "published")
    before = dict(EXPERIMENTS)
    yield tmp_path
    EXPERIMENTS.clear()
    EXPERIMENTS.update(before)


def register(layout: Layout = RUNS, name: str = "x", beside: str = "") -> Experiment:
    return register_experiment(Experiment(name, "Made up", COMMAND, layout, beside))


def draw_pictures(out: Path) -> Path:
    """Write the figures that are published of a synthetic run."""
    (out / "figures").mkdir()
    for name in RUNS.pictures:
        Image.new("RGB", (4, 4)).save(out / "figures" / f"{name}.png")
    return out


def run(*arguments: str | Path) -> None:
    publish.main(["--name", "x", *map(str, arguments)])


def list_files(house: Path, name: str = "x") -> set[str]:
    return {path.name for path in (house / "published" / name).iterdir()}


def test_block_by_hand(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register()
    folders = [draw_pictures(write_out(house / f"seed{seed}", seed)) for seed in (0, 1)]
    run(*folders)
    assert capsys.readouterr().out == "README.md: block x rewritten from seed0, seed1\n"
    text = (house / "README.md").read_text()
    assert text.startswith("before\n<!-- results: x -->\n")
    assert text.endswith("<!-- end of results: x -->\nafter\n")
    pictures = {f"{name}.png" for name in RUNS.pictures}
    records = {f"seed{seed}.{ending}" for seed in (0, 1) for ending in ("json", "scores.csv")}
    pages = {"claims.md", "postprocessing.md", "split.json"}
    assert list_files(house) == pictures | records | pages
    assert "95 % interval" not in text  # the seeds have their own spread
    key = {"cohort": "test", "target": "tumor", "system": "sequential", "phase": "balanced"}
    values = [read_results(folder).find(**key, rule="roc").iou for folder in folders]
    mean = sum(values) / 2
    sd = (sum((value - mean) ** 2 for value in values)) ** 0.5  # n - 1 = 1
    lines = text.splitlines()
    (line,) = [line for line in lines if line.startswith("| test | tumor | balanced | sequential")]
    assert f"{mean:.3f} ± {sd:.3f}" in line.split("|")[6]
    assert any(line.startswith("| test | tumor | balanced | joint |") for line in lines)
    # AUC and rAUC need the curves, of which the record keeps the areas alone.
    assert not re.search(r"\| n/a \||no result", text)
    (curve, *_) = json.loads((house / "published" / "x" / "seed0.json").read_text())["curves"]
    assert "rauc" in curve
    assert "full" not in curve
    # Verdicts in the README, numbers and words in the page beside the records.
    assert "| claim of the paper | validation | test | external | training |" in text
    assert "| One-step is fast |  |  |  | holds in 2 of 2 seeds |" in text
    assert "(evaluation/published/x/claims.md)" in text
    assert "wrong tumor pixels" not in text
    page = (house / "published" / "x" / "claims.md").read_text()
    # Cohorts, seeds, models, and the measure.
    assert page.count("wrong tumor pixels") == 3 * 2 * 2 + 1
    assert "| test | 1 | **holds** |" in page


def test_a_block_is_written_again_from_the_records(house: Path) -> None:
    register()
    with pytest.raises(InputError, match=r"needs at least one folder or record, made with: bash"):
        run()
    assert (house / "README.md").read_text() == EMPTY
    out = write_out(house / "real", synthetic=False)
    run(out)
    page = house / "published" / "x" / "claims.md"
    before = (house / "README.md").read_text(), page.read_text()
    table = read_table(house / "published" / "x" / "seed0.scores.csv")
    assert set(table["experiment"]) == {"x"}
    assert set(table["unit"]) == {"slices", "whole"}, "slices of their own are left out"
    own = read_table(out / "scores.csv")
    assert len(table) == len(select(own, unit=("slices", "whole")))
    (house / "README.md").write_text(EMPTY)
    page.unlink()
    run()
    assert ((house / "README.md").read_text(), page.read_text()) == before


def test_nothing_is_lost_where_a_figure_is_missing(house: Path) -> None:
    register()
    out = write_out(house / "run")
    with pytest.raises(InputError, match=r"fig_.*\.png: no such figure"):
        run(out)
    assert not (house / "published").exists()
    assert (house / "README.md").read_text() == EMPTY


def test_no_picture_of_a_real_cohort_is_published(house: Path) -> None:
    register()
    run(draw_pictures(write_out(house / "real", synthetic=False)))
    files = {name for name in list_files(house) if not name.endswith((".json", ".csv"))}
    assert files == {"claims.md", "postprocessing.md"}


def test_missing_block_and_unknown_experiment_are_refused(house: Path) -> None:
    with pytest.raises(InputError, match=r"--name x: no such experiment .*: mini, mini-augmented"):
        run()
    register(name="y")
    out = write_out(house / "out")
    with pytest.raises(
        InputError, match=r"has no block <!-- results: y --> .* put these two lines"
    ):
        publish.main(["--name", "y", str(out)])
    with pytest.raises(ValueError, match="must be new"):
        register(name="y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "paper"}, "preset is paper, but"),
        ({"data": {"split_sha256": "cd"}}, "split_sha256 is cd, but"),
        ({"data": {"synthetic": False}}, "synthetic is False, but"),
        ({"seed": 0}, "has seed0, as"),
    ],
)
def test_runs_that_differ_are_refused(house: Path, change: dict[str, Any], message: str) -> None:
    register()
    runs = [write_out(house / str(seed), seed) for seed in (0, 5)]
    summary = json.loads((runs[1] / "summary.json").read_text())
    data = {**summary["data"], **change.pop("data", {})}
    write_json(runs[1] / "summary.json", {**summary, "data": data, **change})
    with pytest.raises(InputError, match=message):
        run("--out", house / "spread", *runs)
    assert not (house / "spread").exists()


def test_runs_are_put_side_by_side_without_publishing(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register()
    run("--out", house / "spread", *(write_out(house / str(seed), seed) for seed in (1, 0)))
    files = ["claims.md", "postprocessing.md", "spread.md", "spread.csv"]
    assert capsys.readouterr().out.splitlines() == [str(house / "spread" / f) for f in files]
    assert "2 seeds: 0, 1." in (house / "spread" / "spread.md").read_text()
    assert (house / "README.md").read_text() == EMPTY
    assert not (house / "published").exists()


def write_record(path: Path, results: Any) -> Path:
    """Write made-up results as `evaluation.cross_validate` writes a record."""
    head = {"schema": 2, "summary": {**results.summary, "lits": []}, "training": {}}
    write_json(path, head)
    write_table(path.with_name(f"{path.stem}.scores.csv"), results.scores)
    return path


def test_records_of_seeds_are_published_beside_those_that_lie_there(house: Path) -> None:
    register(SYSTEMS)
    paths = [write_record(house / f"{n}.json", results) for n, results in enumerate(RECORDS)]
    run(*paths)
    text = (house / "README.md").read_text()
    assert "| `cdnn_alexnet` |" in text
    assert "![Dice of all systems, phantom, SYNTHETIC PHANTOM](evaluation/published/x/" in text
    files = {"comparison.md", "fig_comparison.png"}
    files |= {f"seed{seed}.{ending}" for seed in (0, 1) for ending in ("json", "scores.csv")}
    assert list_files(house) == files
    run()
    assert (house / "README.md").read_text() == text
    run(paths[1])  # beside seed 0, which lies there
    assert (house / "README.md").read_text() == text
    record = json.loads(paths[0].read_text())
    record["summary"] |= {"seed": 2, "preset": "mini"}
    write_json(paths[0], record)
    with pytest.raises(
        InputError, match=r"0.json: preset is mini, but .*; only the seed may differ"
    ):
        run(paths[0])
    assert list_files(house) == files


def test_systems_of_the_same_folds_are_published_one_after_the_other(house: Path) -> None:
    register(FOLDS)
    for name in ("segnet", "cdnn_alexnet"):
        run(write_record(house / f"{name}.json", make_record(name)))
    text = (house / "README.md").read_text()
    assert "| `cdnn_alexnet` less `segnet` |" in text
    page = (house / "published" / "x" / "cross_validation.md").read_text()
    assert page.startswith("# Cross-validated: cdnn_alexnet, segnet\n")
    other = make_record("korabelnikov", folds={2: {"store_sha256": "of another split"}})
    refused = {"schema 2, got None": {}, "expected schema 2, got 1": {"schema": 1}}
    for words, content in refused.items():
        write_json(house / "old.json", {"system": "segnet", **content})
        with pytest.raises(InputError, match=words):
            run(house / "old.json")
    with pytest.raises(InputError, match="other folds than"):
        run(write_record(house / "folds.json", other))
    seed = make_record("korabelnikov")
    seed.summary["seed"] = 1
    path = write_record(house / "seed.json", seed)
    with pytest.raises(InputError, match=r"seed.json: seed is 1, but .*; only the system may"):
        run(path)
    assert (house / "README.md").read_text() == text


def test_a_split_by_slice_stands_beside_its_experiment_by_patient(house: Path) -> None:
    register(name="patients")
    register(SPLITS, beside="patients")
    marks = EMPTY.replace("x -->", "patients -->")
    (house / "README.md").write_text(EMPTY + marks)
    out = write_out(house / "by-slice", synthetic=False)
    with pytest.raises(InputError, match="patients: holds no records to stand beside"):
        run(out)
    publish.main(["--name", "patients", str(write_out(house / "by-patient", synthetic=False))])
    with pytest.raises(InputError, match="its split is by patient"):
        run(out)
    summary = json.loads((out / "summary.json").read_text())
    summary["data"]["split_by"] = "slice"
    write_json(out / "summary.json", summary)
    split = json.loads((house / "published" / "patients" / "split.json").read_text())
    split["slices"] = {"test": ["1", "2"]}
    write_json(house / "published" / "patients" / "split.json", split)
    run(out)
    text = (house / "README.md").read_text()
    assert "by patient: volumes 1 and 2 | by slice: all test slices" in text
    assert list_files(house) == {"by_slice.json", "by_slice.scores.csv"}
    table = read_table(house / "published" / "x" / "by_slice.scores.csv")
    assert (set(table["cohort"]), set(table["rule"])) == ({"test"}, {"roc"})


def test_an_experiment_of_one_s_own_is_one_entry(house: Path) -> None:
    """Tables of the registry and a layout made here: nothing else is touched."""
    register(list_tables("comparisons", "cost"))
    run(write_out(house / "out", synthetic=False))
    page = (house / "published" / "x" / "tables.md").read_text()
    assert "# Systems compared by patient" in page
    assert "# Cost" in page
    assert "(evaluation/published/x/tables.md)" in (house / "README.md").read_text()

    def summarise(records: Any) -> list[str]:
        return [f"Seeds {', '.join(str(results.seed) for results in records)}."]

    register(Layout("seed", summarise), name="y")
    (house / "README.md").write_text(EMPTY.replace("x -->", "y -->"))
    publish.main(["--name", "y", str(house / "out")])
    block = "<!-- results: y -->\n\nSeeds 0.\n\n<!-- end of results: y -->"
    assert block in (house / "README.md").read_text()
