"""Runs of different seeds: mean and spread of scores, verdicts on claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import pandas as pd

from evaluation.metrics.counts import METRICS
from evaluation.metrics.thresholds import RULES
from evaluation.names import COHORTS, NAMES, TARGETS, UNSEEN, describe_origin, spell_system
from evaluation.postprocess import CHOSEN, NONE, OPTIONS
from evaluation.results import Results, list_notes
from evaluation.score_table import KEYS, MAIN_RULE, select, sort_rows
from evaluation.tables.claims import HOLDS, UNTESTED, describe_claim, judge_claims
from evaluation.tables.postprocessing import HEADINGS as OPTION_HEADINGS
from evaluation.tables.postprocessing import LABELS, list_choices, pool_options, write_change
from evaluation.tables.table1 import AREAS
from evaluation.tables.text import (
    COVERAGE,
    FEW,
    HOW_SCORED,
    NO_PAPER_NUMBERS,
    describe_data,
    explain_blind,
    is_known,
    list_commits,
    list_machines,
    make_caption,
    make_markdown,
    write_count,
    write_iou_interval,
    write_score,
)
from evaluation.tables.training import describe_scaling

SPREAD_METRICS = {"iou": "IoU", "dice": "Dice", "rauc": "rAUC"}
STATISTICS = {"mean": "mean", "sd": "std", "min": "min", "max": "max", "n_seeds": "count"}
"""Columns of spread.csv, and pandas' names of them."""
AT_ROC = ("dice", "pixel_accuracy", "rand_index")
"""Scores at the main rule that stand first in the README; other registered ones follow."""
PLACES = (*COHORTS, "training")
"""Where a claim gets a verdict."""
WRITTEN = "Written by `python -m evaluation.publish` from the records beside it."

Records = Sequence[Results]
"""Results of one seed each."""


def list_seeds(records: Records) -> str:
    """Write the seeds of several results."""
    return ", ".join(str(results.seed) for results in records)


# --- The README's block. ---


def describe_runs(records: Records) -> str:
    """Say which runs these are: data, seeds, time, machine, commit."""
    summary, data = records[0].summary, records[0].data
    sets = [
        f"{data[f'{name}_slices']} {name} slices of {write_count(data[f'{name}_cases'], 'case')}"
        for name in ("train", *COHORTS[:2])
    ]
    if external := data["external"]:
        cases = write_count(external["cases"], "case")
        origin = describe_origin(external)
        sets.append(f"{external['slices']} external slices of {cases} ({origin})")
    minutes = [f"{sum(results.summary['timing_s'].values()) / 60:.0f}" for results in records]
    trained = [entry for results in records for entry in results.summary["trained_on"]]
    backends = ", ".join(sorted({entry["keras_backend"] for entry in trained}))
    return (
        f"Data: {describe_data(data)}; {', '.join(sets)}. Preset `{summary['preset']}`, seed "
        f"{list_seeds(records)}. Training and evaluation took {', '.join(minutes)} minutes on "
        f"{' and '.join(list_machines(trained))} (backend {backends}; trained at commit "
        f"{list_commits(trained)})."
    )


def summarise_runs(records: Records) -> list[str]:
    """Return the paragraphs of the README's block: runs, failures, scores, verdicts."""
    how = f"{HOW_SCORED} " + ("Cells are mean ± SD over the seeds. " if len(records) > 1 else "")
    how += f"Intervals by patient: {COVERAGE}. {FEW}" if has_intervals(records) else ""
    blind = explain_blind(records[0].blind_tumor_iou, UNSEEN)
    scalings = [
        f"Seed {results.seed}: {describe_scaling(results.training['scaling'])}"
        for results in records
        if results.training["scaling"]
    ]
    caption = f"{describe_runs(records)} {how.strip()}\n\n{blind}{' '.join(scalings)}"
    failures = []
    for results in records:
        failures += [
            f"**Seed {results.seed}: {spell_system(*pair)}: no result: {why.partition(': ')[2]}.**"
            for pair, why in results.failures.items()
        ]
        failures += [f"Seed {results.seed}: {note}" for note in list_notes(results.training)]
    parts = [caption, " ".join(failures), make_scores(records), make_verdicts(records)]
    return [part for part in parts if part]


def has_intervals(records: Records) -> bool:
    """Say whether scores have intervals: of one seed, where they are known."""
    return len(records) == 1 and "iou_low" in records[0].table1


def make_scores(records: Records) -> str:
    """Return test and external scores: IoU at every rule, others at rule roc.

    There one seed's IoU has its interval; several seeds have their spread.
    """
    table = pd.concat([results.table1 for results in records])
    table = sort_rows(select(table, cohort=UNSEEN))
    rules = [rule for rule in RULES if rule in set(table["rule"])]
    registered = [name for name, metric in METRICS.items() if metric.table1 and name != "iou"]
    names = [name for name in dict.fromkeys((*AT_ROC, *registered)) if name in table]
    titles = [f"{METRICS[name].title}, rule {MAIN_RULE}" for name in names]
    headings = ["cohort", "target", "loss", "model", *(f"IoU, rule {rule}" for rule in rules)]
    headings += [f"95 % interval, rule {MAIN_RULE}"] if has_intervals(records) else []
    headings += titles + [NAMES[name] for name in AREAS]
    lines = []
    for (cohort, target, phase, system), rows in table.groupby(KEYS[:-1], sort=False):
        cells = [_write_cell(select(rows, rule=rule)["iou"], len(records)) for rule in rules]
        at_roc = select(rows, rule=MAIN_RULE)
        if has_intervals(records):
            cells.append(_write_interval(next(at_roc.itertuples(index=False), None)))
        cells += [_write_cell(at_roc[name], len(records)) for name in (*names, *AREAS)]
        spelled = [cohort, target, NAMES.get(phase, phase), spell_system(system)]
        lines.append([*spelled, *(cell or "no result" for cell in cells)])
    return make_markdown(headings, lines, left=4)


def _write_interval(row: Any) -> str:
    if row is None:
        return ""
    n = f" ({write_count(int(row.n_counted))})" if is_known(row.iou_low) else ""
    return write_iou_interval(row) + n


def _write_cell(values: pd.Series, n_records: int) -> str:
    """Write mean ± SD of the seeds' values; the value of one; "" for none."""
    values = values.dropna()
    if not len(values):
        return ""
    text = write_score(values.mean())
    text += f" ± {write_score(values.std())}" if len(values) > 1 else ""
    return text if len(values) == n_records else f"{text} (n = {len(values)} of {n_records})"


# --- The claims and post-processing, seed by seed. ---


def list_verdicts(records: Records) -> list[tuple[dict[str, Any], dict[str, list[str]]]]:
    """Return each claim with its verdict of every seed, by cohort or "training"."""
    seeds = [judge_claims(results) for results in records]
    return [
        (claims[0], {where: [claim["cohorts"][where]["verdict"] for claim in claims]
                     for where in claims[0]["cohorts"]})
        for claims in zip(*seeds, strict=True)
    ]  # fmt: skip


def make_verdicts(records: Records) -> str:
    """Return each claim's verdict by cohort; of several seeds, how many hold."""
    rows = {
        claim["title"]: {where: _count_verdicts(of_seeds) for where, of_seeds in verdicts.items()}
        for claim, verdicts in list_verdicts(records)
    }
    tested = {w for row in rows.values() for w, verdict in row.items() if verdict != UNTESTED}
    columns = [where for where in PLACES if where in tested]
    lines = [[title, *(row.get(where, "") for where in columns)] for title, row in rows.items()]
    return make_markdown(["claim of the paper", *columns], lines, left=1 + len(columns))


def _count_verdicts(verdicts: Sequence[str]) -> str:
    tested = [verdict for verdict in verdicts if verdict != UNTESTED]
    if len(verdicts) == 1 or not tested:
        return verdicts[0]
    rest = len(verdicts) - len(tested)
    text = f"holds in {tested.count(HOLDS)} of {write_count(len(tested), 'seed')}"
    return text + (f", {rest} not tested" if rest else "")


def make_claims_page(name: str, records: Records) -> str:
    """Return each claim: words, measure, and every seed's verdicts and numbers."""
    text = f"# The paper's claims on the runs `{name}`\n\n{WRITTEN}\n\n{describe_runs(records)}\n"
    seeds = [judge_claims(results) for results in records]
    for index, claims in enumerate(zip(*seeds, strict=True), start=1):
        lines = [
            [where, str(results.seed), f"**{judged['verdict']}**", judged["how_much"]]
            for results, claim in zip(records, claims, strict=True)
            for where, judged in claim["cohorts"].items()
        ]
        lines.sort(key=lambda line: PLACES.index(line[0]))
        text += describe_claim(index, claims[0])
        text += make_markdown(["where", "seed", "verdict", "numbers"], lines, left=4)
    return text


def make_options_page(name: str, records: Records) -> str:
    """Return what post-processing changes; "" where an (old) seed has none."""
    # A mean over some of the seeds would hide the missing ones.
    seeds = [pool_options(results) for results in records]
    if not all(seeds):
        return ""
    text = f"# Post-processing on the runs `{name}`\n\n{WRITTEN}\n\n{describe_runs(records)}\n\n"
    text += (
        "IoU at rule roc on the slices of Table 1, mean over the seeds: without any option, the "
        "change by each option alone, and with those that validation data chose for each seed, in "
        "brackets by how much they change it. Liver is what is labelled liver or tumor.\n"
    )
    pairs = records[0].list_systems()
    for cohort, target in product(UNSEEN, reversed(TARGETS)):
        lines = []
        for pair in pairs:
            means = {option: _average(seeds, (cohort, target, *pair, option)) for option in LABELS}
            base, last = means[NONE], means[CHOSEN]
            if base is not None:
                changes = [write_change(means[option], base) for option in OPTIONS]
                chosen = "n/a" if last is None else f"{last:.3f} ({last - base:+.3f})"
                lines.append([spell_system(*pair), write_score(base), *changes, chosen])
        if lines:
            text += f"\n## {cohort.capitalize()}, {target}\n\n"
            text += make_markdown(OPTION_HEADINGS, lines, left=1)
    # Each seed chose for itself, so its choice is named by seed.
    choices = [list_choices(results, "; ") for results in records]
    lines = [
        [spell_system(*pair), str(results.seed), of_seed[pair]]
        for pair in pairs
        for results, of_seed in zip(records, choices, strict=True)
        if pair in of_seed
    ]
    text += "\nChosen on validation data:\n\n"
    return text + make_markdown(["model", "seed", "options"], lines, left=3)


def _average(seeds: Sequence[Mapping[Any, float]], key: tuple[str, ...]) -> float | None:
    values = [seed[key] for seed in seeds if key in seed]
    return fmean(values) if len(values) == len(seeds) else None


# --- spread.csv and spread.md. ---


def spread_seeds(records: Records) -> pd.DataFrame:
    """Return `KEYS`, metric, mean, SD (n - 1), min, max and number of seeds.

    A seed that failed, or whose score is undefined, does not count.
    """
    long = pd.concat([results.table1 for results in records]).melt(
        KEYS, list(SPREAD_METRICS), "metric", "value"
    )
    spread = long.groupby([*KEYS, "metric"], sort=False)["value"].agg(**STATISTICS)
    return sort_rows(spread.reset_index())


def make_spread_csv(records: Records) -> str:
    """Return the spread in long form, all digits; `data` names the cohort."""
    spread = spread_seeds(records)
    origins = [records[0].describe_origin(cohort) for cohort in spread["cohort"]]
    spread.insert(0, "data", origins)
    return spread.to_csv(index=False, lineterminator="\n")


def make_spread(records: Records) -> str:
    """Return the spread as Markdown: scores by cohort, failed systems, claims."""
    first = records[0]
    data = first.label.rpartition("; preset ")[0]
    seeds = f"{len(records)} seeds: {list_seeds(records)}"
    caption = make_caption(f"{data}; preset {first.summary['preset']}, {seeds}")
    caption += ["Every seed on the same split. " + HOW_SCORED, NO_PAPER_NUMBERS]
    text = "# Spread over seeds\n\n" + "  \n".join(caption) + "\n\n"
    text += (
        "Cells: mean ± SD (min to max) over seeds; SD with n - 1, n/a with one seed; "
        "n/a alone: undefined in each.\n"
    )
    headings = ["target", "loss", "model", "rule", *SPREAD_METRICS.values(), "seeds"]
    spread = spread_seeds(records)
    for cohort in first.cohorts:
        slices, cases = first.count_sample(cohort)
        origin = first.describe_origin(cohort)
        text += f"\n## {cohort.capitalize()}: {origin}, {slices} slices of {cases} cases\n\n"
        lines = []
        rows = select(spread, cohort=cohort)
        for (_, target, phase, system, rule), scores in rows.groupby(KEYS, sort=False):
            names = [target, NAMES.get(phase, phase), spell_system(system), rule]
            values = {score.metric: score._asdict() for score in scores.itertuples(index=False)}
            n_seeds = values["iou"]["n_seeds"]
            cells = [_write_spread(values[metric], n_seeds) for metric in SPREAD_METRICS]
            lines.append([*names, *cells, f"{n_seeds} of {len(records)}"])
        text += make_markdown(headings, lines, left=4) if lines else "No scores.\n"
    # A failed seed is in no mean, so it must be named.
    for results in records:
        for pair, why in results.failures.items():
            name = spell_system(*pair)
            text += f"\n**Seed {results.seed}: {name}: {why}: NOT A RESULT, not counted.**\n"
    lines = []
    for claim, verdicts in list_verdicts(records):
        for where, of_seeds in verdicts.items():
            if where in first.cohorts or where == "training":
                rest = of_seeds.count(UNTESTED)
                holds = f"{of_seeds.count(HOLDS)} of {len(of_seeds) - rest}"
                lines.append([claim["title"], where, holds, str(rest)])
    # An untested seed neither holds nor fails, so it is counted apart.
    headings = ["claim", "where", "holds in seeds tested", "seeds not tested"]
    return text + "\n## The paper's claims\n\n" + make_markdown(headings, lines, left=2)


def _write_spread(score: Mapping[str, Any], n_seeds: int) -> str:
    if not score["n_seeds"]:
        return "n/a"
    mean, sd, low, high = (write_score(score[name]) for name in ("mean", "sd", "min", "max"))
    text = f"{mean} ± {sd} ({low} to {high})"
    return text if score["n_seeds"] == n_seeds else f"{text}, n = {score['n_seeds']}"
