"""Put recorded results into the README: nothing in its results tables is typed.

    python -m evaluation.publish --name NAME OUT [OUT ...]

Copies summary.json, training.json and the verdicts on the claims of the folders OUT (one per seed) to
evaluation/published/NAME/, with the split (a list for `data.prepare --split`), and rewrites the block of that name in
README.md from these copies. A test rewrites every block and finds it unchanged. Of a wholly synthetic run some figures
are copied, too; a picture made from a patient's slices never is.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data.command import InputError, Parser, run_command
from data.files import read_json, write_json, write_text
from evaluation.claims import judge
from evaluation.names import COHORTS, LOSSES, MODELS, NAMES, SYNTHETIC, TARGETS, origin
from evaluation.results import Results, notes_lines, read_results
from evaluation.spread import check_comparable
from evaluation.tables import blind_line, scaling_line
from evaluation.text import HOW_SCORED, markdown_table, readable

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = Path(__file__).resolve().parent / "published"
SHOWN = ("test", "external")
AT_ROC = ("dice", "pixel_accuracy", "rand_index", "auc", "rauc")

KINDS = ("summary", "claims", "training")
FIGURES = ("fig_sequential_architecture", "fig_overlays", "fig_roc", "fig_class_weight")

Record = dict[str, Any]


def read_published(folder: Path) -> list[Record]:
    """Return the published records of a name, by seed: {"summary", "claims", "training"}."""
    records = [
        {kind: read_json(path.with_name(path.name.replace("summary", kind))) for kind in KINDS}
        for path in folder.glob("summary-seed*.json")
    ]
    return sorted(records, key=lambda record: record["summary"]["seed"])


def block(name: str, records: Sequence[Record]) -> str:
    """Return the README's block of a name: what was run, the scores, the verdicts on the claims."""
    lines = [f"<!-- results: {name} -->", "", caption(records), *failures(records), "", score_table(records), ""]
    lines.append(claims_table(records))
    return "\n".join([*lines, f"<!-- end of results: {name} -->"])


def failures(records: Sequence[Record]) -> list[str]:
    """Return a sentence for every system whose scores are no result (not in the table), or that sees little."""
    lines = []
    for record in records:
        for system in record["summary"]["systems"]:
            if system["status"] != "ok":
                name = f"{NAMES[system['model']]}, {NAMES[system['loss']]}"
                lines.append(f"**Seed {record['summary']['seed']}: {name}: no result: {system['why']}.**")
        lines += [f"Seed {record['summary']['seed']}: {line}" for line in notes_lines(record["training"])]
    return ["", " ".join(lines)] if lines else []


def caption(records: Sequence[Record]) -> str:
    """Return the sentences above the table: data, seeds, time, machine, commit."""
    summary = records[0]["summary"]
    data = summary["data"]
    sets = [
        f"{data[f'{name}_slices']} {name} slices of {data[f'{name}_cases']} cases" for name in ("train", *COHORTS[:2])
    ]
    external = data["external"]
    if external:
        sets.append(f"{external['slices']} external slices of {external['cases']} cases ({origin(external)})")
    minutes = [f"{sum(record['summary']['timing_s'].values()) / 60:.0f}" for record in records]
    trained = [entry for record in records for entry in record["summary"]["trained_on"]]
    machines = sorted({f"{entry['cores']} cores of {entry['processor']}" for entry in trained})
    commits = sorted({str(entry["git_commit"])[:10] for entry in trained})
    backends = sorted({entry["keras_backend"] for entry in trained})
    seeds = ", ".join(str(record["summary"]["seed"]) for record in records)
    spread = "; cells are mean ± SD over the seeds" if len(records) > 1 else ""
    return (
        f"Data: {origin(data)}, {data['size']} px; {', '.join(sets)}. "
        f"Preset `{summary['preset']}`, seed {seeds}{spread}. {HOW_SCORED} "
        f"Training and evaluation took {', '.join(minutes)} minutes on {' and '.join(machines)} "
        f"(backend {', '.join(backends)}; trained at commit {', '.join(commits)}).\n\n"
        + blind_line(data, SHOWN)
        + " ".join(
            f"Seed {record['summary']['seed']}: {scaling_line(record['training']['scaling'])}"
            for record in records
            if record["training"]["scaling"]
        )
    )


def score_table(records: Sequence[Record]) -> str:
    """Return the scores of test and external data: IoU at every rule, the other scores at the rule `roc`."""
    headings = ["cohort", "target", "loss", "model", "IoU, 0.5", "IoU, roc", "IoU, iou"]
    headings += [f"{NAMES[metric]}{'' if 'auc' in metric else ', roc'}" for metric in AT_ROC]
    rows = []
    for cohort in SHOWN:
        for target in TARGETS:
            for loss in LOSSES:
                for model in MODELS:
                    cells = [_cell(records, cohort, target, loss, model, rule, "iou") for rule in ("0.5", "roc", "iou")]
                    cells += [_cell(records, cohort, target, loss, model, "roc", metric) for metric in AT_ROC]
                    if any(cells):
                        names = [cohort, target, NAMES[loss], NAMES[model]]
                        rows.append([*names, *(cell or "no result" for cell in cells)])
    return markdown_table(headings, rows, left=4)


def claims_table(records: Sequence[Record]) -> str:
    """Return each claim of the paper with its measure, its verdict by cohort, and the numbers of the first seed.

    The numbers are those of the test cohort, where the claim has one.
    """
    rows = []
    for index, claim in enumerate(records[0]["claims"]["claims"]):
        verdicts = []
        for cohort in claim["cohorts"]:
            found = [record["claims"]["claims"][index]["cohorts"][cohort]["verdict"] for record in records]
            if set(found) != {"not tested"}:
                verdicts.append(f"{cohort}: {_counted(found)}")
        shown = "test" if "test" in claim["cohorts"] else next(iter(claim["cohorts"]))
        verdict = "<br>".join(verdicts) or "not tested"
        how_much = f"{shown}: {claim['cohorts'][shown]['how_much']}"
        rows.append([f"**{claim['title']}**<br>{claim['measure']}", verdict, how_much])
    seed = records[0]["summary"]["seed"]
    return markdown_table(["claim of the paper, and how it is judged", "verdict", f"seed {seed}"], rows, left=3)


def _counted(verdicts: Sequence[str]) -> str:
    if len(verdicts) == 1:
        return verdicts[0]
    held, tested = verdicts.count("holds"), len(verdicts) - verdicts.count("not tested")
    return f"holds in {held} of {tested} seeds"


def _cell(records: Sequence[Record], cohort: str, target: str, loss: str, model: str, rule: str, metric: str) -> str:
    wanted = {"cohort": cohort, "target": target, "loss": loss, "model": model, "threshold_rule": rule}
    values = [
        row[metric]
        for record in records
        for row in record["summary"]["rows"]
        if all(row[key] == value for key, value in wanted.items()) and row[metric] is not None
    ]
    if len(values) < 2:
        text = readable(values[0]) if values else ""
    else:
        text = f"{readable(statistics.fmean(values))} ± {readable(statistics.stdev(values))}"
    return text if len(values) in (0, len(records)) else f"{text} (n = {len(values)} of {len(records)})"


def rewritten(readme: str, name: str, text: str) -> str:
    """Return the README with the block of that name replaced.

    Raises:
        InputError: it has no such block.
    """
    start, end = f"<!-- results: {name} -->", f"<!-- end of results: {name} -->"
    if start not in readme or end not in readme:
        raise InputError(f"README.md: has no block {start} ... {end}")
    return readme[: readme.index(start)] + text + readme[readme.index(end) + len(end) :]


def publish(name: str, folders: Iterable[Path]) -> None:
    """Copy the records of `folders` and rewrite the README's block of that name."""
    runs = sorted((read_results(folder) for folder in folders), key=lambda run: run.summary["seed"])
    check_comparable(runs)
    readme = ROOT / "README.md"
    rewritten(readme.read_text(encoding="utf-8"), name, "")
    split = split_of(runs[0])
    synthetic = all(SYNTHETIC in runs[0].origin(cohort) for cohort in runs[0].cohorts)
    figures = [runs[0].path / "figures" / f"{figure}.png" for figure in FIGURES] if synthetic else []
    for figure in figures:
        if not figure.is_file():
            raise InputError(f"{figure}: no such figure; run python -m evaluation.figures first")
    for pattern in ("*.json", "*.png"):
        for path in (PUBLISHED / name).glob(pattern):  # of an earlier publication
            path.unlink()
    write_json(PUBLISHED / name / "split.json", split)
    for run in runs:
        seed = run.summary["seed"]
        write_json(PUBLISHED / name / f"summary-seed{seed}.json", run.summary)
        write_json(PUBLISHED / name / f"claims-seed{seed}.json", {"claims": judge(run.evidence)})
        write_json(PUBLISHED / name / f"training-seed{seed}.json", without_architectures(run.training))
    for figure in figures:
        shutil.copyfile(figure, PUBLISHED / name / figure.name)
    text = block(name, read_published(PUBLISHED / name))
    write_text(readme, rewritten(readme.read_text(encoding="utf-8"), name, text))
    print(f"README.md: block {name} rewritten from {len(runs)} seeds")


def split_of(run: Results) -> Record:
    """Return the split that a run was trained and scored on.

    Raises:
        InputError: the store is not there, or holds another split.
    """
    path = run.path / "store" / "split.json"
    split: Record = read_json(path, ("sha256", "slices"))
    if split["sha256"] != run.summary["data"]["split_sha256"]:
        raise InputError(f"{path}: not the split of {run.path / 'summary.json'}")
    return split


def without_architectures(training: Record) -> Record:
    """Return the content of training.json without the networks' layers, which the code gives."""
    return {key: value for key, value in training.items() if key != "architectures"}


def main() -> None:
    """Publish the results of one or several seeds."""
    parser = Parser(prog="evaluation.publish", description="Put recorded results into the README.")
    parser.add_argument("--name", required=True, help="which block of the README")
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="OUT", help="folders that reproduce.sh finished, one a seed"
    )
    arguments = parser.parse_args()
    publish(arguments.name, arguments.runs)


if __name__ == "__main__":
    run_command(main, "evaluation.publish")
