"""A U-Net as a drawing, from the layers that a run recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from evaluation.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    PURPLE,
    SMALL,
    VERMILLION,
    YELLOW,
    Style,
)

Layer = dict[str, Any]
"""A layer as training.json records it: {"name", "kind", "output", "inputs", "parameters"}."""
Point = tuple[float, float]
"""Inches from the left and from below."""
TIMES = "\N{MULTIPLICATION SIGN}"
CLASSIFIER, INPUT, SKIP, POOL, UP, DROP = GREEN, LIGHT, YELLOW, VERMILLION, BLUE, PURPLE
CONV = "#B4C3D6"  # none of the colours that stand for liver and tumor
COLOURS = {"input": INPUT, "conv": CONV, "concat": CONV, "classifier": CLASSIFIER}
EDGE: Style = {"edgecolor": BLACK, "linewidth": 0.5}
DROPOUT: Style = {"color": DROP, "markersize": 6, "markeredgecolor": "white"}
DASHED: Style = {"linestyle": (0, (3, 2))}
MARGIN = 0.42  # inches at the left for the resolutions
LABEL = 0.17  # inches above each block for its channels
SHRINK = 0.74  # height of a level, of the level above it


@dataclass
class Bar:
    """A feature map.

    Attributes:
        channels: how many.
        made_by: "input", "conv", "concat" or "classifier".
        skipped: share of channels from the skip connection.
        dropout: whether dropout follows.
    """

    channels: int
    made_by: str
    skipped: float = 0.0
    dropout: bool = False


@dataclass
class Block:
    """The feature maps of one level of one path.

    Attributes:
        depth: poolings above it.
        size: rows and columns of its maps (None: any).
        path: "down", "bottom" or "up".
        skip_from: index of the block whose last map is concatenated here.
    """

    depth: int
    size: list[int | None]
    path: str
    bars: list[Bar] = field(default_factory=list)
    skip_from: int | None = None


def group_layers(layers: Sequence[Layer]) -> list[Block]:
    """Group the recorded layers of a U-Net into blocks, from input to output.

    Raises:
        ValueError: the layers form no U-Net (no pooling, or as many upsamplings are missing).
    """
    blocks: list[Block] = []
    home: dict[str, int] = {}
    depth = deepest = 0
    last_conv = max((i for i, layer in enumerate(layers) if layer["kind"] == "Conv2D"), default=-1)
    for index, layer in enumerate(layers):
        kind, output = layer["kind"], layer["output"]
        # A pooling or an upsampling begins a block.
        if kind == "MaxPooling2D":
            depth += 1
            deepest = max(deepest, depth)
            blocks.append(Block(depth, output[:2], "down"))
        elif kind == "Conv2DTranspose":
            depth -= 1
            blocks.append(Block(depth, output[:2], "up"))
        elif not blocks:
            blocks.append(Block(depth, output[:2], "down"))
        # The bar, or the mark on the last one, that the layer stands for.
        block = blocks[-1]
        if kind == "InputLayer":
            block.bars.append(Bar(output[-1], "input"))
        elif kind == "Conv2D":
            block.bars.append(Bar(output[-1], "classifier" if index == last_conv else "conv"))
        elif kind == "Concatenate":
            sources = [home[name] for name in layer["inputs"] if home[name] != len(blocks) - 1]
            block.skip_from = sources[0] if sources else None
            carried = blocks[sources[0]].bars[-1].channels if sources else 0
            block.bars.append(Bar(output[-1], "concat", carried / output[-1]))
        elif kind == "Dropout" and block.bars:
            block.bars[-1].dropout = True
        home[layer["name"]] = len(blocks) - 1
    if deepest == 0 or depth != 0:
        raise ValueError(
            f"layers must go down and up again, got {deepest} poolings and end {depth} below "
            "the input"
        )
    for block in blocks:
        if block.depth == deepest:
            block.path = "bottom"
    return blocks


def spell_kernel(layers: Sequence[Layer], kind: str) -> str:
    """Return the first kernel of a kind of layer, ` 3 x 3`; "" where not known."""
    by_name = {layer["name"]: layer for layer in layers}
    for layer in layers:
        if layer["kind"] == kind and layer["inputs"] and layer["inputs"][0] in by_name:
            outputs, inputs = layer["output"][-1], by_name[layer["inputs"][0]]["output"][-1]
            side = math.isqrt(max(0, (layer["parameters"] // outputs - 1) // inputs))
            if side and (side * side * inputs + 1) * outputs == layer["parameters"]:
                return f" {side} {TIMES} {side}"
    return ""


@dataclass(frozen=True)
class Frame:
    """Where a U-Net is drawn, in inches."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True)
class Placed:
    """A drawn block: its bars' left edges and widths, and its lower and upper edge."""

    edges: list[tuple[float, float]]
    low: float
    high: float

    @property
    def middle(self) -> float:
        """Height of its centre."""
        return (self.low + self.high) / 2


def _find_widths(blocks: Sequence[Block], room: float) -> tuple[list[list[float]], float]:
    """Return each bar's width, by its channels, and the unit of the gaps, in inches."""
    smallest = min(bar.channels for block in blocks for bar in block.bars if bar.made_by == "conv")
    raw = [
        [
            0.5 if bar.channels < smallest else 1 + 0.22 * math.log2(bar.channels / smallest)
            for bar in block.bars
        ]
        for block in blocks
    ]
    inner = sum(len(widths) - 1 for widths in raw) * 0.25
    unit = room / (sum(map(sum, raw)) + inner + 1.15 * (len(blocks) - 1))
    return [[unit * width for width in widths] for widths in raw], unit


def place_blocks(blocks: Sequence[Block], frame: Frame) -> list[Placed]:
    """Lay the blocks out: levels below each other, each next block to the right."""
    levels = max(block.depth for block in blocks) + 1
    gap = LABEL + 0.05
    shares = [SHRINK**level for level in range(levels)]
    tallest = (frame.top - frame.bottom - levels * gap) / sum(shares)
    # Upper edge of each level, then the bars from left to right.
    tops, top = [], frame.top
    for share in shares:
        tops.append(top - LABEL)
        top -= gap + tallest * share
    widths, unit = _find_widths(blocks, frame.right - frame.left - MARGIN)
    placed, x = [], frame.left + MARGIN
    for block, bars in zip(blocks, widths, strict=True):
        edges = []
        for width in bars:
            edges.append((x, width))
            x += width + 0.25 * unit
        x += 0.9 * unit
        high = tops[block.depth]
        placed.append(Placed(edges, high - tallest * shares[block.depth], high))
    return placed


def draw_arrow(axes: Axes, points: Sequence[Point], colour: str, **style: Any) -> None:
    """Draw an arrow.

    Args:
        axes: whose units are inches.
        points: its way; the head is at the last.
        colour: of line and head.
        **style: keywords of its lines.
    """
    style = {"color": colour, "linewidth": 1.1, **style}
    if len(points) > 2:
        xs, ys = zip(*points[:-1], strict=True)
        axes.add_line(Line2D(xs, ys, solid_capstyle="butt", **style))
    head: Style = {"arrowstyle": "-|>", "mutation_scale": 7, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(points[-2], points[-1], **head, **style))


def _draw_bars(axes: Axes, block: Block, at: Placed) -> None:
    for bar, (x, width) in zip(block.bars, at.edges, strict=True):
        look: Style = {"height": at.high - at.low, **EDGE}
        colour = COLOURS[bar.made_by]
        axes.add_patch(Rectangle((x, at.low), width, facecolor=colour, zorder=2, **look))
        if bar.made_by == "concat":
            share = width * bar.skipped
            axes.add_patch(Rectangle((x, at.low), share, facecolor=SKIP, zorder=2.1, **look))
        if bar.dropout:
            axes.plot([x + width / 2], [at.middle], "X", zorder=3, **DROPOUT)


def _draw_channels(axes: Axes, block: Block, at: Placed) -> None:
    """Write the channels above the bars, once for equal neighbours."""
    pairs = zip(block.bars, at.edges, strict=True)
    for channels, group in groupby(pairs, key=lambda pair: pair[0].channels):
        members = list(group)
        (bar, first), (_, last) = members[0], members[-1]
        if bar.made_by != "concat":  # its channels are the sum of its two parts
            place: Style = {"ha": "center", "va": "bottom", "fontsize": SMALL}
            axes.text((first[0] + sum(last)) / 2, at.high + 0.03, str(channels), **place)


def _draw_between(axes: Axes, at: Placed, following: Placed, is_pooling: bool) -> None:
    """Draw the pooling, or the upsampling, from a block to the following one."""
    (start, width), (end, following_width) = at.edges[-1], following.edges[0]
    if is_pooling:
        x, y = start + width / 2, following.middle
        draw_arrow(axes, [(x, at.low), (x, y), (end, y)], POOL)
    else:
        x, y = end + following_width / 2, at.middle
        draw_arrow(axes, [(start + width, y), (x, y), (x, following.low)], UP)


def draw_unet(axes: Axes, layers: Sequence[Layer], frame: Frame) -> tuple[Point, Point]:
    """Draw a U-Net; return the points where its input enters and its output leaves.

    Args:
        axes: whose units are inches.
        layers: as recorded.
        frame: where it stands.

    Raises:
        ValueError: the layers form no U-Net.
    """
    blocks = group_layers(layers)
    placed = place_blocks(blocks, frame)
    for block, at in zip(blocks, placed, strict=True):
        _draw_bars(axes, block, at)
        _draw_channels(axes, block, at)
        if block.path != "up":
            size = "" if block.size[0] is None else f"{block.size[0]}²"
            if block.size[0] != block.size[1]:
                size = f"{block.size[0]} {TIMES} {block.size[1]}"
            # The arrow into the network runs at the middle of the first level.
            low = at.middle - (0.09 if block.depth == 0 else 0)
            axes.text(frame.left, low, size, ha="left", va="center", fontsize=SMALL, color=GREY)
        if block.skip_from is not None:
            source = placed[block.skip_from]
            start, end = sum(source.edges[-1]), at.edges[0][0]
            draw_arrow(axes, [(start, at.middle), (end, at.middle)], GREY, **DASHED)
    for (block, following), places in zip(pairwise(blocks), pairwise(placed), strict=True):
        _draw_between(axes, *places, is_pooling=following.depth > block.depth)
    first, last = placed[0], placed[-1]
    return (first.edges[0][0], first.middle), (sum(last.edges[-1]), last.middle)


def make_entries(layers: Sequence[Layer], dropout: float | None) -> list[Any]:
    """Return legend entries that explain the drawing, with the layers' kernels."""
    convolution = f"convolution{spell_kernel(layers, 'Conv2D')}, ReLU"
    upsampling = f"transposed convolution{spell_kernel(layers, 'Conv2DTranspose')}"
    line: Style = {"linewidth": 1.4}
    entries = [
        Patch(facecolor=CONV, label=convolution, **EDGE),
        Patch(facecolor=SKIP, label="copied over the skip connection", **EDGE),
        Patch(facecolor=CLASSIFIER, label=f"classifier (1 {TIMES} 1 convolution)", **EDGE),
        Line2D([], [], color=POOL, label=f"max pooling 2 {TIMES} 2", **line),
        Line2D([], [], color=UP, label=upsampling, **line),
        Line2D([], [], color=GREY, label="skip connection", **line, **DASHED),
    ]
    if any(layer["kind"] == "Dropout" for layer in layers):
        rate = "" if dropout is None else f", rate {dropout:g}"
        marker: Style = {"marker": "X", "linestyle": "", **DROPOUT}
        entries.append(Line2D([], [], label=f"dropout{rate}", **marker))
    return entries
