"""The page around its sections: navigation, notices, content security policy."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from string import Template

from evaluation.names import SYNTHETIC
from evaluation.page.viewer import Recording, make_page_data, read_asset, write_viewer
from evaluation.results import Results
from evaluation.tables.text import make_caption

Contents = dict[str, tuple[str, str, str]]
"""Name in the navigation, title and HTML of every section, by its anchor."""
NO_SLICES = (
    "<p>No slices were recorded for this run (no <code>viewer.npz</code>): <code>python -m "
    "evaluation.evaluate --run DIR --store DIR --out DIR</code> records them; then make this page "
    "again.</p>\n"
)
PATIENTS = (
    '<p class="notice"><strong>This page holds CT slices of patients.</strong> Keep it as their '
    "data must be kept; it is written beside the results only and belongs into no repository and "
    "on no public site.</p>"
)


def write_page(results: Results, recording: Recording | None, contents: Contents) -> str:
    """Return the page as HTML.

    Args:
        results, recording: the run, and the slices of its viewer, if any.
        contents: sections below the viewer, in order.
    """
    style, scripts = read_asset("page.css"), [read_asset("page.js")]
    slices, viewer = "", NO_SLICES
    if recording:
        data = make_page_data(recording, results.training["settings"]["liver_window_hu"])
        viewer = write_viewer(recording, data)
        scripts.append(read_asset("viewer.js"))
        # A "<" in the data must not end the element.
        text = json.dumps(data).replace("<", "\\u003c")
        slices = f'<script type="application/json" id="slice-data">{text}</script>'
    contents = {"slices": ("Slices", "Slices", viewer), **contents}
    links = (f'<a href="#{name}">{escape(short)}</a>' for name, (short, _, _) in contents.items())
    sections = (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{escape(title)}</h2>\n{body}</section>\n'
        for name, (_, title, body) in contents.items()
    )
    return Template(read_asset("page.html")).substitute(
        policy=write_policy(scripts, style),
        title=escape(f"Report: {results.label}"),
        style=style,
        run=escape(f"Data: {results.label}."),
        badges=write_badge(results),
        notices=write_notices(results),
        navigation="".join(links),
        sections="".join(sections),
        slices=slices,
        scripts="".join(f"<script>{script}</script>\n" for script in scripts),
    )


def write_policy(scripts: list[str], style: str) -> str:
    """Return the content security policy: what stands in the page, nothing else."""

    def hash_text(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(hash_text, scripts))}; "
        f"style-src {hash_text(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def list_synthetic(results: Results) -> list[str]:
    """Return the cohorts that are phantoms."""
    return [name for name in results.cohorts if SYNTHETIC in results.describe_origin(name)]


def describe_synthetic(results: Results) -> str:
    """Return SYNTHETIC PHANTOM, with the cohorts where not all are; "" where none is."""
    cohorts = list_synthetic(results)
    if not cohorts:
        return ""
    return SYNTHETIC if cohorts == results.cohorts else f"{SYNTHETIC}: {', '.join(cohorts)}"


def write_badge(results: Results) -> str:
    """Return `describe_synthetic` as the label that stands at every table and figure."""
    words = describe_synthetic(results)
    return f'<span class="badge synthetic">{escape(words)}</span>' if words else ""


def write_notices(results: Results) -> str:
    """Say that the results are of a phantom, or that the page holds patients' images."""
    lines = (line for line in make_caption(results.label)[1:] if SYNTHETIC in line)
    html = "".join(f'<p class="run">{escape(line)}</p>' for line in lines)
    return html if list_synthetic(results) == results.cohorts else html + PATIENTS
