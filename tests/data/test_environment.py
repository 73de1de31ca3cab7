"""What a run records of its machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from data.environment import describe_environment
from evaluation.tables.text import list_machines


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system cannot bind a process to a core"
)
def test_only_cores_that_the_process_may_use_are_recorded() -> None:
    bound = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{bound}; from data.environment import describe_environment as d; print(d()['cores'])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "1\n"
    )
    assert describe_environment()["cores"] == len(os.sched_getaffinity(0))


def test_machines_are_named_once_and_in_good_grammar() -> None:
    single, dual = {"cores": 1, "processor": "EPYC"}, {"cores": 2, "processor": "EPYC"}
    assert list_machines([dual, single, dual]) == ["1 core of EPYC", "2 cores of EPYC"]
