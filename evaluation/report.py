"""Write a run's results as one HTML file: tables, figures, the run's record and a viewer of recorded slices.

    python -m evaluation.report --out OUT

Reads what `evaluation.evaluate` wrote into OUT, OUT/viewer.npz (of evaluate or `evaluation.viewer`), OUT/figures and
further OUT/tables; writes OUT/report.html, which needs no network and no server. Where the run has real patients, the
page holds their slices: it is for OUT alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from data.command import InputError, Parser, run_command
from data.files import write_text
from evaluation.claims import judge
from evaluation.names import LOSSES, MODELS, NAMES, SYNTHETIC, TARGETS
from evaluation.report_markdown import to_html
from evaluation.report_viewer import Recording, asset, page_data, read_recording, viewer_html
from evaluation.results import Results, read_results
from evaluation.tables import (
    caption,
    claims_markdown,
    comparisons_markdown,
    interval_of,
    markdown_table,
    readable,
    table1_markdown,
    training_markdown,
)

FIGURES = {
    "fig_overlays": ("Overlays", "the best, median and worst test slice by tumor IoU, with reference and both models"),
    "fig_network_inputs": ("Network inputs", "a slice as the first and as the second network sees it"),
    "fig_roc": ("ROC curves, tumor", "all pixels, and those with a probability in (0.01, 0.99), by cohort and model"),
    "fig_roc_liver": ("ROC curves, liver", "all pixels, and those with a probability in (0.01, 0.99)"),
    "fig_table1_bars": ("Table 1 as bars", "IoU by cohort, target, model and loss"),
    "fig_learning_curves": ("Learning curves", "loss and validation IoU by epoch, every network and phase"),
    "fig_class_weight": ("Class weight", "validation scores of the tumor network by the weight of its class"),
    "fig_dice_by_case": ("Dice by case", "Dice score of every case, liver and tumor, rule roc, with the median"),
    "fig_lesion_recall": ("Lesions found", "share of lesions that were found, by diameter and system"),
    "fig_reliability": ("Reliability", "tumor probability against the share of tumor pixels, both phases"),
    "fig_sequential_architecture": ("Sequential model", "the two U-Nets, drawn from the trained networks"),
    "fig_one_step_workflow": ("One-step model", "the U-Net with three classes, drawn from the trained network"),
}
"""Title and content, in the page's order; the names are those of `evaluation.figures`."""


OWN_SECTION = ("table1", "claims", "comparisons", "training")
NO_SLICES = (
    "<p>No slices were recorded for this run (no <code>viewer.npz</code>): <code>python -m evaluation.viewer --run DIR "
    "--store DIR --out DIR</code> records them; then make this page again.</p>\n"
)


def build(results: Results, recording: Recording | None) -> str:
    """Return the whole page."""
    style, script, slices, viewer = asset("page.css"), "", "", NO_SLICES
    if recording:
        data = page_data(recording, results.training["settings"]["liver_window_hu"])
        viewer = viewer_html(recording, data, badge(results))
        script = asset("viewer.js")
        # A "<" in the data must not end the element.
        slices = (
            '<script type="application/json" id="slice-data">' + json.dumps(data).replace("<", "\\u003c") + "</script>"
        )
    sections = {
        "slices": ("Slices", viewer),
        "scores": ("Test scores", tables(results, scores_markdown(results))),
        "table1": ("Table 1", tables(results, table1_markdown(results))),
        "claims": ("Claims of the paper", tables(results, claims_markdown(results, judge(results.evidence)))),
        "comparisons": ("Systems compared", tables(results, comparisons_markdown(results))),
        **other_tables(results),
        "figures": ("Figures", "".join(figures(results))),
        "training": ("Training", tables(results, training_markdown(results))),
        "record": ("Record of the run", tables(results, record_markdown(results))),
    }
    return Template(asset("page.html")).substitute(
        policy=policy(script, style),
        title=escape(f"Report: {results.label}"),
        style=style,
        run=escape(f"Data: {results.label}."),
        badges=badge(results),
        notices=notices(results),
        navigation="".join(f'<a href="#{name}">{escape(title)}</a>' for name, (title, _) in sections.items()),
        sections="".join(
            f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(title)}</h2>\n{body}'
            "</section>\n"
            for name, (title, body) in sections.items()
        ),
        slices=slices,
        script=script,
    )


def policy(script: str, style: str) -> str:
    """Return the page's content security policy: its own script and style, pictures inside it, nothing else."""
    allowed = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        f"default-src 'none'; script-src 'sha256-{allowed[0]}'; style-src 'sha256-{allowed[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def synthetic_cohorts(results: Results) -> list[str]:
    """Return the cohorts that are phantoms."""
    return [cohort for cohort in results.cohorts if SYNTHETIC in results.origin(cohort)]


def badge(results: Results) -> str:
    """Return the label that stands at every table and picture: SYNTHETIC PHANTOM, or which cohorts are; else ""."""
    found = synthetic_cohorts(results)
    if not found:
        return ""
    which = "" if found == results.cohorts else f": {', '.join(found)}"
    return f'<span class="badge synthetic">{SYNTHETIC}{escape(which)}</span>'


def notices(results: Results) -> str:
    """Return what stands above all results: that they are of a phantom, or that the page holds patients' images."""
    html = "".join(f"<p>{escape(line)}</p>" for line in caption(results)[1:] if SYNTHETIC in line)
    if synthetic_cohorts(results) != results.cohorts:
        html += (
            '<p class="notice"><strong>This page holds CT slices of patients.</strong> Keep it as their data must be '
            "kept; it is written beside the results only and belongs into no repository and on no public site.</p>"
        )
    return html


def tables(results: Results, markdown: str) -> str:
    """Return a page of `evaluation.tables` as HTML, without its title and the lines that head the report already."""
    body = markdown.partition("\n")[2].replace("  \n".join(caption(results)) + "\n", "", 1)
    return to_html(body, badge(results))


def other_tables(results: Results) -> dict[str, tuple[str, str]]:
    """Return the pages in OUT/tables that have no section of their own, as {name: (title, HTML)}."""
    found = {}
    for path in sorted((results.path / "tables").glob("*.md")):
        if path.stem not in OWN_SECTION:
            text = path.read_text(encoding="utf-8")
            found[f"table-{path.stem}"] = (text.partition("\n")[0].lstrip("# "), tables(results, text))
    return found


def scores_markdown(results: Results) -> str:
    """Return the IoU of every system on the test set, rule roc: the report's short answer."""
    rows = {
        (row["model"], row["loss"], row["target"]): row
        for row in results.rows
        if (row["cohort"], row["threshold_rule"]) == ("test", "roc")
    }
    lines = []
    for model, loss in [(model, loss) for model in MODELS for loss in LOSSES]:
        cells = [NAMES[model], NAMES[loss]]
        for target in TARGETS:
            row = rows.get((model, loss, target))
            cells += [f"**{readable(row['iou'])}**", interval_of(row)] if row else ["no result", ""]
        lines.append(cells)
    slices, cases = results.sample("test")
    text = f"# Test scores\n\nIoU at threshold rule roc, {slices} slices of {cases} test cases. "
    text += " ".join(line for line in caption(results)[1:] if SYNTHETIC not in line) + "\n\n"
    headings = ("model", "loss", "liver IoU", "95 % by patient", "tumor IoU", "95 % by patient")
    return text + markdown_table(headings, lines, left=2)


def figures(results: Results) -> Iterator[str]:
    """Yield the figures that were drawn, as HTML; the names of those that were not come last.

    Raises:
        InputError: a file there is no PNG.
    """
    missing = []
    for name, (title, content) in FIGURES.items():
        path = results.path / "figures" / f"{name}.png"
        if not path.is_file():
            missing.append(title)
            continue
        picture = path.read_bytes()
        if not picture.startswith(b"\x89PNG\r\n\x1a\n") or len(picture) < 24:
            raise InputError(f"{path}: not a PNG file, draw it again with python -m evaluation.figures")
        width, height = (int.from_bytes(picture[start : start + 4], "big") for start in (16, 20))
        source = f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
        yield (
            f'<figure><div class="scroll" role="region" tabindex="0" aria-label="Figure: {escape(title)}">'
            f'<img src="{source}" width="{width}" height="{height}" alt="{escape(f"{title}: {content}")}"></div>'
            f"<figcaption><strong>{escape(title)}</strong>: {escape(content)}. {badge(results)}</figcaption></figure>\n"
        )
    if missing:
        yield (
            f"<p>Not drawn: {escape(', '.join(missing))}. <code>python -m evaluation.figures --out DIR</code> draws "
            "what the run has data for, and says why where it has none.</p>\n"
        )


def record_markdown(results: Results) -> str:
    """Return the run's record: seed, data with the hash of its split, settings as resolved, machines and versions."""
    summary, data = results.summary, results.summary["data"]
    run = {"preset": summary["preset"], "seed": summary["seed"]}
    run |= {key: value for key, value in data.items() if key not in ("external", "blind_tumor_iou")}
    run |= {f"external {key}": value for key, value in (data["external"] or {}).items()}
    parts = [("Run and data", run), ("Settings of the preset, as resolved", results.training["settings"])]
    trained_on = summary.get("trained_on", [])
    for number, environment in enumerate(trained_on, start=1):
        parts.append((f"Trained on{f', {number}' if len(trained_on) > 1 else ''}", environment))
    parts.append(("Evaluated on", summary.get("environment") or {}))
    text = "# Record\n\n"
    for title, content in parts:
        lines = [[key.replace("_", " "), in_words(value)] for key, value in content.items()]
        text += f"## {title}\n\n" + markdown_table(("what", "value"), lines, left=2) + "\n"
    return text + "Times of each step: see Training.\n"


def in_words(value: Any) -> str:
    """Write a recorded value: names and numbers as they are, several with commas."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_words(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(in_words, value)) or "none"
    return {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m evaluation.report`."""
    parser = Parser(prog="python -m evaluation.report", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder that evaluation.evaluate wrote")
    results = read_results(parser.parse_args(arguments).out)
    recording = read_recording(results)
    page, path = build(results, recording), results.path / "report.html"
    write_text(path, page)
    shown = f"{len(recording.about['cases'])} cases to look through" if recording else "no slices recorded"
    print(f"{path}: {len(page) / 1e6:.1f} MB, {shown}")


if __name__ == "__main__":
    run_command(main, "python -m evaluation.report")
