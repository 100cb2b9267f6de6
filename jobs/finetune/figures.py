"""The report's pictures: drawn on figure objects, the same bytes for the same numbers, for paper and for dark pages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from scores import Bin

DPI = 110
KINDS = {"loss": "loss", "acc": "accuracy", "lr": "learning rate"}
LONGEST = 22  # characters of a class's name beside an axis


@dataclass(frozen=True)
class Ink:
    paper: str
    text: str
    grid: str
    main: str
    second: str
    third: str

    @property
    def colors(self) -> list[str]:
        return [self.main, self.second, self.third, self.text]


LIGHT = Ink("#ffffff", "#24292f", "#d8dee4", "#1f6feb", "#d1570b", "#1a7f37")
DARK = Ink("#161b22", "#d7dde3", "#3a424c", "#58a6ff", "#f0883e", "#56d364")


@dataclass(frozen=True)
class Canvas:
    figure: Figure
    ink: Ink

    def axes(self, *place: int) -> Axes:
        ax, ink = self.figure.add_subplot(*place), self.ink
        ax.set_facecolor(ink.paper)
        ax.tick_params(colors=ink.text, labelsize=9, length=3)
        for side, spine in ax.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(ink.grid)
        ax.grid(color=ink.grid, linewidth=0.6)
        ax.set_axisbelow(True)
        return ax

    def save(self, path: Path) -> None:
        # No date and no version among the metadata: the same report is the same file.
        FigureCanvasAgg(self.figure).print_png(path, metadata={"Software": None})


def canvas(width: float, height: float, ink: Ink) -> Canvas:
    return Canvas(Figure((width, height), dpi=DPI, facecolor=ink.paper, layout="constrained"), ink)


def confusion(path: Path, matrix: np.ndarray, labels: list[str], ink: Ink = LIGHT) -> None:
    """Rows are true classes; a row's colours are shares of it, the numbers are pictures."""
    C = len(labels)
    cell = min(max(11 / C, min(0.1, 20 / C)), 0.85)  # inches
    named = range(0, C, -(-C // 200))
    side, size = C * cell, min(max(cell * 26, 4.5), 11)
    page = canvas(side + 2.4, side + 2.0, ink)
    ax = page.axes()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    blues = LinearSegmentedColormap.from_list("shares", [ink.paper, ink.main])
    ax.imshow(shares, cmap=blues, vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    ax.grid(False)
    shown = [printable(labels[k], k) for k in named]
    upright = C > 6 or max(map(len, shown)) > 9
    for axis, turn in ((ax.xaxis, 90 if upright else 0), (ax.yaxis, 0)):
        axis.set_ticks(named, shown, rotation=turn, fontsize=size, parse_math=False)
    if C <= 60:  # finer grids and numbers are only noise
        ax.set_xticks(np.arange(C + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(C + 1) - 0.5, minor=True)
        ax.grid(True, which="minor", color=ink.grid, linewidth=0.4)
        ax.tick_params(which="minor", length=0)
        _numbers(ax, matrix, shares, ink, size)
    _words(ax, ink, x="predicted", y="true class")
    page.save(path)


def _numbers(ax: Axes, matrix: np.ndarray, shares: np.ndarray, ink: Ink, size: float) -> None:
    for row, column in zip(*matrix.nonzero(), strict=True):
        color = ink.paper if shares[row, column] > 0.55 else ink.text
        ax.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=color, fontsize=size)


def reliability(path: Path, bins: Sequence[Bin], ece: float, ink: Ink = LIGHT) -> None:
    """Bars on the diagonal mean: when it says 80 %, it is right in 80 % of the cases."""
    page = canvas(5.2, 5.2, ink)
    grid = page.figure.add_gridspec(2, 1, height_ratios=[3.2, 1])
    ax, below = page.axes(grid[0]), page.axes(grid[1])
    filled = [b for b in bins if b.count]
    middles = [(b.low + b.high) / 2 for b in filled]
    width = bins[0].high - bins[0].low
    bars = {"width": width * 0.92, "color": ink.main}
    ax.bar(middles, [b.accuracy for b in filled], label="how often it was right", alpha=0.85, **bars)
    marks = {"marker": "D", "color": ink.second, "s": 26, "zorder": 3}
    ax.scatter(middles, [b.confidence for b in filled], label="how sure it was", **marks)
    ax.plot([0, 1], [0, 1], color=ink.text, linewidth=1, linestyle=(0, (4, 3)), label="perfect")
    below.bar(middles, [b.count for b in filled], **bars)
    for own in (ax, below):
        own.set_xlim(0, 1)
        own.xaxis.set_major_formatter(_percent())
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(_percent())
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    page.figure.suptitle(f"calibration error (ECE) {ece:.3f}", fontsize=10, color=ink.text)
    _words(ax, ink, y="accuracy")
    _words(below, ink, x="confidence of the answer", y="pictures")
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3, "frameon": False}
    ax.legend(**above, fontsize=9, labelcolor=ink.text, columnspacing=1.2, handlelength=1.6)
    page.save(path)


def learning_curve(
    path: Path, curve: Sequence[tuple[int, str, float]], names: dict[str, str], ink: Ink = LIGHT
) -> None:
    """Would more labels help? A method that was drawn several times shows its mean and its range."""
    page = canvas(6.4, 4.2, ink)
    ax = page.axes()
    shown = [method for method in names if any(own == method for _, own, _ in curve)]
    for method, color in zip(shown, (ink.second, ink.main, ink.third), strict=False):
        at = sorted({n for n, own, _ in curve if own == method})
        draws = [[score for m, own, score in curve if own == method and m == n] for n in at]
        ax.fill_between(
            at, [min(d) for d in draws], [max(d) for d in draws], color=color, alpha=0.15, linewidth=0
        )
        means = [sum(d) / len(d) for d in draws]
        ax.plot(at, means, color=color, marker="o", markersize=5, linewidth=2, label=names[method])
    ticks = sorted({n for n, _, _ in curve})
    if ticks:
        ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, [f"{n}" for n in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        _legend(ax, ink, "lower right")
    else:
        ax.text(0.5, 0.5, "too few pictures for a curve", ha="center", color=ink.text, transform=ax.transAxes)
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(_percent())
    _words(ax, ink, x="labelled pictures of each class", y="balanced accuracy")
    page.save(path)


Series = dict[str, list[tuple[int, float]]]  # name -> (step, value)


def training(path: Path, panels: dict[str, Series], ink: Ink = LIGHT) -> None:
    """Loss, accuracy and learning rate over the steps."""
    page = canvas(6.4, 0.6 + 1.9 * len(panels), ink)
    for row, (kind, series) in enumerate(panels.items(), 1):
        ax = page.axes(len(panels), 1, row)
        for (name, points), color in zip(series.items(), ink.colors, strict=False):
            _line(ax, name, points, color)
        _words(ax, ink, x="step" if row == len(panels) else "", y=KINDS[kind])
        if kind == "acc":
            ax.yaxis.set_major_formatter(_percent())
        _legend(ax, ink, "best")
    page.save(path)


def panels(series: Series) -> dict[str, Series]:
    """What belongs into one axes; a series of one point is no curve."""
    found: dict[str, Series] = {kind: {} for kind in KINDS}
    for name, points in series.items():
        kind = next((kind for kind in KINDS if kind in name.lower()), None)
        if kind and len(points) > 1:
            found[kind][name] = points
    return {kind: own for kind, own in found.items() if own}


def read_metrics(path: Path) -> Series:
    """metrics.jsonl as name -> (step, value); a line that a kill tore is none."""
    series: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
            step = int(values.pop("step"))
        except (ValueError, KeyError, AttributeError, TypeError):
            continue
        for name, value in values.items():
            if isinstance(value, int | float) and np.isfinite(value):
                series.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in series.items()}


def printable(label: str, number: int) -> str:
    """A class's name where the font can write it, else its number; the tables have every name in full."""
    known = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    if not label.isprintable() or any(ord(letter) not in known for letter in label):
        return f"class {number}"
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def _line(ax: Axes, name: str, points: list[tuple[int, float]], color: str) -> None:
    """Many points: pale, with their running mean on top."""
    steps, values = np.array(points).T
    many = len(points) > 60
    ax.plot(steps, values, color=color, linewidth=0.8 if many else 1.6, alpha=0.3 if many else 1,
            marker=None if len(points) > 30 else "o", markersize=3.5, label=None if many else name)  # fmt: skip
    if many:
        wide = max(len(points) // 40, 5)
        sums = np.cumsum(np.insert(values, 0, 0.0))
        ends = np.arange(1, len(values) + 1)
        starts = np.maximum(ends - wide, 0)
        ax.plot(steps, (sums[ends] - sums[starts]) / (ends - starts), color=color, linewidth=1.8, label=name)


def _words(ax: Axes, ink: Ink, x: str = "", y: str = "") -> None:
    ax.set_xlabel(x, color=ink.text, fontsize=10)
    ax.set_ylabel(y, color=ink.text, fontsize=10)


def _legend(ax: Axes, ink: Ink, where: str) -> None:
    box = ax.legend(loc=where, fontsize=9, labelcolor=ink.text, facecolor=ink.paper, edgecolor=ink.grid)
    box.get_frame().set_alpha(0.9)


def _percent() -> FuncFormatter:
    return FuncFormatter(lambda share, _: f"{share:.0%}")
