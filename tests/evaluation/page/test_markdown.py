"""The tables' Markdown as HTML, by hand."""

from __future__ import annotations

from evaluation.page.markdown import count_group_columns, write_html


def test_a_text_with_a_table() -> None:
    text = (
        "# A & B\n\nOne **bold** `x<y`  \nline two\n\n"
        "| a_b | b |\n| :-- | --: |\n| 1 \\| 2 | **3** |\n"
    )
    assert write_html(text, "<b>label</b>") == (
        "<h2>A &amp; B</h2>\n"
        "<p>One <strong>bold</strong> <code>x&lt;y</code><br>line two</p>\n"
        '<div class="scroll" role="region" tabindex="0" aria-label="Table: A &amp; B">'
        '<table class="numbers"><caption><b>label</b></caption><thead><tr>'
        '<th scope="col">a_<wbr>b</th><th scope="col" class="number">b</th></tr></thead>\n'
        '<tbody><tr><td>1 | 2</td><td class="number"><strong>3</strong></td></tr></tbody></table>'
        "</div>\n"
    )


def test_a_list_and_an_empty_table() -> None:
    assert write_html("| a | b |\n| :-- | --: |\n") == "<p>No entries.</p>\n"
    assert write_html("Chosen:\n\n- a, **b**\n- c\n\nlast\n") == (
        "<p>Chosen:</p>\n<ul><li>a, <strong>b</strong></li><li>c</li></ul>\n<p>last</p>\n"
    )


def test_columns_that_repeat_become_headings_of_groups() -> None:
    lines = [["liver", "ce", rule, "1"] for rule in ("roc", "roc", "iou", "iou")]
    text = "| target | loss | rule | IoU |\n| :-- | :-- | :-- | --: |\n"
    html = write_html(text + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    group = '<tr class="group"><th scope="rowgroup" colspan="2">liver · ce</th></tr>'
    assert html.count(group) == 1
    head = '<tr><th scope="col">rule</th><th scope="col" class="number">IoU</th></tr>'
    assert f"<thead>{head}</thead>" in html
    assert html.count("<tr><td>roc</td>") == html.count("<tr><td>iou</td>") == 2
    # Rules would be groups of two lines, too short for headings.
    assert [count_group_columns(lines, n_texts) for n_texts in (1, 2, 3, 4)] == [0, 1, 2, 2]
    assert count_group_columns(lines[:3], 3) == 0
    # No more than four columns of words stand beside the first number.
    assert count_group_columns(lines[:3], 5) == 1


def test_long_tables_and_whole_parts_are_folded_but_no_words_beside_them() -> None:
    def make_page(lines: int) -> str:
        table = "| a | b |\n| :-- | --: |\n" + "| 1 | 2 |\n" * lines
        return f"## Test, one\n\n**no result**\n\n{table}\n## Other\n\nwords\n\n{table}\nlast\n"

    folded = '<summary>Table of 10 lines</summary>\n<div class="scroll"'
    html = write_html(make_page(10), opened="Test")
    assert "<h3>Test, one</h3>\n<p><strong>no result</strong></p>\n<details open>" + folded in html
    assert "<h3>Other</h3>\n<p>words</p>\n<details>" + folded in html
    assert html.endswith("</details>\n<p>last</p>\n")
    assert "<details" not in write_html(make_page(9))
    html = write_html(make_page(10), fold_all=True)
    assert '<details><summary><h3>Other</h3></summary>\n<p>words</p>\n<div class="scroll"' in html
    html = write_html(make_page(1), long=0, opened="Test")
    assert html.count("<details><summary>Table of 1 line</summary>") == 1
