"""The figures of the report: those that were drawn, each with what it shows."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from data.command import InputError
from data.files import read_json
from evaluation.figures.examples import name_ranking
from evaluation.figures.registry import FIGURES
from evaluation.results import Results

PNG = b"\x89PNG\r\n\x1a\n"


def write_figures(results: Results, badge: str, words: str) -> str:
    """Return the figures that were drawn as HTML, and the names of the others.

    Args:
        results: pictures lie in OUT/figures.
        badge: HTML that says which data is synthetic.
        words: the same as alternative text.

    Raises:
        InputError: a file there is no PNG.
    """
    path = results.path / "examples.json"
    ranked_by = name_ranking(read_json(path)["examples"] if path.is_file() else [])
    html, missing = "", []
    for name, drawing in FIGURES.items():
        path = results.path / "figures" / f"{name}.png"
        if path.is_file():
            html += _write_figure(path, drawing.title, drawing.describe(ranked_by), badge, words)
        else:
            missing.append(drawing.title)
    if missing:
        html += (
            f"<p>Not drawn: {escape(', '.join(missing))}. <code>python -m evaluation.figures --out "
            "DIR</code> draws what the run has data for, and says why where it has none.</p>\n"
        )
    return html


def _write_figure(path: Path, title: str, content: str, badge: str, words: str) -> str:
    """Return a picture with its caption as HTML; see `write_figures`."""
    picture = path.read_bytes()
    if not picture.startswith(PNG) or len(picture) < 24:
        raise InputError(f"{path}: not a PNG file, draw it again with python -m evaluation.figures")
    width, height = (int.from_bytes(picture[start : start + 4], "big") for start in (16, 20))
    source = f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
    alternative = escape(f"{title}: {content}" + (f" ({words})" if words else ""))
    title = escape(title)
    return (
        f'<figure><button type="button" class="enlarge" aria-label="Enlarge: {title}">'
        f'<img src="{source}" width="{width}" height="{height}" alt="{alternative}"></button>'
        f"<figcaption><strong>{title}</strong>: {escape(content)}. {badge}</figcaption></figure>\n"
    )
