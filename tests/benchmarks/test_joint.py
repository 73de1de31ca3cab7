"""The benchmark of joint training prints what it measured, of networks that train."""

from __future__ import annotations

import re

import numpy as np
import pytest

from data.backend import choose_precision
from tests.benchmarks.joint import compile_networks
from tests.conftest import Command


def test_it_prints_time_and_memory(run_module: Command) -> None:
    done = run_module("tests.benchmarks.joint", "--size", 32, "--filters", 4, "--slices", 4)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"32 px, 4 filters, batch 2, {choose_precision('mixed_bfloat16')}" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "one network",
        "the pair, one after the other",
        "joint",
    ]
    found = []
    for line in lines[1:]:
        best, median, before, peak = (
            float(n.replace(",", "")) for n in re.findall(r"[\d,]+\.?\d*(?= ms|, m| MiB)", line)
        )
        assert 0 < best <= median
        assert 100 < before < peak
        found.append((best, median))
    one, pair, _ = found
    assert pair == pytest.approx((2 * one[0], 2 * one[1]), abs=0.11)  # printed to a tenth


def test_joint_trains_both_networks() -> None:
    noise = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    trained = compile_networks("joint", 32, 4)
    before = [np.array(weights) for weights in trained.trainable_variables]
    trained.train_on_batch(
        {"slice": noise, "scaled": noise},
        dict.fromkeys(("liver", "tumor"), (noise > 0.5).astype(np.float32)),
    )
    moved = [
        not np.array_equal(old, np.array(new))
        for old, new in zip(before, trained.trainable_variables, strict=True)
    ]
    half = len(moved) // 2
    assert any(moved[:half])
    assert any(moved[half:])


def test_bad_flags_are_one_line(run_module: Command) -> None:
    done = run_module("tests.benchmarks.joint", "--size", 40)
    assert done.returncode == 2
    assert done.stderr == "tests.benchmarks.joint: --size 40: must be a multiple of 16\n"
