"""Every example in the documentation of the metrics and of `models.build` runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import evaluation.metrics
import models

MODULES = [module.name for module in pkgutil.iter_modules(evaluation.metrics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_metrics(name: str) -> None:
    module = importlib.import_module(f"evaluation.metrics.{name}")
    outcome = doctest.testmod(module)
    assert outcome.attempted, "a public metric has an example"
    assert not outcome.failed


def test_example_of_models() -> None:
    assert doctest.testmod(models) == (0, 1)
