"""Every table of a run by name; `evaluation.tables` and the report use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evaluation.results import Results
from evaluation.tables.ablation import make_ablation
from evaluation.tables.calibration import make_calibration
from evaluation.tables.claims import make_claims
from evaluation.tables.comparisons import make_comparisons
from evaluation.tables.cost import make_cost
from evaluation.tables.joint import make_joint
from evaluation.tables.lits import make_lits
from evaluation.tables.postprocessing import make_postprocessing
from evaluation.tables.systems import make_systems
from evaluation.tables.table1 import make_table1
from evaluation.tables.training import make_training
from evaluation.tables.whole_cases import make_whole_cases


@dataclass(frozen=True)
class Table:
    """A table of one run.

    Attributes:
        name: of its file, without suffix, and of its anchor in the report.
        title: for readers.
        make: a page of Markdown; "" where the run has nothing.
    """

    name: str
    title: str
    make: Callable[[Results], str]


TABLES: dict[str, Table] = {}
"""Every table by name, in the order of the report."""


def register_table(table: Table) -> Table:
    """Add a table to `TABLES`.

    Raises:
        ValueError: the name is taken.
    """
    if table.name in TABLES:
        raise ValueError(f"`table.name` must be new. Received: {table.name!r}")
    TABLES[table.name] = table
    return table


register_table(Table("table1", "Table 1", make_table1))
register_table(Table("claims", "Claims of the paper", make_claims))
register_table(Table("comparisons", "Systems compared by patient", make_comparisons))
register_table(Table("ablation", "Ablation: loss, threshold rule, model", make_ablation))
register_table(Table("postprocessing", "Ablation: post-processing", make_postprocessing))
register_table(Table("whole_cases", "Whole cases", make_whole_cases))
register_table(Table("systems", "All systems", make_systems))
register_table(Table("joint", "Joint loss", make_joint))
register_table(Table("lits", "LiTS figures", make_lits))
register_table(Table("calibration", "Calibration", make_calibration))
register_table(Table("cost", "Cost", make_cost))
register_table(Table("training", "Training", make_training))
