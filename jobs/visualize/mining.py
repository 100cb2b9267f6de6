"""The pictures that excite a channel most, and where: its top nine, cut out and projected back to pixels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from deconv import Layer, Rectifier, project, projector

TOP = 9
AT_ONCE = 3  # backwards, when all maps on the way are held
EDGE = 8  # an eighth of a map on each side is not mined
BATCH = 8
GREY = 0.5  # beyond the edge of a picture


@dataclass(frozen=True)
class Peaks:
    """Of each picture and channel the highest activation, (N, C), and the unit that has it, (N, C, 2): y, x."""

    height: torch.Tensor
    where: torch.Tensor

    def top(self, channel: int) -> torch.Tensor:
        """The pictures that excite it most, the strongest first; each counts once."""
        return self.height[:, channel].argsort(descending=True, stable=True)[:TOP]


@dataclass(frozen=True)
class Pool:
    """The pictures that are mined, as the network sees them."""

    names: list[str]
    x: torch.Tensor  # (N, 3, H, W)
    mean: torch.Tensor  # (3, 1, 1), of pixel values 0..255
    std: torch.Tensor
    peaks: dict[str, Peaks]  # of each layer

    def shown(self, rows: torch.Tensor) -> torch.Tensor:
        return ((self.x[rows] * self.std + self.mean) / 255).clamp(0, 1)


@dataclass(frozen=True)
class Excitement:
    """A channel's top nine: patches (h, w, 3) in 0..1, projections (signed, none is 0), and their activations."""

    channel: int
    names: list[str]  # of the pictures
    patches: list[np.ndarray]
    projections: list[np.ndarray]
    heights: list[float]


@torch.inference_mode()
def peaks_of(pieces: fx.GraphModule, layers: list[Layer], x: torch.Tensor) -> dict[str, Peaks]:
    """One pass over all pictures x (N, 3, H, W) for all layers."""
    seen: dict[str, torch.Tensor] = {}
    hooks = []
    for layer in layers:

        def keep(module: nn.Module, args: tuple, out: torch.Tensor, name: str = layer.name) -> None:
            capped = isinstance(module, Rectifier) and module.six  # at 6 all strong units would be alike
            seen[name] = F.relu(args[0]) if capped else out

        hooks.append(pieces.get_submodule(layer.node.target).register_forward_hook(keep))
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {layer.name: [] for layer in layers}
    device = next(pieces.parameters()).device
    for batch in x.split(BATCH):
        pieces(batch.to(device))
        for name, kept in found.items():
            kept.append(tuple(one.cpu() for one in highest(seen[name])))
    for hook in hooks:
        hook.remove()
    return {
        name: Peaks(*(torch.cat(parts) for parts in zip(*kept, strict=True))) for name, kept in found.items()
    }


def highest(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of maps (B, C, H, W) each one's largest value and its place. Units at the very edge see mostly padding."""
    (dy, dx), W = (side // EDGE for side in maps.shape[2:]), maps.shape[3]
    inner = maps[:, :, dy : maps.shape[2] - dy, dx : W - dx]
    height, place = inner.flatten(2).max(2)
    width = inner.shape[3]
    return height, torch.stack([place // width + dy, place % width + dx], 2)


def alike(before: Peaks, after: Peaks) -> float:
    """Do a layer's channels still answer to the same pictures? The mean correlation of a channel's peaks; 1: yes."""
    was, now = (peaks.height.double() - peaks.height.double().mean(0) for peaks in (before, after))
    lengths = was.norm(dim=0) * now.norm(dim=0)
    alive = lengths > 0
    return ((was * now).sum(0)[alive] / lengths[alive]).mean().item() if alive.any() else 0.0


def choose(peaks: Peaks, K: int, seed: int) -> list[int]:
    """K channels drawn by lot, as in the paper, among those that nine pictures excite."""
    alive = ((peaks.height > 0).sum(0) >= min(TOP, len(peaks.height))).nonzero().flatten()
    drawn = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))[:K]
    return sorted(alive[drawn].tolist())


def excitements(
    pieces: fx.GraphModule, layer: Layer, pool: Pool, channels: list[int]
) -> Iterator[Excitement]:
    side = H, W = tuple(pool.x.shape[2:])
    method, device = projector(pieces, layer), next(pieces.parameters()).device
    for channel in channels:
        top = pool.peaks[layer.name].top(channel)
        where = pool.peaks[layer.name].where[top, channel]
        parts = zip(pool.x[top].split(AT_ONCE), where.split(AT_ONCE), strict=True)
        seen = torch.cat(
            [project(method, x.to(device), channel, units.to(device)).cpu() for x, units in parts]
        )
        boxes = [layer.field.window(y, x, side) if layer.field else (0, 0, W, H) for y, x in where.tolist()]
        yield Excitement(
            channel,
            [pool.names[i] for i in top.tolist()],
            [cut(shown, box) for shown, box in zip(pool.shown(top), boxes, strict=True)],
            [cut(one, box, beyond=0) for one, box in zip(seen, boxes, strict=True)],
            pool.peaks[layer.name].height[top, channel].tolist(),
        )


def cut(image: torch.Tensor, box: tuple[int, int, int, int], beyond: float = GREY) -> np.ndarray:
    """The box of a picture (3, H, W) as (h, w, 3), with what of it lies beyond the picture."""
    left, top, right, bottom = box
    part = np.full((bottom - top, right - left, 3), beyond, dtype=np.float32)
    inside = image[:, max(top, 0) : bottom, max(left, 0) : right].permute(1, 2, 0).numpy()
    y, x = max(-top, 0), max(-left, 0)
    part[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return part
