"""Every published experiment by name: how it was made, and its page.

A new one needs an entry (`register_experiment`) and two lines in README.md, between which `python
-m evaluation.publish --name NAME OUT ...` writes. Its page is a `Layout`: one of those below, or
`list_tables` with names of `evaluation.tables.registry.TABLES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from evaluation.names import SLICES, WHOLE
from evaluation.results import Results
from evaluation.score_table import MAIN_RULE
from evaluation.tables import by_slice, folds, joint, seeds, systems
from evaluation.tables.registry import TABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Records = Sequence[Results]


@dataclass(frozen=True)
class Page:
    """A file that is written from the records.

    Attributes:
        file: its name.
        make: its text, from the experiment's name and records; "" for none.
        words: before its link in README.md; "" for no link.
        published: also written to evaluation/published, not only with `--out`.
    """

    file: str
    make: Callable[[str, Records], str]
    words: str = ""
    published: bool = True


@dataclass(frozen=True)
class Drawing:
    """A figure of several records: name without suffix, content, function."""

    name: str
    words: str
    draw: Callable[[Records], Figure]


def _accept(first: Results, other: Results) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class Layout:
    """How the records of an experiment differ, and what its page shows.

    Attributes:
        varies: the one key in which records differ.
        summarise: paragraphs of README.md's block.
        pages, figure: files; no figure is None.
        check: refuses a record that does not fit the first one.
        rows: values of score columns that are published.
        keeps_split: publish the list of slices.
        pictures: figures of OUT to copy, if all data is synthetic.
    """

    varies: Literal["seed", "system", "split"]
    summarise: Callable[[Records], list[str]]
    pages: Sequence[Page] = ()
    figure: Drawing | None = None
    check: Callable[[Results, Results], None] = _accept
    rows: Mapping[str, Any] = field(default_factory=lambda: {"unit": (SLICES, WHOLE)})
    keeps_split: bool = False
    pictures: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """A published experiment.

    Attributes:
        name: of its folder in evaluation/published and its block in README.md.
        title, command: for readers; how its records were made.
        layout: what its page shows.
        beside: experiment whose first record stands beside; "" for none.
    """

    name: str
    title: str
    command: str
    layout: Layout
    beside: str = ""


EXPERIMENTS: dict[str, Experiment] = {}
"""Every published experiment by name, in the order of README.md."""


def register_experiment(experiment: Experiment) -> Experiment:
    """Add an experiment to `EXPERIMENTS`.

    Raises:
        ValueError: the name is taken.
    """
    if experiment.name in EXPERIMENTS:
        raise ValueError(f"`experiment.name` must be new. Received: {experiment.name!r}")
    EXPERIMENTS[experiment.name] = experiment
    return experiment


def list_tables(*names: str) -> Layout:
    """Return a layout for seeds: tables of `TABLES`, record after record."""

    def make(experiment: str, records: Records) -> str:
        texts = [TABLES[name].make(results) for results in records for name in names]
        return "\n".join(text for text in texts if text)

    def summarise(records: Records) -> list[str]:
        return [seeds.describe_runs(records), seeds.make_scores(records)]

    return Layout("seed", summarise, [Page("tables.md", make, "All tables")])


# --- The layouts of today's experiments. ---


def _draw_joint(records: Records) -> Figure:
    from evaluation.figures.joint import draw_joint

    return draw_joint(joint.Sweeps(records).scores, joint.describe_sweep(records))


def _draw_systems(records: Records) -> Figure:
    from evaluation.figures.systems import draw_systems

    return draw_systems(systems.SystemComparison(records), systems.describe_systems(records))


ALL_TABLES = "All tables, and how to read them"
RUNS = Layout(
    "seed",
    seeds.summarise_runs,
    [
        Page("claims.md", seeds.make_claims_page, "How each is judged, and by which numbers"),
        Page("postprocessing.md", seeds.make_options_page),
        Page("spread.md", lambda name, records: seeds.make_spread(records), published=False),
        Page("spread.csv", lambda name, records: seeds.make_spread_csv(records), published=False),
    ],
    keeps_split=True,
    pictures=("fig_sequential_architecture", "fig_overlays", "fig_roc", "fig_class_weight"),
)
SPLITS = Layout(
    "split",
    by_slice.summarise_splits,
    [Page("by_slice.md", lambda name, records: by_slice.make_splits(*records), published=False)],
    check=by_slice.check_splits,
    rows={"unit": SLICES, "postprocess": "", "cohort": "test", "rule": MAIN_RULE},
)
SWEEP = Layout(
    "seed",
    joint.summarise_sweep,
    [Page("joint.md", lambda name, records: joint.make_joint_page(records), ALL_TABLES)],
    Drawing("fig_joint", "IoU by beta / alpha", _draw_joint),
    joint.check_sweep,
    {"unit": SLICES, "postprocess": "", "rule": MAIN_RULE},
)
SYSTEMS = Layout(
    "seed",
    systems.summarise_systems,
    [Page("comparison.md", lambda name, records: systems.make_systems_page(records), ALL_TABLES)],
    Drawing("fig_comparison", "Dice of all systems", _draw_systems),
    systems.check_systems,
    {"unit": WHOLE, "postprocess": ""},
)
FOLDS = Layout(
    "system",
    folds.summarise_folds,
    [
        Page(
            "cross_validation.md",
            lambda name, records: folds.make_folds_page(records),
            "Every fold",
        )
    ],
    check=folds.check_folds,
    rows={"unit": WHOLE, "postprocess": ""},
)

MINI = "bash reproduce.sh --preset mini{} --data LITS_MINI{}"
PATIENTS = " --test 11,16 --validation 23"
SHORT = MINI.format("-short", " --test 11,16,18,48,50 --validation 22,23")
DEMO = "bash reproduce.sh --preset demo --seed SEED"
SLICED = " --by-slice --subset 1080,58,177"
NOMINAL = "--nominal-spacing"
FOLD = "python -m evaluation.cross_validate --name NAME --folds 4 --store OUT/store --out FOLDS"
FOLD_MINI = f"{FOLD} --preset mini-short --subset 320,14 {NOMINAL}"
FOLD_DEMO = f"{FOLD} --preset demo --subset 320,60"
for experiment in (
    Experiment("mini", "18 LiTS volumes, split by patient", MINI.format("", PATIENTS), RUNS),
    Experiment("mini-augmented", "The same, augmented", MINI.format("-augmented", PATIENTS), RUNS),
    Experiment(
        "mini-by-slice", "The same, split by slice", MINI.format("", SLICED), SPLITS, "mini"
    ),
    Experiment("demo", "The phantom, three seeds", DEMO, RUNS),
    Experiment("joint-demo", "The joint loss on the phantom", f"{DEMO} --joint-sweep", SWEEP),
    Experiment("joint-mini", "The joint loss on LiTS", f"{SHORT} --seed SEED --joint-sweep", SWEEP),
    Experiment("systems-demo", "All systems on the phantom", f"{DEMO} --all-systems", SYSTEMS),
    Experiment("systems-mini", "All systems on LiTS", f"{SHORT} --all-systems {NOMINAL}", SYSTEMS),
    Experiment("folds-mini", "Cross-validation on LiTS", FOLD_MINI, FOLDS),
    Experiment("folds-demo", "Cross-validation on the phantom", FOLD_DEMO, FOLDS),
):
    register_experiment(experiment)
