"""Write a run's results as one HTML file: tables, figures, the run's record and a viewer of recorded slices.

    python -m evaluation.report --out OUT

Reads what `evaluation.evaluate` wrote into OUT, OUT/viewer.npz and OUT/figures;
makes every table anew; writes OUT/report.html, which needs no network and no server. Where the run has real patients,
the page holds their slices: it is for OUT alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from string import Template

from data.command import Parser, run_command
from data.files import write_text
from evaluation.names import SYNTHETIC
from evaluation.page.figures import figures
from evaluation.page.sections import sections
from evaluation.page.viewer import Recording, asset, page_data, read_recording, viewer_html
from evaluation.results import Results, read_results
from evaluation.tables.text import caption

BEHIND_FIGURES = "training"
"""The first section that comes after the figures."""
NO_SLICES = (
    "<p>No slices were recorded for this run (no <code>viewer.npz</code>): <code>python -m "
    "evaluation.evaluate --run DIR --store DIR --out DIR</code> records them; then make this page "
    "again.</p>\n"
)


def build(results: Results, recording: Recording | None) -> str:
    """Return the whole page."""
    style, scripts, slices, viewer = asset("page.css"), [asset("page.js")], "", NO_SLICES
    if recording:
        data = page_data(recording, results.training["settings"]["liver_window_hu"])
        viewer = viewer_html(recording, data)
        scripts.append(asset("viewer.js"))
        # A "<" in the data must not end the element.
        slices = (
            '<script type="application/json" id="slice-data">'
            + json.dumps(data).replace("<", "\\u003c")
            + "</script>"
        )
    content = contents(results, viewer)
    return Template(asset("page.html")).substitute(
        policy=policy(scripts, style),
        title=escape(f"Report: {results.label}"),
        style=style,
        run=escape(f"Data: {results.label}."),
        badges=badge(results),
        notices=notices(results),
        navigation="".join(
            f'<a href="#{name}">{escape(short)}</a>' for name, (short, _, _) in content.items()
        ),
        sections="".join(
            f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(title)}</h2>\n{body}'
            "</section>\n"
            for name, (_, title, body) in content.items()
        ),
        slices=slices,
        scripts="".join(f"<script>{script}</script>\n" for script in scripts),
    )


def contents(results: Results, viewer: str) -> dict[str, tuple[str, str, str]]:
    """Return {anchor: (name in the navigation, title, HTML)} of every section, in the page's order."""
    label = badge(results)
    found = {"slices": ("Slices", "Slices", viewer)}
    for name, section in sections().items():
        if name == BEHIND_FIGURES:
            drawn = "".join(figures(results, label, synthetic_words(results)))
            found["figures"] = ("Figures", "Figures", drawn)
        found[name] = (section.short, section.title, section.html(results, label))
    return found


def policy(scripts: list[str], style: str) -> str:
    """Return the page's content security policy: its own scripts and style, pictures inside it, nothing else."""
    allowed = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (*scripts, style)
    ]
    own = " ".join(f"'sha256-{text}'" for text in allowed[:-1])
    return (
        f"default-src 'none'; script-src {own}; style-src 'sha256-{allowed[-1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def synthetic_cohorts(results: Results) -> list[str]:
    """Return the cohorts that are phantoms."""
    return [cohort for cohort in results.cohorts if SYNTHETIC in results.origin(cohort)]


def synthetic_words(results: Results) -> str:
    """Return SYNTHETIC PHANTOM, with the cohorts that are where others are not; "" where none is."""
    found = synthetic_cohorts(results)
    return (
        SYNTHETIC + ("" if found == results.cohorts else f": {', '.join(found)}") if found else ""
    )


def badge(results: Results) -> str:
    """Return `synthetic_words` as the label that stands at every table and figure."""
    words = synthetic_words(results)
    return f'<span class="badge synthetic">{escape(words)}</span>' if words else ""


def notices(results: Results) -> str:
    """Return what stands above all results: that they are of a phantom, or that the page holds patients' images."""
    html = "".join(
        f'<p class="run">{escape(line)}</p>' for line in caption(results)[1:] if SYNTHETIC in line
    )
    if synthetic_cohorts(results) != results.cohorts:
        html += (
            '<p class="notice"><strong>This page holds CT slices of patients.</strong> Keep it as their data must be '
            "kept; it is written beside the results only and belongs into no repository and on no public site.</p>"
        )
    return html


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.report`."""
    parser = Parser(
        prog="python -m evaluation.report", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that evaluation.evaluate wrote",
    )
    results = read_results(parser.parse_args(arguments).out)
    recording = read_recording(results)
    page, path = build(results, recording), results.path / "report.html"
    write_text(path, page)
    shown = (
        f"{len(recording.about['cases'])} cases to look through"
        if recording
        else "no slices recorded"
    )
    print(f"{path}: {len(page) / 1e6:.1f} MB, {shown}")


if __name__ == "__main__":
    run_command(main, "python -m evaluation.report")
