"""What the commands share that read one record a seed and give a table and a figure, in a folder or in the README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from data.command import InputError, Parser
from data.files import read_json, write_json, write_text
from evaluation.figures.style import save, style
from evaluation.publish import PUBLISHED, ROOT, rewritten

Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of record.

    Attributes:
        name: of the file without its suffix, as "joint_sweep".
        made_by: the command that writes it.
        schema: its form.
        needed: keys that it must hold.
        same: keys that must be the same in all seeds.
        check: refuses what else does not belong together; gets the first record, another one and its path.
        title, page, figure_name: heading, file and figure (without suffix).
        caption, tables, figure: make the parts of records sorted by seed.
        summary: makes what the README shows of the tables.
        picture: what the figure shows, for the README, from the record's "data".
    """

    name: str
    made_by: str
    schema: int
    needed: tuple[str, ...]
    same: tuple[str, ...]
    check: Callable[[Row, Row, Path], None]
    title: str
    page: str
    figure_name: str
    caption: Callable[[Sequence[Row]], str]
    tables: Callable[[Sequence[Row]], str]
    summary: Callable[[Sequence[Row]], str]
    figure: Callable[[Sequence[Row]], Figure]
    picture: Callable[[Row], str]


def run(kind: Kind, command: str, description: str) -> None:
    """Write table and figure of the records named on the command line, or publish them.

    Raises:
        InputError: neither or both of --out and --publish, or what `read` refuses.
    """
    parser = Parser(prog=f"evaluation.{command}", description=description)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder for {kind.page} and {kind.figure_name}"
    )
    parser.add_argument("--publish", metavar="NAME", help="block of the README")
    parser.add_argument(
        "records", type=Path, nargs="*", metavar="RECORD", help=f"{kind.name}.json, one a seed"
    )
    flags = parser.parse_args()
    if (flags.out is None) == (flags.publish is None):
        raise InputError("--out or --publish: one of them is needed")
    if flags.publish is not None:
        publish(kind, flags.publish, flags.records)
        return
    records = read(kind, flags.records)
    write(kind, records, flags.out)
    print(f"{flags.out / kind.page}, {kind.figure_name}.png, {kind.figure_name}.pdf")


def read(kind: Kind, paths: Sequence[Path]) -> list[Row]:
    """Read records that differ in nothing but the seed, by seed.

    Raises:
        InputError: none, damaged, of an earlier form, something else that differs, a seed twice.
    """
    if not paths:
        raise InputError(f"RECORD: at least one {kind.name}.json is needed")
    records: list[Row] = [read_json(path, ("schema", *kind.needed)) for path in paths]
    for path, record in zip(paths, records, strict=True):
        if record["schema"] != kind.schema:
            raise InputError(
                f"{path}: of form {record['schema']}, not {kind.schema}; {kind.made_by} makes it anew"
            )
        for key in kind.same:
            if record[key] != records[0][key]:
                raise InputError(
                    f"{path}: {key} is not that of {paths[0]}; only the seed may differ"
                )
        kind.check(records[0], record, path)
    seeds = [record["seed"] for record in records]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{paths[-1]}: a seed comes twice; records of different seeds are needed")
    return sorted(records, key=lambda record: int(record["seed"]))


def write(kind: Kind, records: Sequence[Row], folder: Path) -> None:
    """Write page and figure."""
    text = page(kind, records)
    with style():
        figure = kind.figure(records)
        write_text(folder / kind.page, text)
        save(figure, folder / kind.figure_name)


def page(kind: Kind, records: Sequence[Row]) -> str:
    """Return all tables of a kind as a page of Markdown."""
    return f"# {kind.title}\n\n{kind.caption(records)}\n\n{kind.tables(records)}"


def publish(kind: Kind, name: str, paths: Sequence[Path]) -> None:
    """Copy the records to evaluation/published/NAME, beside those of other seeds; rewrite page, figure, README's block.

    Raises:
        InputError: no such block, or what `read` refuses, of old and new records together; then nothing is written.
    """
    folder, readme = PUBLISHED / name, ROOT / "README.md"
    rewritten(readme.read_text(encoding="utf-8"), name, "")
    new = {
        f"{kind.name}-seed{record['seed']}.json": record
        for record in (read(kind, paths) if paths else [])
    }
    old = [path for path in sorted(folder.glob(f"{kind.name}-seed*.json")) if path.name not in new]
    records = read(kind, [*paths, *old])
    for file, record in new.items():
        write_json(folder / file, record)
    write(kind, records, folder)
    (folder / f"{kind.figure_name}.pdf").unlink()
    write_text(
        readme, rewritten(readme.read_text(encoding="utf-8"), name, block(kind, name, records))
    )
    print(
        f"README.md: block {name} rewritten, seeds {', '.join(str(record['seed']) for record in records)}"
    )


def block(kind: Kind, name: str, records: Sequence[Row]) -> str:
    """Return the README's block of a name."""
    picture = (
        f"![{kind.picture(records[0]['data'])}](evaluation/published/{name}/{kind.figure_name}.png)"
    )
    whole = f"evaluation/published/{name}/{kind.page}"
    parts = [f"<!-- results: {name} -->", kind.caption(records), kind.summary(records).rstrip()]
    parts += [
        f"All tables, and how to read them: [{whole}]({whole}).",
        picture,
        f"<!-- end of results: {name} -->",
    ]
    return "\n\n".join(parts)
