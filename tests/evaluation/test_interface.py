"""The Python interface: the examples of its documentation."""

from __future__ import annotations

import doctest

import evaluation


def test_the_examples_of_the_documentation() -> None:
    outcome = doctest.testmod(evaluation)
    assert (outcome.failed, outcome.attempted > 0) == (0, True)
