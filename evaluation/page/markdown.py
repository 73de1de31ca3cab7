"""The Markdown of the project's own tables as HTML.

By hand: folding, groups of lines and captions are no Markdown of any library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby
from math import inf

LONG = 9
"""A table of more lines is folded."""
PER_GROUP = 4
"""Lines that a group of a table must have on average to get a heading of its own."""
MOST_TEXTS = 4
"""Columns of words beside the first number on a narrow screen; further ones become headings."""
BETWEEN = " \N{MIDDLE DOT} "


def write_html(
    text: str, label: str = "", opened: str = "", long: int = LONG, fold_all: bool = False
) -> str:
    """Return Markdown as HTML, headings one level lower: they stand in a section.

    Long tables are folded; words around them, as that a system has no result, never are.

    Args:
        text: Markdown of the project's own tables; all else is taken as words.
        label: HTML above every table, such as its data.
        opened: first word of headings below which no table is folded.
        long: a table of more lines is folded.
        fold_all: fold what is under each heading.
    """
    html, heading = "", "Table"
    for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        marks = re.match(r"(#+) (.*)", part)
        if not marks:
            html += write_body(part, heading, label, long)
            continue
        level, heading, content = min(6, len(marks[1]) + 1), marks[2], part[marks.end() :]
        title = f"<h{level}>{write_inline(heading)}</h{level}>"
        if fold_all:
            body = write_body(content, heading, label)
            html += f"<details><summary>{title}</summary>\n{body}</details>\n"
        else:
            is_open = bool(opened) and heading.startswith(opened)
            html += f"{title}\n" + write_body(content, heading, label, long, is_open)
    return html


def write_body(
    text: str, heading: str, label: str, long: float = inf, is_open: bool = False
) -> str:
    """Return what stands under a heading: paragraphs, lists and tables.

    Args:
        text: Markdown.
        heading, label, long, is_open: see `write_table`.
    """
    html = ""
    for is_table, lines in groupby(text.split("\n"), key=lambda line: line.startswith("|")):
        if is_table:
            html += write_table(list(lines), heading, label, long, is_open)
            continue
        for block in map(str.strip, "\n".join(lines).split("\n\n")):
            if block.startswith("- "):
                items = (f"<li>{write_inline(item)}</li>" for item in block[2:].split("\n- "))
                html += f"<ul>{''.join(items)}</ul>\n"
            elif block:
                html += f"<p>{'<br>'.join(map(write_inline, block.split('  ' + chr(10))))}</p>\n"
    return html


def write_inline(text: str) -> str:
    """Return words as HTML; `**bold**`, code between backticks and `<br>` are known."""
    text = escape(text, quote=False).replace("&lt;br&gt;", "<br>")
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def split_cells(line: str) -> list[str]:
    """Return the cells of a line of a table; a bar in a cell is written `\\|`."""
    parts = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return [part.strip().replace("\\|", "|") for part in parts]


def count_group_columns(lines: Sequence[Sequence[str]], n_texts: int) -> int:
    """Return how many leading columns become headings of groups.

    `lines` are cells of the body. The last of the `n_texts` columns of words stays.
    """
    for columns in range(n_texts - 1, 0, -1):
        groups = sum(1 for _ in groupby(lines, key=lambda line: line[:columns]))
        if len(lines) >= PER_GROUP * groups:
            return columns
    return max(0, n_texts - MOST_TEXTS)


def write_table(
    lines: Sequence[str], name: str, label: str, long: float = inf, is_open: bool = False
) -> str:
    """Return a table in a box that scrolls on a narrow page; a long one is folded.

    Columns of words that repeat become headings of groups, `liver · balanced`, so numbers come
    first on a narrow screen.

    Args:
        lines: heading, rule with the alignments, body.
        name: alternative text of the box.
        label: HTML of its caption, or nothing.
        long: fold it if it has more lines.
        is_open: leave it open all the same.
    """
    headings, rule, *content = map(split_cells, lines)
    if not content:
        return "<p>No entries.</p>\n"
    is_number = [mark.endswith(":") and not mark.startswith(":") for mark in rule]
    kinds = [' class="number"' if number else "" for number in is_number]
    # Lines, each group of them below its heading.
    columns = count_group_columns(content, is_number.index(True) if any(is_number) else 0)
    rows = []
    for group, members in groupby(content, key=lambda line: line[:columns]):
        if columns:
            span = f'<th scope="rowgroup" colspan="{len(headings) - columns}">'
            rows.append(f'<tr class="group">{span}{write_inline(BETWEEN.join(group))}</th></tr>')
        rows += [_write_row(line[columns:], kinds[columns:], "td") for line in members]
    caption = f"<caption>{label}</caption>" if label else ""
    head = _write_row(headings[columns:], kinds[columns:], "th", ' scope="col"')
    body = "\n".join(rows)
    html = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {escape(name)}">'
        f'<table class="{"numbers" if any(is_number) else "words"}">{caption}<thead>{head}'
        f"</thead>\n<tbody>{body}</tbody></table></div>\n"
    )
    if len(content) <= long:
        return html
    summary = f"Table of {len(content)} line{'s' * (len(content) > 1)}"
    return f"<details{' open' * is_open}><summary>{summary}</summary>\n{html}</details>\n"


def _write_row(values: Sequence[str], kinds: Sequence[str], tag: str, scope: str = "") -> str:
    # A long name of a score may break at its underscores.
    cells = (
        f"<{tag}{scope}{kind}>{write_inline(value).replace('_', '_<wbr>')}</{tag}>"
        for value, kind in zip(values, kinds, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"
