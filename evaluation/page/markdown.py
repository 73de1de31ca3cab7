"""The Markdown that `evaluation.tables` writes, as HTML: headings, paragraphs, lists, tables, bold, code, breaks."""

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
BETWEEN = " \N{MIDDLE DOT} "


def to_html(
    text: str, label: str = "", opened: str = "", long: int = LONG, fold_all: bool = False
) -> str:
    """Return `text` as HTML; headings one level lower than in the text, because they stand within a section.

    Long tables are folded; what is said around them, such as that a system has no result, never is.

    Args:
        text: Markdown of the project's own tables; anything else in it is taken as words.
        label: HTML that goes above every table, such as what data it shows.
        opened: first word of the headings below which no table is folded.
        long: a table of more lines is folded.
        fold_all: fold everything under each heading into one line that can be opened.
    """
    html, heading = "", "Table"
    for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        if not (found := re.match(r"(#+) (.*)", part)):
            html += body(part, heading, label, long)
            continue
        level, heading = min(6, len(found[1]) + 1), found[2]
        title = f"<h{level}>{inline(heading)}</h{level}>"
        content = part[found.end() :]
        if fold_all:
            html += (
                f"<details><summary>{title}</summary>\n{body(content, heading, label)}</details>\n"
            )
        else:
            html += f"{title}\n" + body(
                content, heading, label, long, bool(opened) and heading.startswith(opened)
            )
    return html


def body(text: str, heading: str, label: str, long: float = inf, opened: bool = False) -> str:
    """Return what stands under a heading: paragraphs, lists and tables."""
    html = ""
    for is_table, group in groupby(text.split("\n"), key=lambda line: line.startswith("|")):
        if is_table:
            html += table(list(group), heading, label, long, opened)
            continue
        for block in map(str.strip, "\n".join(group).split("\n\n")):
            if block.startswith("- "):
                html += f"<ul>{''.join(f'<li>{inline(line)}</li>' for line in block[2:].split(chr(10) + '- '))}</ul>\n"
            elif block:
                html += (
                    f"<p>{'<br>'.join(inline(line) for line in block.split('  ' + chr(10)))}</p>\n"
                )
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


def grouped(lines: Sequence[Sequence[str]], texts: int) -> int:
    """Return how many leading columns become headings of groups: as many as leave each group lines enough.

    Args:
        lines: cells of the table's body.
        texts: columns of words before the first one of numbers; the last of them stays.
    """
    for columns in range(texts - 1, 0, -1):
        groups = sum(1 for _ in groupby(lines, key=lambda line: line[:columns]))
        if len(lines) >= PER_GROUP * groups:
            return columns
    return 0


def table(
    lines: Sequence[str], name: str, label: str, long: float = inf, opened: bool = False
) -> str:
    """Return a table in a box of its own, which scrolls where the page is narrow; a long one is folded.

    Columns of words that only repeat become headings of groups, `liver · balanced`, so that numbers come first on a
    narrow screen.

    Args:
        lines: heading, rule with the alignments, body.
        name: what the box is called for those who do not see it.
        label: HTML of its caption, or nothing.
        long: fold it if it has more lines.
        opened: leave it open all the same.
    """
    headings, rule, *content = (cells(line) for line in lines)
    if not content:
        return "<p>No entries.</p>\n"
    kinds = [
        ' class="number"' if mark.endswith(":") and not mark.startswith(":") else ""
        for mark in rule
    ]
    texts = next((index for index, kind in enumerate(kinds) if kind), 0)
    columns = grouped(content, texts)

    made = []
    for group, members in groupby(content, key=lambda line: line[:columns]):
        if columns:
            span = f'<th scope="rowgroup" colspan="{len(headings) - columns}">'
            made.append(f'<tr class="group">{span}{inline(BETWEEN.join(group))}</th></tr>')
        made += [_row(line[columns:], kinds[columns:], "td") for line in members]
    caption = f"<caption>{label}</caption>" if label else ""
    head = _row(headings[columns:], kinds[columns:], "th", ' scope="col"')
    joined = "\n".join(made)
    html = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {escape(name)}">'
        f'<table class="{"numbers" if any(kinds) else "words"}">{caption}<thead>{head}</thead>\n'
        f"<tbody>{joined}</tbody></table></div>\n"
    )
    if len(content) <= long:
        return html
    summary = f"Table of {len(content)} line{'s' * (len(content) > 1)}"
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>\n{html}</details>\n"


def _row(values: Sequence[str], kinds: Sequence[str], tag: str, scope: str = "") -> str:
    # A long name of a score may break at its underscores.
    words = [
        (inline(value).replace("_", "_<wbr>"), kind)
        for value, kind in zip(values, kinds, strict=True)
    ]
    return f"<tr>{''.join(f'<{tag}{scope}{kind}>{value}</{tag}>' for value, kind in words)}</tr>"
