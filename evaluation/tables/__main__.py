"""Write Table 1, the paper's claims and the other tables of a run.

    python -m evaluation.tables --out OUT

Reads OUT (of `evaluation.evaluate`); writes into OUT/tables those of `evaluation.tables.registry`,
table1.csv, table1.tex and claims.json; prints Table 1. A table without data is left out. Only
intervals are computed again. No column has the paper's own numbers: they are not available.
"""

from __future__ import annotations

from pathlib import Path

from data.command import Parser, run_command
from data.files import write_json, write_text


def write_tables(out: Path) -> str:
    """Write every table of a run into OUT/tables and return Table 1 as Markdown."""
    from evaluation.results import SCHEMA, read_results
    from evaluation.tables.claims import judge_claims
    from evaluation.tables.registry import TABLES
    from evaluation.tables.table1 import make_csv, make_tex

    results = read_results(out)
    texts = {f"{name}.md": table.make(results) for name, table in TABLES.items()}
    texts |= {"table1.csv": make_csv(results), "table1.tex": make_tex(results)}
    for name, text in texts.items():
        if text:
            write_text(out / "tables" / name, text)
        else:  # that of an earlier run would pass for this one's
            (out / "tables" / name).unlink(missing_ok=True)
    head = {"preset": results.summary["preset"], "seed": results.seed}
    head |= {"synthetic": results.data["synthetic"], "label": results.label}
    claims = {"schema": SCHEMA, **head, "claims": judge_claims(results)}
    write_json(out / "tables" / "claims.json", claims)
    return texts["table1.md"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.tables`."""
    parser = Parser(
        prog="python -m evaluation.tables",
        description=(__doc__ or "").split("\n", 1)[0],
        example="python -m evaluation.tables --out out/demo",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="OUT", help="folder of evaluation.evaluate"
    )
    print(write_tables(parser.parse_args(arguments).out), end="")


if __name__ == "__main__":
    run_command(main, "python -m evaluation.tables")
