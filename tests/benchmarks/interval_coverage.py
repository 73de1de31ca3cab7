"""How often the interval by patient holds the true score: nominal 95 %, simulated for few patients.

    python -m tests.benchmarks.interval_coverage [--patients 5,10,20,50] [--repetitions 2000]

Patients are made up: the union of the masks of each has a lognormal size (sigma 1, as tumors
differ), its IoU is Beta(4, 3) and independent of the size, so the pooled IoU of the population is
4/7. How often the interval of `evaluation.metrics.statistics` holds 4/7 depends little on these
choices and much on the number of patients.
"""

from __future__ import annotations

import numpy as np

from data.command import InputError, Parser, run_command
from evaluation.metrics.counts import Counts, iou
from evaluation.metrics.statistics import LEAST_PATIENTS, bound_score

IOU_OF_PATIENT = (4.0, 3.0)
DRAWS = 500


def simulate_coverage(n_patients: int, repetitions: int = 2000, seed: int = 0) -> float:
    """Return the share of simulated studies whose interval holds the population's pooled IoU.

    Args:
        n_patients: of each study, at least 5 (fewer have no interval).
        repetitions: how many studies are simulated.
        seed: of the patients.
    """
    rng = np.random.default_rng(seed)
    a, b = IOU_OF_PATIENT
    held = 0
    for _ in range(repetitions):
        unions = np.round(rng.lognormal(7, 1, n_patients)).astype(int) + 1
        overlaps = np.round(unions * rng.beta(a, b, n_patients)).astype(int)
        study = {
            str(n): Counts(tp=tp, fn=union - tp)
            for n, (union, tp) in enumerate(zip(unions, overlaps, strict=True))
        }
        bounds = bound_score(study, iou, DRAWS)
        assert bounds.low is not None
        assert bounds.high is not None
        held += bounds.low <= a / (a + b) <= bounds.high
    return held / repetitions


def main(arguments: list[str] | None = None) -> None:
    """Print the coverage by number of patients."""
    parser = Parser(
        prog="python -m tests.benchmarks.interval_coverage",
        description=(__doc__ or "").split("\n", 1)[0],
    )
    parser.add_argument(
        "--patients", default="5,10,20,50", help="numbers of patients, default 5,10,20,50"
    )
    parser.add_argument(
        "--repetitions", type=int, default=2000, help="studies for each, default 2000"
    )
    flags = parser.parse_args(arguments)
    try:
        numbers = [int(text) for text in flags.patients.split(",")]
    except ValueError:
        raise InputError(
            f"--patients {flags.patients}: must be whole numbers with commas"
        ) from None
    if min(numbers) < LEAST_PATIENTS or flags.repetitions < 1:
        raise InputError(f"--patients must be {LEAST_PATIENTS} or more, --repetitions 1 or more")
    for n in numbers:
        share = simulate_coverage(n, flags.repetitions)
        print(f"{n:4d} patients: {share:.0%} of nominal 95 % intervals hold the true IoU")


if __name__ == "__main__":
    run_command(main, "python -m tests.benchmarks.interval_coverage")
