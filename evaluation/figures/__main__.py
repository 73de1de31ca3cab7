"""Draw every figure of a run from its recorded results.

    python -m evaluation.figures --out OUT

Reads OUT (of `evaluation.evaluate`); writes OUT/figures/<name>.png (200 dpi) and .pdf and prints
their paths. A figure without data (no sweep, no examples) is skipped, with a line that says why.
Unchanged results are not drawn again (OUT/figures/drawn.json).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data.command import Parser, run_command
from data.files import hash_file, hash_json, read_json, write_json
from data.progress import track

if TYPE_CHECKING:
    from evaluation.results import Results


RESULTS = (
    "summary.json",
    "scores.csv",
    "curves.json",
    "training.json",
    "lesions.csv",
    "examples.*",
)


def sign_inputs(out: Path) -> str:
    """Return a hash of what the figures depend on: results and code."""
    code = Path(__file__).resolve().parent.parent
    files = [path for pattern in RESULTS for path in sorted(out.glob(pattern))]
    return hash_json([hash_file(path) for path in [*files, *sorted(code.rglob("*.py"))]])


def read_drawn(out: Path, signature: str) -> list[str] | None:
    """Return lines of an earlier call whose figures are still right, or None."""
    path = out / "figures" / "drawn.json"
    if not path.is_file():
        return None
    record = read_json(path, ("signature", "files", "skipped"))
    files = [out / "figures" / name for name in record["files"]]
    if record["signature"] != signature or not all(file.is_file() for file in files):
        return None
    return [*map(str, files), *record["skipped"], "figures: already drawn"]


def draw_all(results: Results) -> tuple[list[Path], dict[str, str]]:
    """Draw every figure; return paths, and by name why one was skipped."""
    from evaluation.figures.registry import FIGURES
    from evaluation.figures.style import save_figure, use_style

    folder = results.path / "figures"
    written: list[Path] = []
    skipped: dict[str, str] = {}
    with use_style():
        for name, drawing in track(FIGURES.items(), "Figures", len(FIGURES), unit="figure"):
            figure = drawing.draw(results)
            if isinstance(figure, str):
                skipped[name] = figure
                # A drawing of an earlier run would pass for this one's.
                for suffix in (".png", ".pdf"):
                    (folder / f"{name}{suffix}").unlink(missing_ok=True)
            else:
                written.extend(save_figure(figure, folder / name))
    return written, skipped


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.figures`."""
    parser = Parser(
        prog="python -m evaluation.figures",
        description=(__doc__ or "").split("\n", 1)[0],
        example="python -m evaluation.figures --out out/demo",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that evaluation.evaluate wrote; figures go to DIR/figures",
    )
    out = parser.parse_args(arguments).out
    signature = sign_inputs(out)
    lines = read_drawn(out, signature)
    if lines is None:
        # pandas and matplotlib: only once the flags are known to be right.
        from evaluation.results import read_results

        written, skipped = draw_all(read_results(out))
        notes = [f"{name}: skipped, {why}" for name, why in skipped.items()]
        names = [path.name for path in written]
        content = {"schema": 1, "signature": signature, "files": names, "skipped": notes}
        write_json(out / "figures" / "drawn.json", content)
        lines = [*map(str, written), *notes]
    print("\n".join(lines))


if __name__ == "__main__":
    run_command(main, "python -m evaluation.figures")
