"""Write a run's results as one HTML file: tables, figures, record, slices.

    python -m evaluation.report --out OUT

Reads OUT (of `evaluation.evaluate`), OUT/viewer.npz and OUT/figures; makes every table anew; writes
OUT/report.html, which needs no network or server. With real patients the page holds their slices:
it is for OUT alone.
"""

from __future__ import annotations

from pathlib import Path

from data.command import Parser, run_command

BEHIND_FIGURES = "training"
"""The first section that comes after the figures."""


def write_report(out: Path) -> str:
    """Write the page of a folder's results; return in a line what was written."""
    # pandas: only once the flags are known to be right; matplotlib and Pillow: the results, too.
    from evaluation.results import read_results

    results = read_results(out)

    from data.files import write_text
    from evaluation.page.document import Contents, describe_synthetic, write_badge, write_page
    from evaluation.page.figures import write_figures
    from evaluation.page.sections import list_sections
    from evaluation.page.viewer import read_recording

    recording = read_recording(results)
    badge, contents = write_badge(results), Contents()
    for name, section in list_sections().items():
        if name == BEHIND_FIGURES:
            figures = write_figures(results, badge, describe_synthetic(results))
            contents["figures"] = ("Figures", "Figures", figures)
        if html := section.write_html(results, badge):
            contents[name] = (section.short, section.title, html)
    page, path = write_page(results, recording, contents), out / "report.html"
    write_text(path, page)
    n_cases = len(recording.about["cases"]) if recording else 0
    shown = f"{n_cases} cases to look through" if recording else "no slices recorded"
    return f"{path}: {len(page) / 1e6:.1f} MB, {shown}"


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.report`."""
    parser = Parser(
        prog="python -m evaluation.report",
        description=(__doc__ or "").split("\n", 1)[0],
        example="python -m evaluation.report --out out/demo",
    )
    text = "folder that evaluation.evaluate wrote; the report is DIR/report.html"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
    print(write_report(parser.parse_args(arguments).out))


if __name__ == "__main__":
    run_command(main, "python -m evaluation.report")
