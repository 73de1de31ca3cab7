"""The presets: what the paper states stands in them, and every value says where it comes from."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from data.command import InputError
from data.runs import PHASES
from tests.conftest import Command
from training.presets import PRESETS, Preset, describe, find_preset
from training.systems import SYSTEMS


def test_paper_preset_is_what_the_paper_states() -> None:
    paper = find_preset("paper")
    assert paper.size == 512
    assert paper.subset == (765, 50, 50)
    one_step, sequential = (SYSTEMS[name].under(paper) for name in ("one_step", "sequential"))
    assert [one_step.find_learning_rate(phase) for phase in PHASES] == [0.001, 0.0001]
    assert [one_step.find_epochs("classes", phase) for phase in PHASES] == [50, 30]
    assert [sequential.find_epochs(network, "ce") for network in ("liver", "tumor")] == [300, 600]
    assert one_step.list_options("classes")["widths"] == [64, 128, 256, 512, 1024]
    short = find_preset("paper-short")
    for name in ("one_step", "sequential"):
        system = SYSTEMS[name].under(short)
        for network in system.networks:
            assert [system.find_epochs(network, phase) for phase in PHASES] == [50, 30]


def test_only_what_the_text_states_is_called_stated() -> None:
    """Read off the text: sections 2.4 and 3.1; everything else is an assumption."""
    stated: dict[str, Any] = {
        "learning_rate_ce": 0.001,
        "learning_rate_balanced": 0.0001,
        "one_step_epochs": (50, 30),
    }
    stated |= {"subset": (765, 50, 50), "loss": "cross_entropy"}
    for preset in PRESETS.values():
        for entry in dataclasses.fields(preset):
            if entry.name != "name" and entry.metadata["source"].startswith("paper "):
                assert getattr(preset, entry.name) == stated[entry.name], (preset.name, entry.name)
    paper = {
        e.name
        for e in dataclasses.fields(PRESETS["paper"])
        if "paper " in e.metadata.get("source", "")[:6]
    }
    assert paper == set(stated)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_value_has_a_source_and_none_can_change(preset: Preset) -> None:
    for entry in dataclasses.fields(preset)[1:]:
        assert entry.metadata["source"].startswith(("paper ", "assumed: ")), entry.name
        assert entry.name in describe(preset)
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.size = 1  # type: ignore[misc]
    assert "Time" in (type(preset).__doc__ or "") or "minutes" in (type(preset).__doc__ or "")


def test_sweep_has_at_least_five_weights() -> None:
    assert all(preset.sweep_weights >= 5 for preset in PRESETS.values())


def test_unknown_preset_is_one_line(run_module: Command) -> None:
    with pytest.raises(InputError, match="--preset nope: unknown preset"):
        find_preset("nope")
    done = run_module("training.presets", "nope")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert run_module("training.presets", "paper", "--field", "subset").stdout == "765,50,50\n"
    assert run_module("training.presets", "mini", "--field", "subset").stdout == "\n"
