"""Put recorded results into the README: nothing in its results tables is typed.

    python -m evaluation.publish --name NAME [OUT ...]
    python -m evaluation.publish --name NAME --out DIR OUT [OUT ...]

NAME is an experiment of `evaluation.experiments`. OUT is a folder of `evaluation.evaluate`, or a
record, as of `evaluation.cross_validate`. Records differ in the experiment's one key: seed, system
or split.

The first form copies records to evaluation/published/NAME, writes page and figure, and rewrites
that block of README.md; without OUT it uses the records there. A test finds them unchanged. `--out`
writes page and figure into a folder and publishes nothing. Some figures are copied of wholly
synthetic runs; pictures of patients' slices never are.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.command import InputError, Parser, run_command
from data.files import write_json, write_text

if TYPE_CHECKING:
    from evaluation.experiments import Experiment
    from evaluation.results import Results

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = Path(__file__).resolve().parent / "published"
README = "README.md"
NO_FIELDS = ("full", "restricted", "reliability")
"""What a published record leaves out of a curve: its points."""


def find_experiment(name: str) -> Experiment:
    """Return an experiment by its name.

    Raises:
        InputError: there is none.
    """
    from evaluation.experiments import EXPERIMENTS

    if name not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise InputError(f"--name {name}: no such experiment (evaluation/experiments.py): {known}")
    return EXPERIMENTS[name]


def make_key(experiment: Experiment, results: Results) -> str:
    """Return the key by which a record differs from the others of its experiment."""
    if experiment.layout.varies == "system":
        return str(results.summary["systems"][0]["system"])
    if experiment.layout.varies == "split":
        return f"by_{results.data.get('split_by', 'patient')}"
    return f"seed{results.seed}"


def list_published(name: str) -> list[Path]:
    """Return the files of the published records of a name."""
    return sorted(path for path in (PUBLISHED / name).glob("*.json") if path.name != "split.json")


def read_records(experiment: Experiment, paths: Sequence[Path]) -> list[Results]:
    """Read records and return them as `sort_records` does."""
    from evaluation.results import read_results

    return sort_records(experiment, [read_results(path) for path in paths])


def sort_records(experiment: Experiment, records: Sequence[Results]) -> list[Results]:
    """Check that records differ in nothing but their key, and sort them by it.

    The record of another experiment that stands beside them comes first.

    Raises:
        InputError: there are none, something else differs, a key comes twice.
    """
    from evaluation.results import read_results

    if not records:
        remedy = f"made with: {experiment.command}"
        raise InputError(f"OUT: {experiment.name} needs at least one folder or record, {remedy}")
    beside = [read_results(path) for path in list_published(experiment.beside)[:1]]
    if experiment.beside and not beside:
        raise InputError(f"{PUBLISHED / experiment.beside}: holds no records to stand beside")
    first = (beside or records)[0]
    keys: dict[str, Path] = {}
    for results in records:
        _check_alike(experiment, records[0], results)
        experiment.layout.check(first, results)
        key = make_key(experiment, results)
        if key in keys:
            raise InputError(
                f"{results.path}: has {key}, as {keys[key]}; records must differ in it"
            )
        keys[key] = results.path
    # Seed 10 stands after seed 9.
    return beside + sorted(records, key=lambda r: (r.seed, make_key(experiment, r)))


def _check_alike(experiment: Experiment, first: Results, other: Results) -> None:
    """Check that two records differ in nothing but what their experiment varies."""
    varies = experiment.layout.varies
    values = [
        {"preset": r.summary["preset"], **({} if varies == "seed" else {"seed": r.seed}),
         **({} if varies == "split" else r.data)}
        for r in (first, other)
    ]  # fmt: skip
    for key in dict.fromkeys([*values[0], *values[1]]):
        expected, value = (of_record.get(key) for of_record in values)
        if value != expected:
            rule = f"{key} is {value}, but {first.path} has {expected}"
            rule += f"; only the {varies} may differ"
            raise InputError(f"{other.path}: {rule}")


def write_pages(experiment: Experiment, records: Sequence[Results], folder: Path) -> list[Path]:
    """Write pages and figure of records; return what was written.

    Args:
        experiment, records: whose pages; the records in order.
        folder: where to; the published one gets only what belongs there.
    """
    is_published = folder == PUBLISHED / experiment.name
    written = []
    for page in experiment.layout.pages:
        text = page.make(experiment.name, records) if page.published or not is_published else ""
        if text:
            write_text(folder / page.file, text)
            written.append(folder / page.file)
    figure = experiment.layout.figure
    if figure:
        from evaluation.figures.style import save_figure, use_style

        with use_style():
            written += save_figure(figure.draw(records), folder / figure.name)
        if is_published:
            written.remove(folder / f"{figure.name}.pdf")
            (folder / f"{figure.name}.pdf").unlink()
    return written


def make_record(experiment: Experiment, results: Results) -> dict[str, Any]:
    """Return what is published of a run beside its score table."""
    from evaluation.results import SCHEMA
    from evaluation.tables.claims import judge_claims

    training = {k: v for k, v in results.training.items() if k != "architectures"}
    curves = [{k: v for k, v in c.items() if k not in NO_FIELDS} for c in results.curves]
    has_phases = bool(training.get("phases"))
    return {
        "schema": SCHEMA,
        "experiment": experiment.name,
        "key": make_key(experiment, results),
        "summary": results.summary,
        "training": training,
        "curves": curves,
        "claims": judge_claims(results) if has_phases else [],
    }


def make_block(experiment: Experiment, records: Sequence[Results]) -> str:
    """Return the README's block of an experiment, with its marks."""
    name, layout = experiment.name, experiment.layout
    parts = [f"<!-- results: {name} -->", *layout.summarise(records)]
    for page in layout.pages:
        if page.published and page.words:
            path = f"evaluation/published/{name}/{page.file}"
            parts.append(f"{page.words}: [{path}]({path}).")
    if layout.figure:
        path = f"evaluation/published/{name}/{layout.figure.name}.png"
        parts.append(f"![{layout.figure.words}, {records[0].describe_origin('test')}]({path})")
    parts.append(f"<!-- end of results: {name} -->")
    return "\n\n".join(part.strip("\n") for part in parts)


def replace_block(readme: str, name: str, text: str) -> str:
    """Return the README with the block of that name replaced.

    Args:
        readme, text: the README, and the new block with its marks.
        name: of the block.

    Raises:
        InputError: it has no such block.
    """
    start, end = f"<!-- results: {name} -->", f"<!-- end of results: {name} -->"
    if start not in readme or end not in readme:
        raise InputError(f"{README}: has no block {start} ... {end}; put these two lines into it")
    return readme[: readme.index(start)] + text + readme[readme.index(end) + len(end) :]


def list_pictures(experiment: Experiment, records: Sequence[Results]) -> list[Path]:
    """Return the figures of the first run to publish, if it is wholly synthetic.

    Raises:
        InputError: one is missing.
    """
    from evaluation.names import SYNTHETIC

    first = records[0]
    if not all(SYNTHETIC in first.describe_origin(cohort) for cohort in first.cohorts):
        return []
    figures = [first.path / "figures" / f"{name}.png" for name in experiment.layout.pictures]
    for path in figures:
        if not path.is_file():
            raise InputError(f"{path}: no such figure; run python -m evaluation.figures first")
    return figures


def publish(name: str, paths: Sequence[Path]) -> None:
    """Copy records; rewrite page, figure and README block, or nothing on a mistake.

    Raises:
        InputError: no such experiment or block, or records that do not belong together.
    """
    from evaluation.results import read_results, read_split
    from evaluation.score_table import select, write_table

    experiment, folder = find_experiment(name), PUBLISHED / name
    readme = (ROOT / README).read_text(encoding="utf-8")
    replace_block(readme, name, "")
    # What is given replaces what lies there of the same key; all of it must belong together.
    new = sorted((read_results(path) for path in paths), key=lambda results: results.seed)
    given = {make_key(experiment, results) for results in new}
    earlier = [read_results(path) for path in list_published(name) if path.stem not in given]
    sort_records(experiment, [*earlier, *new])
    splits = [read_split(results) for results in new if experiment.layout.keeps_split]
    pictures = list_pictures(experiment, new) if new else []
    for results in new:
        key = make_key(experiment, results)
        rows = select(results.scores, **experiment.layout.rows)
        write_json(folder / f"{key}.json", make_record(experiment, results))
        write_table(folder / f"{key}.scores.csv", rows.assign(experiment=name))
    for split in splits[:1]:
        write_json(folder / "split.json", split)
    for path in pictures:
        shutil.copyfile(path, folder / path.name)
    records = read_records(experiment, list_published(name))
    write_pages(experiment, records, folder)
    write_text(ROOT / README, replace_block(readme, name, make_block(experiment, records)))
    keys = ", ".join(path.stem for path in list_published(name))
    print(f"{README}: block {name} rewritten from {keys}")


def main(arguments: list[str] | None = None) -> None:
    """Publish an experiment, or write its page and figure into a folder."""
    parser = Parser(
        prog="evaluation.publish",
        description="Put recorded results into the README, or their page and figure into a folder.",
        example="""python -m evaluation.publish --name demo out/demo-0 out/demo-1 out/demo-2
            python -m evaluation.publish --name demo --out out/spread out/demo-0 out/demo-1""",
    )
    add = parser.add_argument
    add("--name", required=True, metavar="NAME", help="experiment of evaluation/experiments.py")
    add("--out", type=Path, metavar="DIR", help="folder for page and figure; publishes nothing")
    add(
        "records",
        type=Path,
        nargs="*",
        metavar="OUT",
        help="folders or records; default: published",
    )
    flags = parser.parse_args(arguments)
    if flags.out is None:
        publish(flags.name, flags.records)
        return
    experiment = find_experiment(flags.name)
    records = read_records(experiment, flags.records)
    print(*write_pages(experiment, records, flags.out), sep="\n")


if __name__ == "__main__":
    run_command(main, "evaluation.publish")
