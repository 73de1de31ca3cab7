"""Figures of a made-up OUT: all there, not blank, the same twice, no failed result."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from data.command import InputError
from evaluation.figures.__main__ import draw_all, main
from evaluation.figures.architecture import choose_images
from evaluation.figures.examples import read_examples
from evaluation.figures.registry import FIGURES, register_figure
from evaluation.figures.unet import group_layers, spell_kernel
from evaluation.results import read_results
from tests.evaluation.fake_out import FAILURE, layers, write_out
from tests.evaluation.figures.reading import draw, list_skipped, read_texts


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = write_out(tmp_path_factory.mktemp("figures") / "out")
    written, skipped = draw_all(read_results(out))
    return out, written, skipped


def test_every_figure_is_written(drawn):
    out, written, skipped = drawn
    assert skipped == {}
    names = {f"{name}{suffix}" for name in FIGURES for suffix in (".png", ".pdf")}
    assert {path.name for path in written} == names
    assert {path.name for path in (out / "figures").iterdir()} == names
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
    figure = draw(name, read_results(drawn[0]))
    texts = read_texts(figure)
    assert "SYNTHETIC PHANTOM" in texts
    assert "Preset demo, seed 0." in texts
    sizes = [artist.get_fontsize() for artist in figure.findobj(Text) if artist.get_text()]
    assert min(sizes) >= 8


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="Received: 'fig_roc'"):
        register_figure("fig_roc", lambda results: "nothing", "ROC: again")


def test_real_data_is_not_called_synthetic(tmp_path):
    results = read_results(write_out(tmp_path / "out", synthetic=False, external=False))
    for name in FIGURES:
        assert "SYNTHETIC" not in read_texts(draw(name, results))


def test_missing_pieces_are_skipped_with_a_line(tmp_path, capsys):
    out = write_out(tmp_path / "out", external=False)
    rewrite(out / "training.json", lambda content: content.update(sweep=None))
    (out / "examples.npz").unlink()
    stale = out / "figures" / "fig_overlays.png"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier run")
    main(["--out", str(out)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    names = ["fig_overlays", "fig_network_inputs", "fig_class_weight"]
    assert [line.split(": skipped, ")[0] for line in lines] == names
    assert not stale.exists()
    assert (out / "figures" / "fig_sequential_architecture.pdf").is_file()


def test_unchanged_results_are_not_drawn_again(tmp_path, capsys, monkeypatch):
    out = write_out(tmp_path / "out")
    name, drawing = next(iter(FIGURES.items()))
    monkeypatch.setattr("evaluation.figures.registry.FIGURES", {name: drawing})
    main(["--out", str(out)])
    first = capsys.readouterr().out
    picture = out / "figures" / f"{name}.png"
    drawn_ns = picture.stat().st_mtime_ns
    main(["--out", str(out)])
    assert capsys.readouterr().out == f"{first}figures: already drawn\n"
    assert picture.stat().st_mtime_ns == drawn_ns
    # A result that changed, or a figure that is gone, is drawn anew.
    rewrite(out / "training.json", lambda content: content.update(sweep=None))
    main(["--out", str(out)])
    assert picture.stat().st_mtime_ns > drawn_ns
    picture.unlink()
    main(["--out", str(out)])
    assert picture.is_file()


def test_failed_system_is_no_result(tmp_path):
    out = write_out(tmp_path / "out", failures=FAILURE)
    path = out / "examples.json"
    rewrite(path, lambda c: [e["tumor_iou"].update(sequential=None) for e in c["examples"]])
    results = read_results(out)
    texts = {name: read_texts(draw(name, results)) for name in FIGURES}
    for name in ("fig_roc", "fig_table1_bars"):
        assert "sequential, balanced: no result" in texts[name]
    assert texts["fig_table1_bars"].count("no result") == 1 + 2 * 3  # legend, bars
    assert texts["fig_overlays"].count("no result") == 3
    assert texts["fig_sequential_architecture"].count("no result") == 1
    # Five systems left, and chance in each panel.
    panels = draw("fig_roc", results).axes
    counts = [sum(len(line.get_xdata()) > 2 for line in axes.lines[1:]) for axes in panels]
    assert counts == [5] * 6


def test_nothing_trained_but_one_step(tmp_path):
    out = write_out(tmp_path / "out")

    def select_one_step(entries):
        return [entry for entry in entries if entry["system"] == "one_step"]

    for file, key in (("summary", "systems"), ("curves", "curves"), ("training", "phases")):
        rewrite(out / f"{file}.json", lambda c, key=key: c.update({key: select_one_step(c[key])}))
    nothing = {"sweep": None, "scaling": None}
    rewrite(out / "training.json", lambda content: content.update(nothing))
    rewrite(
        out / "training.json",
        lambda content: [content["architectures"].pop(name) for name in ("sequential", "joint")],
    )
    of_pair = ("input", "liver_window_hu", "tumor_window_hu")
    rewrite(out / "examples.json", lambda content: [content.pop(name) for name in of_pair])
    with np.load(out / "examples.npz") as file:
        arrays = {name: file[name] for name in ("hu", "label", "one_step", "sequential")}
    np.savez(out / "examples.npz", **arrays)
    skipped = list_skipped(read_results(out))
    assert set(skipped) == {"fig_sequential_architecture", "fig_network_inputs", "fig_class_weight"}


def test_no_curves_no_epochs_no_restricted_range(tmp_path):
    out = write_out(tmp_path / "out")

    def undefine(content):
        for curve in content["curves"]:
            curve.update(restricted=None, rauc=None)
            curve["points"]["roc"].update(restricted_fpr=None, restricted_tpr=None)

    rewrite(out / "curves.json", undefine)
    assert "n/a" in read_texts(draw("fig_roc", read_results(out)))
    rewrite(out / "curves.json", lambda content: content.update(curves=[]))
    rewrite(out / "training.json", lambda content: content.update(phases=[]))
    header = (out / "scores.csv").read_text().split("\n")[0]
    (out / "scores.csv").write_text(f"{header}\n")
    skipped = list_skipped(read_results(out))
    of_scores = {"fig_table1_bars", "fig_dice_by_case"}
    of_curves = {"fig_roc", "fig_roc_liver", "fig_reliability"}
    assert set(skipped) == {*of_curves, *of_scores, "fig_learning_curves"}


def test_unreadable_out_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        main(["--out", str(tmp_path / "none")])
    out = write_out(tmp_path / "out")
    (out / "curves.json").write_text("{")
    with pytest.raises(InputError, match=r"curves\.json: not a JSON file"):
        main(["--out", str(out)])
    assert not (out / "figures").exists()


def test_blocks_are_the_networks_own():
    blocks = group_layers(layers(size=64, widths=(8, 16, 32))["layers"])
    levels = [("down", 0, 64), ("down", 1, 32), ("bottom", 2, 16), ("up", 1, 32), ("up", 0, 64)]
    assert [(block.path, block.depth, block.size[0]) for block in blocks] == levels
    channels = [[1, 8, 8], [16, 16], [32, 32], [32, 16, 16], [16, 8, 8, 1]]
    assert [[bar.channels for bar in block.bars] for block in blocks] == channels
    assert [block.skip_from for block in blocks] == [None, None, None, 1, 0]
    with_dropout = [any(bar.dropout for bar in block.bars) for block in blocks]
    assert with_dropout == [False, False, False, True, True]
    assert blocks[-1].bars[0].skipped == 0.5
    assert blocks[-1].bars[-1].made_by == "classifier"


def test_kernels_follow_from_the_parameters():
    recorded = layers(size=64, widths=(8, 16))["layers"]
    assert spell_kernel(recorded, "Conv2D").split() == ["3", "\N{MULTIPLICATION SIGN}", "3"]
    assert spell_kernel(recorded, "Conv2DTranspose").split() == [
        "2",
        "\N{MULTIPLICATION SIGN}",
        "2",
    ]
    recorded[1]["parameters"] += 1
    assert spell_kernel(recorded[:2], "Conv2D") == ""


def test_layers_without_pooling_are_no_unet(tmp_path):
    flat = layers()["layers"][:3]
    assert [layer["kind"] for layer in flat] == ["InputLayer", "Conv2D", "Conv2D"]
    with pytest.raises(ValueError, match="got 0 poolings"):
        group_layers(flat)
    out = write_out(tmp_path / "out")
    rewrite(
        out / "training.json",
        lambda content: content["architectures"]["one_step"]["classes"].update(layers=flat),
    )
    assert "cannot be drawn" in list_skipped(read_results(out))["fig_one_step_workflow"]


def test_sequential_images_are_of_one_slice(drawn):
    results = read_results(drawn[0])
    settings = results.training["settings"]
    examples = read_examples(results.path, settings, results.system_names)
    (first, *_), place = choose_images(examples)
    assert (place["case"], place["row"]) == ("8", 41)
    # Not among the examples: no label map there, so an example serves.
    examples.about["input"] = {"case": "99", "row": 1}
    (again, mask, product, label), place = choose_images(examples)
    assert (place["case"], place["row"]) == ("8", 41)
    np.testing.assert_array_equal(mask > 0, label.sum(axis=-1) > 0)
    assert not product[mask == 0].any()
    assert again.shape == first.shape
    # Scaled by the liver's median the product cannot be made again.
    examples.about["tumor_scaling"] = "liver_median"
    images, place = choose_images(examples)
    assert images[3] is None
    assert place["case"] == "99"
