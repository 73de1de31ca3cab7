"""The arithmetic of a network, by hand and on the real graph."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from evaluation.figures.history import describe_network
from evaluation.results import read_results
from evaluation.tables.cost import count_gflops, list_costs, make_cost
from models.unet import build_unet
from tests.evaluation.fake_out import write_out


def test_a_small_unet_by_hand() -> None:
    """Widths 4 and 8 at 16 px: multiplications of each convolution, counted on paper."""
    network = describe_network(build_unet(16, widths=(4, 8), dropout=0))
    multiplications = (
        256 * 9 * (1 * 4 + 4 * 4)  # level 1, down
        + 64 * 9 * (4 * 8 + 8 * 8)  # bottom, 8 x 8
        + 64 * 4 * (8 * 4)  # 2 x 2 transposed: every pixel of its input gives 4
        + 256 * 9 * (8 * 4 + 4 * 4)  # level 1, up, on the concatenation
        + 256 * (4 * 1)  # classifier
    )
    assert count_gflops(network) == pytest.approx(2 * multiplications / 1e9)


def by_hand(classes: int) -> float:
    """Return 10^9 operations of the made-up U-Net: 128 px, widths 16, 32, 64, 128, 256."""
    down = 128**2 * 9 * (1 * 16 + 16 * 16) + 64**2 * 9 * (16 * 32 + 32 * 32)
    down += 32**2 * 9 * (32 * 64 + 64 * 64) + 16**2 * 9 * (64 * 128 + 128 * 128)
    bottom = 8**2 * 9 * (128 * 256 + 256 * 256)
    up = 4 * (8**2 * 256 * 128 + 16**2 * 128 * 64 + 32**2 * 64 * 32 + 64**2 * 32 * 16)
    joined = 9 * (16**2 * 3 * 128**2 + 32**2 * 3 * 64**2 + 64**2 * 3 * 32**2 + 128**2 * 3 * 16**2)
    return 2 * (down + bottom + up + joined + 128**2 * 16 * classes) / 1e9


SYSTEMS = ("one-step", "sequential", "joint")
# Of fake_out: an epoch takes 11.5 s, 14 epochs of cross-entropy and 4 of balanced; the joint model
# began as the pair.
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
    costs = {cost.system: cost for cost in list_costs(read_results(write_out(tmp_path / "out")))}
    assert list(costs) == list(SECONDS)
    for name, cost in costs.items():
        one_step = name.startswith("one-step")
        assert asdict(cost) == {
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
    text = make_cost(read_results(write_out(tmp_path / "out")))
    cells = ["1", "1,940,851", f"{by_hand(3):.2f}", "207", "13.0", "1,234", "303"]
    assert f"| one-step, balanced | {' | '.join(cells)} |" in text
    cells = ["2", "3,881,634", f"{2 * by_hand(1):.2f}", "529", "15.0", "1,234", "305"]
    assert f"| joint, balanced | {' | '.join(cells)} |" in text
    assert "GFLOPs a slice of 64 px" in text
    assert "joint" not in make_cost(read_results(write_out(tmp_path / "two", joint=False)))


def test_a_joint_model_from_fresh_weights_and_records_that_are_not_there(tmp_path: Path) -> None:
    results = read_results(write_out(tmp_path / "out"))
    joint = [phase for phase in results.training["phases"] if phase["system"] == "joint"]
    for phase in joint:
        phase["start"] = "scratch"
    costs = {cost.system: cost for cost in list_costs(results)}
    seconds = [costs[f"joint, {phase}"].train_s for phase in ("cross-entropy", "balanced")]
    assert seconds == [161.0, 207.0]
    for phase in joint:
        phase["start"] = "pair"  # of another run
    results.training["phases"][:] = joint
    results.training["architectures"].clear()
    results.find_entry("joint", "ce").pop("ms_per_slice")
    cost = next(cost for cost in list_costs(results) if cost.system == "joint, cross-entropy")
    assert (cost.gflops, cost.parameters, cost.train_s, cost.ms_per_slice) == (None,) * 4
    assert cost.peak_memory_mib == 1234.5
    line = "| joint, cross-entropy | 2 | n/a | n/a | n/a | n/a | 1,234 | 302 |"
    assert line in make_cost(results)
