"""A U-Net as a drawing, from the layers that a run recorded: boxes, poolings, skips, dropout."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
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
)

Layer = dict[str, Any]
TIMES = "\N{MULTIPLICATION SIGN}"
CLASSIFIER, INPUT, SKIP, POOL, UP, DROP = GREEN, LIGHT, YELLOW, VERMILLION, BLUE, PURPLE
CONV = "#B4C3D6"  # none of the colours that stand for liver and tumor


@dataclass
class Bar:
    """A feature map: its channels, and what made it ("input", "conv", "concat", "classifier")."""

    channels: int
    made_by: str
    skipped: float = 0.0  # share of the channels that came over the skip connection
    dropout: bool = False


@dataclass
class Block:
    """The feature maps of one level of one path.

    Attributes:
        depth: poolings above it.
        size: rows and columns of its maps (None: any).
        path: "down", "bottom" or "up".
        skip_from: index of the block whose last map is concatenated here, or None.
    """

    depth: int
    size: list[int | None]
    path: str
    bars: list[Bar] = field(default_factory=list)
    skip_from: int | None = None


def blocks_of(layers: list[Layer]) -> list[Block]:
    """Group the recorded layers of a U-Net into blocks, in order from input to output.

    Raises:
        ValueError: the layers form no U-Net (no pooling, or as many upsamplings are missing).
    """
    blocks: list[Block] = []
    home: dict[str, int] = {}
    depth = deepest = 0
    last_conv = max((i for i, layer in enumerate(layers) if layer["kind"] == "Conv2D"), default=-1)
    for index, layer in enumerate(layers):
        kind, output = layer["kind"], layer["output"]
        if kind == "MaxPooling2D":
            depth += 1
            deepest = max(deepest, depth)
            blocks.append(Block(depth, output[:2], "down"))
        elif kind == "Conv2DTranspose":
            depth -= 1
            blocks.append(Block(depth, output[:2], "up"))
        elif not blocks:
            blocks.append(Block(depth, output[:2], "down"))
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
            f"layers must go down and up again, got {deepest} poolings and end {depth} below the input"
        )
    for block in blocks:
        if block.depth == deepest:
            block.path = "bottom"
    return blocks


def kernel(layers: list[Layer], kind: str) -> str:
    """Return the kernel of the first layer of that kind as text, from its parameters; "" if they do not tell."""
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
    """Where a U-Net is drawn, in inches: left, bottom, right, top; and how its first map stands in it."""

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


MARGIN = 0.42  # inches at the left for the resolutions
LABEL = 0.17  # inches above each block for its channels


def _widths(blocks: list[Block], room: float) -> tuple[list[list[float]], float]:
    """Return each bar's width (more for more channels) and the gap between blocks, to fill `room` inches."""
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


def place(blocks: list[Block], frame: Frame) -> list[Placed]:
    """Lay the blocks out in `frame`: levels below each other, each next block to the right."""
    levels = max(block.depth for block in blocks) + 1
    gap = LABEL + 0.05
    shrink = 0.74
    tallest = (frame.top - frame.bottom - levels * gap) / sum(
        shrink**level for level in range(levels)
    )
    tops, top = [], frame.top
    for level in range(levels):
        tops.append(top - LABEL)
        top -= gap + tallest * shrink**level
    widths, unit = _widths(blocks, frame.right - frame.left - MARGIN)
    placed, x = [], frame.left + MARGIN
    for block, bars in zip(blocks, widths, strict=True):
        edges = []
        for width in bars:
            edges.append((x, width))
            x += width + 0.25 * unit
        x += 0.9 * unit
        high = tops[block.depth]
        placed.append(Placed(edges, high - tallest * shrink**block.depth, high))
    return placed


def arrow(axes: Axes, points: list[tuple[float, float]], colour: str, **more: Any) -> None:
    """Draw an arrow along `points`, its head at the last one."""
    if len(points) > 2:
        xs, ys = zip(*points[:-1], strict=True)
        axes.add_line(Line2D(xs, ys, color=colour, linewidth=1.1, solid_capstyle="butt", **more))
    tail, head = points[-2], points[-1]
    head_style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 7,
        "shrinkA": 0,
        "shrinkB": 0,
        "linewidth": 1.1,
    }
    axes.add_patch(FancyArrowPatch(tail, head, color=colour, **head_style, **more))


def _draw_bars(axes: Axes, block: Block, at: Placed) -> None:
    colours = {"input": INPUT, "conv": CONV, "concat": CONV, "classifier": CLASSIFIER}
    line: dict[str, Any] = {"edgecolor": BLACK, "linewidth": 0.5}
    for bar, (x, width) in zip(block.bars, at.edges, strict=True):
        height = at.high - at.low
        axes.add_patch(
            Rectangle((x, at.low), width, height, facecolor=colours[bar.made_by], zorder=2, **line)
        )
        if bar.made_by == "concat":
            share = width * bar.skipped
            axes.add_patch(
                Rectangle((x, at.low), share, height, facecolor=SKIP, zorder=2.1, **line)
            )
        if bar.dropout:
            axes.plot(
                [x + width / 2],
                [at.middle],
                "X",
                color=DROP,
                markersize=6,
                markeredgecolor="white",
                zorder=3,
            )


def _draw_channels(axes: Axes, block: Block, at: Placed) -> None:
    """Write the channels above the bars: once for equal neighbours, so that the numbers have room."""
    start = 0
    while start < len(block.bars):
        end = start
        while (
            end + 1 < len(block.bars) and block.bars[end + 1].channels == block.bars[start].channels
        ):
            end += 1
        centre = (at.edges[start][0] + sum(at.edges[end])) / 2
        if block.bars[start].made_by != "concat":  # its channels are the sum of its two parts
            text = str(block.bars[start].channels)
            axes.text(centre, at.high + 0.03, text, ha="center", va="bottom", fontsize=SMALL)
        start = end + 1


def _draw_between(axes: Axes, before: tuple[Block, Placed], after: tuple[Block, Placed]) -> None:
    (block, at), (following, there) = before, after
    if following.depth > block.depth:
        x = at.edges[-1][0] + at.edges[-1][1] / 2
        arrow(axes, [(x, at.low), (x, there.middle), (there.edges[0][0], there.middle)], POOL)
    else:
        x, width = there.edges[0]
        arrow(
            axes,
            [
                (sum(at.edges[-1]), at.middle),
                (x + width / 2, at.middle),
                (x + width / 2, there.low),
            ],
            UP,
        )


def draw_unet(
    axes: Axes, layers: list[Layer], frame: Frame
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Draw the U-Net of `layers` into `frame` of `axes` (units: inches).

    Returns:
        Where its input enters and where its output leaves, as points.

    Raises:
        ValueError: the layers form no U-Net.
    """
    blocks = blocks_of(layers)
    placed = place(blocks, frame)
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
            arrow(axes, [(start, at.middle), (end, at.middle)], GREY, linestyle=(0, (3, 2)))
    for index in range(len(blocks) - 1):
        _draw_between(axes, (blocks[index], placed[index]), (blocks[index + 1], placed[index + 1]))
    first, last = placed[0], placed[-1]
    return (first.edges[0][0], first.middle), (sum(last.edges[-1]), last.middle)


def legend_entries(layers: list[Layer], dropout: float | None) -> list[Any]:
    """Return handles that explain the drawing, with the kernels and the pooling that the layers have."""

    def line(colour: str, text: str, **more: Any) -> Line2D:
        return Line2D([], [], color=colour, linewidth=1.4, label=text, **more)

    edge: dict[str, Any] = {"edgecolor": BLACK, "linewidth": 0.5}
    rate = "" if dropout is None else f", rate {dropout:g}"
    entries = [
        Patch(facecolor=CONV, label=f"convolution{kernel(layers, 'Conv2D')}, ReLU", **edge),
        Patch(facecolor=SKIP, label="copied over the skip connection", **edge),
        Patch(facecolor=CLASSIFIER, label=f"classifier (1 {TIMES} 1 convolution)", **edge),
        line(POOL, f"max pooling 2 {TIMES} 2"),
        line(UP, f"transposed convolution{kernel(layers, 'Conv2DTranspose')}"),
        line(GREY, "skip connection", linestyle=(0, (3, 2))),
    ]
    if any(layer["kind"] == "Dropout" for layer in layers):
        drop: dict[str, Any] = {
            "marker": "X",
            "linestyle": "",
            "markersize": 6,
            "markeredgecolor": "white",
        }
        entries.append(Line2D([], [], color=DROP, label=f"dropout{rate}", **drop))
    return entries
