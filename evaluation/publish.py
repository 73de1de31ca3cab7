"""Put recorded results into the README: nothing in its results tables is typed.

    python -m evaluation.publish --name NAME [OUT ...]

Copies summary.json, training.json and the verdicts on the claims of the folders OUT (one per seed) to
evaluation/published/NAME/, with the split (a list for `data.prepare --split`) and what post-processing changes, and
rewrites the block of that name in README.md, and claims.md and postprocessing.md of that folder, from these copies;
without OUT it does only that. A test writes them again and finds them unchanged. Of a wholly synthetic run some figures
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
from evaluation.names import COHORTS, LOSSES, MODELS, NAMES, SYNTHETIC, TARGETS, UNSEEN, origin
from evaluation.publish_options import option_scores, options_page
from evaluation.results import Results, notes_lines, read_results
from evaluation.spread import check_comparable
from evaluation.tables.__main__ import blind_line
from evaluation.tables.claims import HOLDS, UNTESTED, judge
from evaluation.tables.text import (
    COVERAGE,
    FEW,
    HOW_SCORED,
    interval_of,
    machines,
    markdown_table,
    patients,
    readable,
)
from evaluation.tables.training import scaling_line

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = Path(__file__).resolve().parent / "published"
AT_ROC = ("dice", "pixel_accuracy", "rand_index", "auc", "rauc")

KINDS = ("summary", "claims", "training")
CLAIMS, OPTIONS = "claims.md", "postprocessing"
PLACES = (*COHORTS, "training")
"""Where a claim gets a verdict."""
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
    lines = [
        f"<!-- results: {name} -->",
        "",
        caption(records),
        *failures(records),
        "",
        score_table(records),
        "",
    ]
    lines.append(claims_table(name, records))
    return "\n".join([*lines, f"<!-- end of results: {name} -->"])


def failures(records: Sequence[Record]) -> list[str]:
    """Return a sentence for every system whose scores are no result (not in the table), or that sees little."""
    lines = []
    for record in records:
        for system in record["summary"]["systems"]:
            if system["status"] != "ok":
                name = f"{NAMES[system['model']]}, {NAMES[system['loss']]}"
                lines.append(
                    f"**Seed {record['summary']['seed']}: {name}: no result: {system['why']}.**"
                )
        lines += [
            f"Seed {record['summary']['seed']}: {line}" for line in notes_lines(record["training"])
        ]
    return ["", " ".join(lines)] if lines else []


def caption(records: Sequence[Record]) -> str:
    """Return the sentences above the table: data, seeds, time, machine, commit, and how its cells are scored."""
    how = f"{HOW_SCORED} {'Cells are mean ± SD over the seeds. ' if len(records) > 1 else ''}"
    how += f"Intervals by patient: {COVERAGE}. {FEW}" if with_intervals(records) else ""
    scalings = " ".join(
        f"Seed {record['summary']['seed']}: {scaling_line(record['training']['scaling'])}"
        for record in records
        if record["training"]["scaling"]
    )
    return f"{described(records)} {how.strip()}\n\n{blind_line(records[0]['summary']['data'], UNSEEN)}{scalings}"


def described(records: Sequence[Record]) -> str:
    """Return the sentences that say which runs these are: data, seeds, time, machine, commit."""
    summary = records[0]["summary"]
    data = summary["data"]
    sets = [
        f"{data[f'{name}_slices']} {name} slices of {_cases(data[f'{name}_cases'])}"
        for name in ("train", *COHORTS[:2])
    ]
    external = data["external"]
    if external:
        sets.append(
            f"{external['slices']} external slices of {_cases(external['cases'])} ({origin(external)})"
        )
    minutes = [f"{sum(record['summary']['timing_s'].values()) / 60:.0f}" for record in records]
    trained = [entry for record in records for entry in record["summary"]["trained_on"]]
    commits = sorted({str(entry["git_commit"])[:10] for entry in trained})
    backends = sorted({entry["keras_backend"] for entry in trained})
    seeds = ", ".join(str(record["summary"]["seed"]) for record in records)
    return (
        f"Data: {origin(data)}, {data['size']} px; {', '.join(sets)}. Preset `{summary['preset']}`, seed {seeds}. "
        f"Training and evaluation took {', '.join(minutes)} minutes on {' and '.join(machines(trained))} "
        f"(backend {', '.join(backends)}; trained at commit {', '.join(commits)})."
    )


def score_table(records: Sequence[Record]) -> str:
    """Return the scores of test and external data: IoU at every rule, the other scores at the rule `roc`.

    One seed's IoU at that rule has its interval, where the records hold it; several seeds have their own spread.
    """
    rules, sure = ("0.5", "roc", "iou"), with_intervals(records)
    headings = ["cohort", "target", "loss", "model", *(f"IoU, rule {rule}" for rule in rules)]
    headings += ["95 % interval, rule roc"] if sure else []
    headings += [f"{NAMES[metric]}{'' if 'auc' in metric else ', rule roc'}" for metric in AT_ROC]
    rows = []
    for cohort in UNSEEN:
        for target in TARGETS:
            for loss in LOSSES:
                for model in MODELS:
                    cells = [
                        _cell(records, cohort, target, loss, model, rule, "iou") for rule in rules
                    ]
                    cells += [_interval(records[0], cohort, target, loss, model)] if sure else []
                    cells += [
                        _cell(records, cohort, target, loss, model, "roc", metric)
                        for metric in AT_ROC
                    ]
                    if any(cells):
                        names = [cohort, target, NAMES[loss], NAMES[model]]
                        rows.append([*names, *(cell or "no result" for cell in cells)])
    return markdown_table(headings, rows, left=4)


def with_intervals(records: Sequence[Record]) -> bool:
    """Say whether the score table has a column of intervals: of one seed, recorded since there are intervals."""
    return len(records) == 1 and any("iou_low" in row for row in records[0]["summary"]["rows"])


def _interval(record: Record, cohort: str, target: str, loss: str, model: str) -> str:
    wanted = {
        "cohort": cohort,
        "target": target,
        "loss": loss,
        "model": model,
        "threshold_rule": "roc",
    }
    for row in record["summary"]["rows"]:
        if all(row[key] == value for key, value in wanted.items()):
            n = row.get("n_counted", row["n_patients"])
            return interval_of(row) + (f" ({patients(n)})" if row["iou_low"] is not None else "")
    return ""


def _cases(n: int) -> str:
    return f"{n} case{'' if n == 1 else 's'}"


def verdicts(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return by claim the verdict in each cohort (or "training"); of several seeds, in how many it holds."""
    rows = []
    for index, claim in enumerate(records[0]["claims"]["claims"]):
        row = {}
        for where in claim["cohorts"]:
            found = [
                record["claims"]["claims"][index]["cohorts"][where]["verdict"] for record in records
            ]
            row[where] = _counted(found)
        rows.append(row)
    return rows


def claims_table(name: str, records: Sequence[Record]) -> str:
    """Return the verdict on each claim of the paper by cohort, with a link to what it stands on."""
    judged = verdicts(records)
    columns = [
        where for where in PLACES if any(row.get(where, UNTESTED) != UNTESTED for row in judged)
    ]
    lines = []
    for claim, row in zip(records[0]["claims"]["claims"], judged, strict=True):
        lines.append([claim["title"], *(row.get(where, "") for where in columns)])
    table = markdown_table(["claim of the paper", *columns], lines, left=1 + len(columns))
    path = (PUBLISHED / name / CLAIMS).relative_to(ROOT).as_posix()
    return f"{table}\nHow each is judged, and by which numbers: [{path}]({path}).\n"


def claims_page(name: str, records: Sequence[Record]) -> str:
    """Return each claim of the paper with its words, its measure, and every seed's verdicts and numbers."""
    text = f"# The paper's claims on the runs `{name}`\n\n"
    text += f"Written by `python -m evaluation.publish` from the records beside it.\n\n{described(records)}\n"
    for index, claim in enumerate(records[0]["claims"]["claims"]):
        text += f"\n## {index + 1}. {claim['title']}\n\nPaper: {claim['claim']}\n\nMeasure: {claim['measure']}\n\n"
        lines = []
        for record in records:
            for where, found in record["claims"]["claims"][index]["cohorts"].items():
                seed = str(record["summary"]["seed"])
                lines.append([where, seed, f"**{found['verdict']}**", found["how_much"]])
        lines.sort(key=lambda line: PLACES.index(line[0]))
        text += markdown_table(["where", "seed", "verdict", "numbers"], lines, left=4)
    return text


def _counted(verdicts: Sequence[str]) -> str:
    tested = [verdict for verdict in verdicts if verdict != UNTESTED]
    if len(verdicts) == 1 or not tested:
        return verdicts[0]
    others = f", {len(verdicts) - len(tested)} not tested" if len(tested) < len(verdicts) else ""
    return f"holds in {tested.count(HOLDS)} of {len(tested)} seed{'' if len(tested) == 1 else 's'}{others}"


def _cell(
    records: Sequence[Record],
    cohort: str,
    target: str,
    loss: str,
    model: str,
    rule: str,
    metric: str,
) -> str:
    wanted = {
        "cohort": cohort,
        "target": target,
        "loss": loss,
        "model": model,
        "threshold_rule": rule,
    }
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
    return (
        text
        if len(values) in (0, len(records))
        else f"{text} (n = {len(values)} of {len(records)})"
    )


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
    figures = (
        [runs[0].path / "figures" / f"{figure}.png" for figure in FIGURES] if synthetic else []
    )
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
        write_json(
            PUBLISHED / name / f"training-seed{seed}.json", without_architectures(run.training)
        )
        if run.options:
            write_json(
                PUBLISHED / name / f"{OPTIONS}-seed{seed}.json", {"rows": option_scores(run)}
            )
    for figure in figures:
        shutil.copyfile(figure, PUBLISHED / name / figure.name)
    rewrite(name)


def rewrite(name: str) -> None:
    """Write the README's block of that name and the page of its claims from the published records.

    Raises:
        InputError: there are none, or the README has no such block.
    """
    records = read_published(PUBLISHED / name)
    if not records:
        raise InputError(f"{PUBLISHED / name}: holds no records; give the folders OUT to publish")
    readme = ROOT / "README.md"
    text = rewritten(readme.read_text(encoding="utf-8"), name, block(name, records))
    write_text(PUBLISHED / name / CLAIMS, claims_page(name, records))
    if page := published_options(name, records):
        write_text(PUBLISHED / name / f"{OPTIONS}.md", page)
    write_text(readme, text)
    print(
        f"README.md: block {name} rewritten from {len(records)} seed{'' if len(records) == 1 else 's'}"
    )


def published_options(name: str, records: Sequence[Record]) -> str:
    """Return the page of post-processing; "" where a seed has none recorded, as runs of earlier versions."""
    seeds = [record["summary"]["seed"] for record in records]
    paths = {seed: PUBLISHED / name / f"{OPTIONS}-seed{seed}.json" for seed in seeds}
    if not all(path.is_file() for path in paths.values()):
        return ""
    rows = {seed: read_json(path, ("rows",))["rows"] for seed, path in paths.items()}
    return options_page(name, described(records), rows)


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
        "runs",
        type=Path,
        nargs="*",
        metavar="OUT",
        help="folders that reproduce.sh finished, one a seed; default: none",
    )
    arguments = parser.parse_args()
    if arguments.runs:
        publish(arguments.name, arguments.runs)
    else:
        rewrite(arguments.name)


if __name__ == "__main__":
    run_command(main, "evaluation.publish")
