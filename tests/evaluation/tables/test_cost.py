"""The arithmetic of a network, by hand and on the real graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.figures.history import describe_network
from evaluation.results import read_results
from evaluation.tables.cost import cost_markdown, cost_rows, gflops
from models.unet import build_unet
from tests.evaluation.fake_out import write_out


def test_a_small_unet_by_hand(tmp_path: Path) -> None:
    """Widths 4 and 8 at 16 px: multiplications of each convolution, counted on paper."""
    path = tmp_path / "net.keras"
    build_unet(16, widths=(4, 8), dropout=0).save(path)
    multiplications = (
        256 * 9 * (1 * 4 + 4 * 4)  # level 1, down
        + 64 * 9 * (4 * 8 + 8 * 8)  # bottom, 8 x 8
        + 64 * 4 * (8 * 4)  # 2 x 2 transposed: every pixel of its input gives 4
        + 256 * 9 * (8 * 4 + 4 * 4)  # level 1, up, on the concatenation
        + 256 * (4 * 1)  # classifier
    )
    assert gflops(describe_network(path)) == pytest.approx(2 * multiplications / 1e9)


def by_hand(classes: int) -> float:
    """Return 10^9 operations of the made-up U-Net: 128 px, widths 16, 32, 64, 128, 256."""
    down = 128**2 * 9 * (1 * 16 + 16 * 16) + 64**2 * 9 * (16 * 32 + 32 * 32)
    down += 32**2 * 9 * (32 * 64 + 64 * 64) + 16**2 * 9 * (64 * 128 + 128 * 128)
    bottom = 8**2 * 9 * (128 * 256 + 256 * 256)
    up = 4 * (8**2 * 256 * 128 + 16**2 * 128 * 64 + 32**2 * 64 * 32 + 64**2 * 32 * 16)
    joined = 9 * (16**2 * 3 * 128**2 + 32**2 * 3 * 64**2 + 64**2 * 3 * 32**2 + 128**2 * 3 * 16**2)
    return 2 * (down + bottom + up + joined + 128**2 * 16 * classes) / 1e9


SYSTEMS = ("one-step", "sequential", "joint")
# Of fake_out: an epoch takes 11.5 s, 14 epochs of cross-entropy and 4 of balanced; the joint model began as the pair.
SECONDS = {
    "one-step, cross-entropy": 161.0,
    "one-step, balanced": 161.0 + 46.0,
    "sequential, cross-entropy": 2 * 161.0,
    "sequential, balanced": 2 * (161.0 + 46.0),
    "joint, cross-entropy": 161.0 + 2 * 161.0,
    "joint, balanced": 161.0 + 46.0 + 2 * 161.0,
}
MS = dict(
    zip(
        [f"{m}, {loss}" for loss in ("cross-entropy", "balanced") for m in SYSTEMS],
        range(10, 16),
        strict=True,
    )
)


def test_every_cell(tmp_path: Path) -> None:
    rows = {row["system"]: row for row in cost_rows(read_results(write_out(tmp_path / "out")))}
    assert list(rows) == list(SECONDS)
    for name, row in rows.items():
        one_step = name.startswith("one-step")
        assert row == {
            "system": name,
            "networks": 1 if one_step else 2,
            "parameters": 1_940_851 if one_step else 2 * 1_940_817,
            "gflops": pytest.approx(by_hand(3) if one_step else 2 * by_hand(1)),
            "train_s": SECONDS[name],
            "ms_per_slice": MS[name],
            "peak_memory_mib": 1234.5,  # of cross-entropy; the balanced phases take 1001.0
            "predict_peak_memory_mib": 290.0 + MS[name],
        }


def test_cells_as_they_are_written(tmp_path: Path) -> None:
    text = cost_markdown(read_results(write_out(tmp_path / "out")))
    cells = ["1", "1,940,851", f"{by_hand(3):.2f}", "207", "13.0", "1,234", "303"]
    assert f"| one-step, balanced | {' | '.join(cells)} |" in text
    cells = ["2", "3,881,634", f"{2 * by_hand(1):.2f}", "529", "15.0", "1,234", "305"]
    assert f"| joint, balanced | {' | '.join(cells)} |" in text
    assert "GFLOPs a slice of 64 px" in text
    assert "joint" not in cost_markdown(read_results(write_out(tmp_path / "two", joint=False)))


def test_a_joint_model_from_fresh_weights_and_records_that_are_not_there(tmp_path: Path) -> None:
    results = read_results(write_out(tmp_path / "out"))
    joint = [phase for phase in results.training["phases"] if phase["stage"] == "joint"]
    for phase in joint:
        phase["start"] = "scratch"
    rows = {row["system"]: row for row in cost_rows(results)}
    assert (rows["joint, cross-entropy"]["train_s"], rows["joint, balanced"]["train_s"]) == (
        161.0,
        207.0,
    )
    for phase in joint:
        phase["start"] = "pair"  # of another run
    results.training["phases"][:] = joint
    results.training["architectures"].clear()
    results.summary["systems"][2].pop("ms_per_slice")
    rows = {row["system"]: row for row in cost_rows(results)}
    nothing = ("gflops", "parameters", "train_s", "ms_per_slice")
    assert [rows["joint, cross-entropy"][name] for name in nothing] == [None] * 4
    assert rows["joint, cross-entropy"]["peak_memory_mib"] == 1234.5
    assert "| joint, cross-entropy | 2 | n/a | n/a | n/a | n/a | 1,234 | 302 |" in cost_markdown(
        results
    )
