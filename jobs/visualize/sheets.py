"""The report's pictures: contact sheets of small pictures, and the chart of how far the layers moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

from drift import Moved
from mining import GREY, Excitement

PAPER, TEXT, DIM = (
    (27, 31, 36),
    (230, 235, 240),
    (154, 164, 175),
)  # a dark sheet reads on light and dark pages
PATCH, GAP, MARGIN = 76, 2, 14  # pixels
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
CAM_SIDE = 150


@dataclass(frozen=True)
class Ink:
    paper: str
    text: str
    grid: str
    bar: str


LIGHT = Ink("#ffffff", "#24292f", "#d8dee4", "#1f6feb")
DARK = Ink("#161b22", "#d7dde3", "#3a424c", "#58a6ff")


@dataclass(frozen=True)
class Case:
    """A picture, and what spoke for two answers: (H, W, 3) and (H, W), 0 to 1; None: no second answer."""

    picture: np.ndarray
    heat_said: np.ndarray | None
    heat_truth: np.ndarray | None
    said: str
    truth: str  # in words, or empty


def filters(path: Path, named: Sequence[tuple[str, np.ndarray]]) -> None:
    """One block of filters for each (title, weights); a filter keeps its place in all of them."""
    blocks = [(title, filter_tiles(weights)) for title, weights in named]
    n, k = len(blocks[0][1]), blocks[0][1].shape[1]
    columns = 8 if n <= 64 or len(blocks) > 1 else 16
    cell = max(48 // k, 1) * k
    grids = [_grid(_enlarged(tiles, cell), columns, 4) for _, tiles in blocks]
    h, w = grids[0].shape[:2]
    sheet, draw = _paper(len(grids) * (w + MARGIN) + MARGIN, h + 2 * MARGIN + 20)
    for i, (grid, (title, _)) in enumerate(zip(grids, blocks, strict=True)):
        left = MARGIN + i * (w + MARGIN)
        draw.text((left, MARGIN - 4), title, TEXT, _font(14))
        sheet.paste(_image(grid), (left, MARGIN + 20))
    sheet.save(path)


def filter_tiles(weights: np.ndarray) -> np.ndarray:
    """(O, I, k, k) as O pictures (k, k, 3) in 0..1: grey is 0, a filter's largest weight is black or white."""
    shown = weights if weights.shape[1] == 3 else weights.mean(1, keepdims=True).repeat(3, 1)
    largest = np.abs(shown).max((1, 2, 3), keepdims=True).clip(1e-12)
    return (GREY + GREY * shown / largest).transpose(0, 2, 3, 1)


def top_nine(path: Path, found: Sequence[Excitement]) -> None:
    """Per channel the nine projections beside the nine patches, as the paper's figure 2."""
    block = 3 * PATCH + 2 * GAP
    pair, line, columns = 2 * block + 6, block + 24, 2
    rows = -(-len(found) // columns)
    sheet, draw = _paper(columns * (pair + MARGIN) + MARGIN, rows * (line + 8) + MARGIN)
    for i, one in enumerate(found):
        left, top = MARGIN + i % columns * (pair + MARGIN), MARGIN + i // columns * (line + 8) - 6
        draw.text((left, top), f"channel {one.channel}", TEXT, _font(13))
        span = f"activation {_short(one.heights[0])} … {_short(one.heights[-1])}"
        draw.text((left + pair, top), span, DIM, _font(12), anchor="ra")
        projections = [to_grey(_shrunk(values, PATCH)) for values in one.projections]
        for j, tiles in enumerate((projections, one.patches)):
            grid = _grid(np.stack([_resized(tile, PATCH) for tile in tiles]), 3, GAP)
            sheet.paste(_image(grid), (left + j * (block + 6), top + 20))
    sheet.save(path)


def to_grey(values: np.ndarray) -> np.ndarray:
    """Signed values as a picture: none is grey, the largest (but for one in a hundred) black or white."""
    return (GREY + GREY * values / max(np.quantile(np.abs(values), 0.99), 1e-12)).clip(0, 1)


def cases(path: Path, found: Sequence[Case]) -> None:
    """Two in a row: the picture, what spoke for the answer, what spoke for the truth."""
    maps = any(case.heat_said is not None for case in found)
    wide = 1 + maps + any(case.heat_truth is not None for case in found)
    lines = 2 if any(case.truth for case in found) else 1
    width, head = wide * (CAM_SIDE + GAP), 4 + 18 * lines
    height = CAM_SIDE + head
    columns = max(6 // wide, 1)
    sheet, draw = _paper(
        columns * (width + MARGIN) + MARGIN, -(-len(found) // columns) * (height + 10) + MARGIN
    )
    for i, case in enumerate(found):
        left, top = MARGIN + i % columns * (width + MARGIN), MARGIN + i // columns * (height + 10) - 6
        draw.text((left, top), _fitting(draw, f"{i + 1}  said {case.said}", width), TEXT, _font(13))
        truth = f"    {case.truth}"
        draw.text((left, top + 18), _fitting(draw, truth, width), DIM, _font(13))
        heats = [None, case.heat_said, case.heat_truth][:wide]
        for j, heat in enumerate(heats):
            if j == 0 or heat is not None:
                shown = case.picture if heat is None else _warmed(case.picture, heat)
                place = (left + j * (CAM_SIDE + GAP), top + head)
                sheet.paste(_image(_resized(shown, CAM_SIDE, smooth=True)), place)
    sheet.save(path)


def moved(path: Path, layers: Sequence[Moved], ink: Ink = LIGHT) -> None:
    """Bars from the first layer, on top, to the last."""
    figure = Figure((9.6, 0.27 * len(layers) + 1.0), dpi=110, facecolor=ink.paper, layout="constrained")
    ax = figure.add_subplot()
    ax.set_facecolor(ink.paper)
    shares = [layer.share for layer in layers]
    bars = ax.barh(range(len(layers)), shares, color=ink.bar, height=0.7)
    ax.bar_label(bars, [f"{share:.2%}" for share in shares], padding=4, color=ink.text, fontsize=9)
    ax.set_yticks(range(len(layers)), [layer.layer for layer in layers], fontsize=9, parse_math=False)
    ax.set_ylim(len(layers) - 0.4, -0.6)
    ax.set_xlim(0, max([*shares, 1e-6]) * 1.12)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("moved by fine-tuning: |dW| / |W|", color=ink.text, fontsize=10)
    ax.tick_params(colors=ink.text, labelsize=9, length=0)
    ax.grid(axis="x", color=ink.grid, linewidth=0.6)
    ax.set_axisbelow(True)
    for spine in ax.spines.values():
        spine.set_visible(False)
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})  # the same report, the same bytes


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"


def _warmed(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture in grey, dim where nothing spoke for the class, glowing where much did."""
    grey = picture.mean(2, keepdims=True) * 0.6
    glow = matplotlib.colormaps["inferno"](heat)[..., :3]
    return (grey * (1 - 0.65 * heat[..., None]) + 0.65 * heat[..., None] * glow).clip(0, 1)


def _paper(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (width, height), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def _grid(tiles: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """(n, h, w, 3) side by side, `columns` in a row."""
    n, h, w, _ = tiles.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), np.array(PAPER) / 255)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        sheet[y : y + h, x : x + w] = tile
    return sheet


def _shrunk(values: np.ndarray, side: int) -> np.ndarray:
    """Means over small squares. Before the contrast is chosen: fine lines fade when they shrink."""
    if max(values.shape[:2]) <= side:
        return values
    planes = torch.from_numpy(values).permute(2, 0, 1)[None]
    return F.interpolate(planes, (side, side), mode="area")[0].permute(1, 2, 0).numpy()


def _enlarged(tiles: np.ndarray, side: int) -> np.ndarray:
    return np.stack([_resized(tile, side) for tile in tiles])


def _resized(picture: np.ndarray, side: int, smooth: bool = False) -> np.ndarray:
    """Few pixels stay square dots: they are what there is to see."""
    few = picture.shape[0] <= side // 4 and not smooth
    how = Image.Resampling.NEAREST if few else Image.Resampling.BICUBIC
    return np.asarray(_image(picture).resize((side, side), how), dtype=np.float32) / 255


def _image(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT, size)


def _fitting(draw: ImageDraw.ImageDraw, words: str, width: int) -> str:
    while words and draw.textlength(words, _font(13)) > width:
        words = words[:-2].rstrip(" …") + "…"
    return words
