"""What post-processing changes in published runs, over their seeds: the rows that are kept, and the page of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from evaluation.names import LOSSES, MODELS, TARGETS, UNSEEN
from evaluation.postprocess import CHOSEN, NONE, OPTIONS
from evaluation.results import Results
from evaluation.tables.evidence import Row, system
from evaluation.tables.text import markdown_table, readable
from evaluation.tables.whole_cases import LABELS, pooled

KEYS = ("cohort", "target", "model", "loss", "option")


def option_scores(results: Results) -> list[Row]:
    """Return the pooled IoU of a run by `KEYS`, and under "chosen" the options that validation data chose."""
    chosen = {
        (row["model"], row["loss"]): row["options"]
        for row in results.options
        if row["option"] == CHOSEN
    }
    return [
        {
            **dict(zip(KEYS, key, strict=True)),
            "iou": value,
            "chosen": chosen.get((key[2], key[3]), ""),
        }
        for key, value in pooled(results.options).items()
    ]


def options_page(name: str, described: str, by_seed: Mapping[int, Sequence[Row]]) -> str:
    """Return the page: for every model the IoU without, what each option changes alone, and with those chosen.

    Args:
        name: of the published runs.
        described: the line that says what they are.
        by_seed: of each seed its `option_scores`.
    """
    seeds = list(by_seed.values())
    text = f"# Post-processing on the runs `{name}`\n\n"
    text += (
        f"Written by `python -m evaluation.publish` from the records beside it.\n\n{described}\n\n"
    )
    text += (
        "IoU at rule roc on the slices of Table 1, mean over the seeds: without any option, the change by each option "
        "alone, and with those that validation data chose for each seed, in brackets by how much they change it. "
        "Liver is what is labelled liver or tumor.\n"
    )
    for cohort in UNSEEN:
        for target in reversed(TARGETS):
            lines = []
            for model in MODELS:
                for loss in LOSSES:
                    found = {
                        option: _mean(seeds, (cohort, target, model, loss, option))
                        for option in LABELS
                    }
                    if found[NONE] is not None:
                        lines.append([system(model, loss), readable(found[NONE]), *_changes(found)])
            if lines:
                text += f"\n## {cohort.capitalize()}, {target}\n\n"
                text += markdown_table(
                    ["model", *(LABELS[option] for option in (NONE, *OPTIONS, CHOSEN))], lines, 1
                )
    text += "\nChosen on validation data:\n\n"
    choices = [
        [system(model, loss), str(seed), choice]
        for model in MODELS
        for loss in LOSSES
        for seed, rows in by_seed.items()
        if (choice := _chosen(rows, model, loss)) is not None
    ]
    return text + markdown_table(["model", "seed", "options"], choices, left=3)


def _mean(seeds: Sequence[Sequence[Row]], key: tuple[str, ...]) -> float | None:
    found = [
        row["iou"] for rows in seeds for row in rows if tuple(row[name] for name in KEYS) == key
    ]
    return statistics.fmean(found) if len(found) == len(seeds) else None


def _changes(found: dict[str, float | None]) -> list[str]:
    base, last = found[NONE], found[CHOSEN]
    assert base is not None
    alone = [found[option] for option in OPTIONS]
    cells = ["n/a" if value is None else f"{value - base:+.3f}" for value in alone]
    return [*cells, "n/a" if last is None else f"{last:.3f} ({last - base:+.3f})"]


def _chosen(rows: Sequence[Row], model: str, loss: str) -> str | None:
    found = [row["chosen"] for row in rows if (row["model"], row["loss"]) == (model, loss)]
    return ("; ".join(LABELS[name] for name in found[0].split()) or "none") if found else None
