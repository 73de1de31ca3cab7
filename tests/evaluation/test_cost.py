"""The arithmetic of a network, by hand and on the real graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.cost import cost_markdown, cost_rows, gflops
from evaluation.history import describe_network
from evaluation.results import read_results
from models.unet import unet
from tests.evaluation.fake_out import write_out


def test_a_small_unet_by_hand(tmp_path: Path) -> None:
    """Widths 4 and 8 at 16 px: multiplications of each convolution, counted on paper."""
    path = tmp_path / "net.keras"
    unet(16, widths=(4, 8), dropout=0).save(path)
    multiplications = (
        256 * 9 * (1 * 4 + 4 * 4)  # level 1, down
        + 64 * 9 * (4 * 8 + 8 * 8)  # bottom, 8 x 8
        + 64 * 4 * (8 * 4)  # 2 x 2 transposed: every pixel of its input gives 4
        + 256 * 9 * (8 * 4 + 4 * 4)  # level 1, up, on the concatenation
        + 256 * (4 * 1)  # classifier
    )
    assert gflops(describe_network(path)) == pytest.approx(2 * multiplications / 1e9)


def test_table(tmp_path: Path) -> None:
    results = read_results(write_out(tmp_path / "out"))
    rows = {row["system"]: row for row in cost_rows(results)}
    one, both = rows["one-step, cross-entropy"], rows["sequential, balanced"]
    assert (one["networks"], both["networks"]) == (1, 2)
    assert both["gflops"] > 1.9 * one["gflops"]
    assert rows["one-step, balanced"]["train_s"] > one["train_s"]
    assert one["ms_per_slice"] is None
    assert "| one-step, cross-entropy | 1 | " in cost_markdown(results)
