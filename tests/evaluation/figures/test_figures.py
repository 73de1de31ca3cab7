"""Figures from a made-up OUT: all there, not blank, the same twice, and no failed system as a result."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from data.command import InputError
from evaluation.figures import roc as draw_roc
from evaluation.figures import scores as draw_scores
from evaluation.figures import slices as draw_slices
from evaluation.figures.__main__ import FIGURES, draw_all, main
from evaluation.figures.architecture import sequential_architecture, sequential_images
from evaluation.figures.style import style
from evaluation.figures.unet import blocks_of, kernel
from evaluation.results import read_results
from tests.evaluation.fake_out import layers, write_out

FAILURES = {("sequential", "balanced"): "all background"}


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def texts(figure) -> str:
    return "\n".join(artist.get_text() for artist in set(figure.findobj(Text)))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = write_out(tmp_path_factory.mktemp("figures") / "out")
    written, skipped = draw_all(read_results(out))
    return out, written, skipped


def test_every_figure_is_written(drawn):
    out, written, skipped = drawn
    assert skipped == {}
    names = {f"{name}{suffix}" for name in FIGURES for suffix in (".png", ".pdf")}
    assert (
        {path.name for path in written}
        == names
        == {path.name for path in (out / "figures").iterdir()}
    )
    for path in written:
        assert path.stat().st_size > 5000, path
        assert path.read_bytes().startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_have_print_size_and_are_not_blank(drawn, name):
    image = imread(drawn[0] / "figures" / f"{name}.png")[..., :3]
    height, width = image.shape[:2]
    assert width == 1440  # 7.2 inches at 200 dpi
    assert 550 <= height <= 1800
    assert image.std() > 0.05


def test_no_date_and_the_same_bytes_twice(drawn):
    out, written, _ = drawn
    before = {path: path.read_bytes() for path in written}
    assert not any(b"CreationDate" in content for content in before.values())
    draw_all(read_results(out))
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("name", FIGURES)
def test_footer_and_smallest_text(drawn, name):
    with style():
        figure = FIGURES[name](read_results(drawn[0]))
    written = texts(figure)
    assert "SYNTHETIC PHANTOM" in written
    assert "Preset demo, seed 0." in written
    sizes = [artist.get_fontsize() for artist in figure.findobj(Text) if artist.get_text()]
    assert min(sizes) >= 8


def test_real_data_is_not_called_synthetic(tmp_path):
    results = read_results(write_out(tmp_path / "out", synthetic=False, external=False))
    with style():
        for draw in FIGURES.values():
            assert "SYNTHETIC" not in texts(draw(results))


def test_missing_pieces_are_skipped_with_a_line(tmp_path, capsys):
    out = write_out(tmp_path / "out", external=False)
    rewrite(out / "training.json", lambda content: content.update(sweep=None))
    (out / "examples.npz").unlink()
    stale = out / "figures" / "fig_overlays.png"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier run")
    main(["--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": skipped, ")[0] for line in lines if "skipped" in line] == [
        "fig_network_inputs",
        "fig_overlays",
        "fig_class_weight",
    ]
    assert not stale.exists()
    assert (out / "figures" / "fig_sequential_architecture.pdf").is_file()


def test_failed_system_is_no_result(tmp_path):
    out = write_out(tmp_path / "out", failures=FAILURES)
    rewrite(
        out / "examples.json",
        lambda c: [e["tumor_iou"].update(sequential=None) for e in c["examples"]],
    )
    results = read_results(out)
    with style():
        for draw in (draw_roc.roc, draw_scores.table1_bars):
            assert "sequential, balanced: no result" in texts(draw(results))
        assert (
            texts(draw_scores.table1_bars(results)).count("no result") == 1 + 2 * 3
        )  # legend, bars
        assert texts(draw_slices.overlays(results)).count("no result") == 3
        assert texts(sequential_architecture(results)).count("no result") == 1
    # Five systems left, and chance in each panel.
    roc = draw_roc.roc(results)
    assert [sum(len(line.get_xdata()) > 2 for line in axes.lines[1:]) for axes in roc.axes] == [
        5
    ] * 6


def test_nothing_trained_but_one_step(tmp_path):
    out = write_out(tmp_path / "out")

    def one(entries):
        return [entry for entry in entries if entry.get("model", entry.get("stage")) == "one_step"]

    rewrite(
        out / "summary.json", lambda c: c.update(rows=one(c["rows"]), systems=one(c["systems"]))
    )
    rewrite(out / "curves.json", lambda c: c.update(curves=one(c["curves"])))
    rewrite(
        out / "training.json", lambda c: c.update(phases=one(c["phases"]), sweep=None, scaling=None)
    )
    rewrite(
        out / "training.json",
        lambda c: [c["architectures"].pop(name) for name in ("liver", "tumor", "joint")],
    )
    rewrite(
        out / "examples.json",
        lambda c: [c.pop(name) for name in ("input", "liver_window_hu", "tumor_window_hu")],
    )
    with np.load(out / "examples.npz") as file:
        arrays = {name: file[name] for name in ("hu", "label", "one_step", "sequential")}
    np.savez(out / "examples.npz", **arrays)
    skipped = draw_all(read_results(out))[1]
    assert set(skipped) == {"fig_sequential_architecture", "fig_network_inputs", "fig_class_weight"}


def test_no_curves_no_epochs_no_restricted_range(tmp_path):
    out = write_out(tmp_path / "out")

    def undefined(content):
        for curve in content["curves"]:
            curve.update(restricted=None, rauc=None)
            curve["points"]["roc"].update(restricted_fpr=None, restricted_tpr=None)

    rewrite(out / "curves.json", undefined)
    with style():
        assert "n/a" in texts(draw_roc.roc(read_results(out)))
    rewrite(out / "curves.json", lambda c: c.update(curves=[]))
    rewrite(out / "training.json", lambda c: c.update(phases=[]))
    rewrite(out / "summary.json", lambda c: c.update(rows=[]))
    skipped = draw_all(read_results(out))[1]
    curves = {"fig_roc", "fig_roc_liver", "fig_reliability"}
    assert set(skipped) == {*curves, "fig_learning_curves", "fig_table1_bars"}


def test_unreadable_out_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        main(["--out", str(tmp_path / "none")])
    out = write_out(tmp_path / "out")
    (out / "curves.json").write_text("{")
    with pytest.raises(InputError, match=r"curves\.json: not a JSON file"):
        main(["--out", str(out)])
    assert not (out / "figures").exists()


def test_blocks_are_the_networks_own():
    blocks = blocks_of(layers(size=64, widths=(8, 16, 32))["layers"])
    assert [(b.path, b.depth, b.size[0]) for b in blocks] == [
        ("down", 0, 64),
        ("down", 1, 32),
        ("bottom", 2, 16),
        ("up", 1, 32),
        ("up", 0, 64),
    ]
    assert [[bar.channels for bar in block.bars] for block in blocks] == [
        [1, 8, 8],
        [16, 16],
        [32, 32],
        [32, 16, 16],
        [16, 8, 8, 1],
    ]
    assert [block.skip_from for block in blocks] == [None, None, None, 1, 0]
    assert [any(bar.dropout for bar in block.bars) for block in blocks] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert blocks[-1].bars[0].skipped == 0.5
    assert blocks[-1].bars[-1].made_by == "classifier"


def test_kernels_follow_from_the_parameters():
    made = layers(size=64, widths=(8, 16))["layers"]
    assert kernel(made, "Conv2D").split() == ["3", "\N{MULTIPLICATION SIGN}", "3"]
    assert kernel(made, "Conv2DTranspose").split() == ["2", "\N{MULTIPLICATION SIGN}", "2"]
    made[1]["parameters"] += 1
    assert kernel(made[:2], "Conv2D") == ""


def test_layers_without_pooling_are_no_unet(tmp_path):
    with pytest.raises(ValueError, match="got 0 poolings"):
        blocks_of(
            [layer for layer in layers()["layers"] if layer["kind"] in ("InputLayer", "Conv2D")][:3]
        )
    out = write_out(tmp_path / "out")
    rewrite(
        out / "training.json",
        lambda c: c["architectures"]["one_step"].update(layers=layers()["layers"][:3]),
    )
    assert "cannot be drawn" in draw_all(read_results(out))[1]["fig_one_step_workflow"]


def test_sequential_images_are_of_one_slice(drawn):
    examples = draw_slices.read_examples(read_results(drawn[0]))
    (first, mask, product, label), where = sequential_images(examples)
    assert (where["case"], where["row"]) == ("8", 41)
    examples.about["input"] = {"case": "99", "row": 1}  # not among the examples: no label map there
    (again, mask, product, label), where = sequential_images(examples)
    assert (where["case"], where["row"]) == ("8", 41)
    np.testing.assert_array_equal(mask > 0, label.sum(axis=-1) > 0)
    assert not product[mask == 0].any()
    assert again.shape == first.shape
    examples.about["tumor_scaling"] = (
        "liver_median"  # the product cannot be made again from the window
    )
    images, where = sequential_images(examples)
    assert images[3] is None
    assert where["case"] == "99"
