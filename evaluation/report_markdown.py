"""The Markdown that `evaluation.tables` writes, as HTML: headings, paragraphs, tables, bold, code, line breaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby


def to_html(text: str, label: str = "") -> str:
    """Return `text` as HTML; headings one level lower than in the text, because they stand within a section.

    Args:
        text: Markdown of the project's own tables; anything else in it is taken as words.
        label: HTML that goes above every table, such as what data it shows.
    """
    html, heading = "", "Table"
    for is_table, group in groupby(text.split("\n"), key=lambda line: line.startswith("|")):
        if is_table:
            html += table(list(group), heading, label)
            continue
        for block in "\n".join(group).split("\n\n"):
            if found := re.match(r"(#+) (.*)", block.strip("\n")):
                level, heading = min(6, len(found[1]) + 1), found[2]
                html += f"<h{level}>{inline(heading)}</h{level}>\n"
                block = block.strip("\n")[found.end() :]
            if block.strip():
                html += f"<p>{'<br>'.join(inline(line) for line in block.strip().split('  ' + chr(10)))}</p>\n"
    return html


def inline(text: str) -> str:
    """Return words as HTML; `**bold**`, code between backticks and `<br>` are known."""
    text = escape(text, quote=False).replace("&lt;br&gt;", "<br>")
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table; a bar in a cell is written `\\|`."""
    parts = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return [part.strip().replace("\\|", "|") for part in parts]


def table(lines: Sequence[str], name: str, label: str) -> str:
    """Return a table in a box of its own, which scrolls where the page is narrow.

    Args:
        lines: heading, rule with the alignments, body.
        name: what the box is called for those who do not see it.
        label: HTML of its caption, or nothing.
    """
    headings, rule, *body = (cells(line) for line in lines)
    kinds = [' class="number"' if mark.endswith(":") and not mark.startswith(":") else "" for mark in rule]

    def row(values: Sequence[str], tag: str, scope: str = "") -> str:
        made = zip(values, kinds, strict=True)
        return f"<tr>{''.join(f'<{tag}{scope}{kind}>{inline(value)}</{tag}>' for value, kind in made)}</tr>"

    kind = "numbers" if any(kinds) else "words"
    head = row(headings, "th", ' scope="col"')
    caption = f"<caption>{label}</caption>" if label else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {escape(name)}">'
        f'<table class="{kind}">{caption}<thead>{head}</thead>\n<tbody>'
        + "\n".join(row(line, "td") for line in body)
        + "</tbody></table></div>\n"
    )
