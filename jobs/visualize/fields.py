"""Receptive fields: which pixels a unit can see, by the arithmetic of kernels, strides and paddings.

A field is the same for all units of a layer, moved by the layer's stride: unit (y, x) sees the rows
start + y * jump … + size of the picture, and columns alike. Where pictures are mixed as a whole (attention,
global pooling) every unit sees all. Squeeze-and-excitation also looks at all of the picture, but only to
weigh channels: its branch is left out.
"""

import operator
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional as F

Axis = tuple[int, int, int]  # size, jump, start
POINTWISE = (
    *(nn.BatchNorm2d, nn.Dropout, nn.Identity, nn.ReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Linear),
    *(nn.ELU, nn.LeakyReLU, nn.Mish, nn.Sigmoid, nn.Hardsigmoid, nn.LocalResponseNorm, nn.LayerNorm),
)
MIXING = {
    "mean",
    "flatten",
    torch.flatten,
    F.adaptive_avg_pool2d,
    F.pad,
    torch.roll,
    torch.matmul,
    F.interpolate,
}
POOLS = {F.max_pool2d: "max", F.avg_pool2d: "avg"}


@dataclass(frozen=True)
class Field:
    rows: Axis
    columns: Axis

    def box(self, y: int, x: int, side: tuple[int, int]) -> tuple[int, int, int, int]:
        """left, top, right, bottom of what unit (y, x) sees of a picture of `side` (H, W)."""
        left, top, right, bottom = self.window(y, x, side)
        return max(left, 0), max(top, 0), min(right, side[1]), min(bottom, side[0])

    def window(self, y: int, x: int, side: tuple[int, int]) -> tuple[int, int, int, int]:
        """The same, with what of the field lies beyond the picture, unless that is most of it."""
        (top, bottom), (left, right) = _reach(self.rows, y, side[0]), _reach(self.columns, x, side[1])
        return left, top, right, bottom


def fields_of(pieces: fx.GraphModule) -> dict[fx.Node, Field | None]:
    """For each node its units' field; None: all of the picture."""
    found: dict[fx.Node, Field | None] = {}
    for node in pieces.graph.nodes:
        if node.op == "placeholder":
            found[node] = Field((1, 1, 0), (1, 1, 0))
            continue
        sources = _sources(node)
        if node.op == "output" or not sources:
            continue
        below = _union([found.get(source) for source in sources])
        found[node] = _above(pieces, node, sources[0], below)
    return found


def shape(node: fx.Node) -> tuple[int, ...]:
    found = node.meta.get("tensor_meta")
    return tuple(found.shape) if hasattr(found, "shape") else ()


def _above(pieces: fx.GraphModule, node: fx.Node, source: fx.Node, below: Field | None) -> Field | None:
    module = pieces.get_submodule(node.target) if node.op == "call_module" else None
    if below is None or node.target in MIXING:
        return None
    if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        return _window(below, node, source, module)
    if node.target in POOLS:
        names = ("kernel_size", "stride", "padding")
        given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        pool = nn.MaxPool2d if POOLS[node.target] == "max" else nn.AvgPool2d
        return _window(below, node, source, pool(**{k: given[k] for k in names if k in given}))
    if module is None or isinstance(module, POINTWISE) or type(module).__name__ == "Permute":
        return below if _keeps_the_grid(node, source) else None
    return None


def _window(below: Field, node: fx.Node, source: fx.Node, module: nn.Module) -> Field:
    grown = []
    for axis, name in enumerate(("rows", "columns")):
        k, s, p, d = (
            _pick(getattr(module, a, 1), axis) for a in ("kernel_size", "stride", "padding", "dilation")
        )
        size, jump, start = getattr(below, name)
        n, m, reach = shape(source)[2 + axis], shape(node)[2 + axis], d * (k - 1) + 1
        if isinstance(module, nn.Conv2d) and (n + 2 * p - reach) // s + 1 != m:  # padded as by TensorFlow
            p = max((m - 1) * s + reach - n, 0) // 2
        grown.append((size + (reach - 1) * jump, jump * s, start - p * jump))
    return Field(*grown)


def _sources(node: fx.Node) -> list[fx.Node]:
    """The maps that this node is made of, without those of one value a channel that only scale it."""
    tensors = [source for source in node.all_input_nodes if source.op != "get_attr"]
    maps = [s for s in tensors if len(shape(s)) != 4 or shape(s)[2:] != (1, 1)]
    return maps if node.target in (operator.mul, torch.mul) and maps else tensors


def _union(parts: list[Field | None]) -> Field | None:
    if None in parts:
        return None
    axes = []
    for name in ("rows", "columns"):
        own = [getattr(part, name) for part in parts]
        if len({jump for _, jump, _ in own}) > 1:
            return None
        start, end = min(a[2] for a in own), max(a[0] + a[2] for a in own)
        axes.append((end - start, own[0][1], start))
    return Field(*axes)


def _keeps_the_grid(node: fx.Node, source: fx.Node) -> bool:
    """A view, a permutation or a sum that only moves channels about has the same rows and columns."""
    below, above = shape(source), shape(node)
    if not below or not above:  # a tuple (chunk) or a number
        return True
    return {below[-2:], below[1:3]} & {above[-2:], above[1:3]} != set()


def _reach(axis: Axis, i: int, n: int) -> tuple[int, int]:
    size, jump, start = axis
    return (start + i * jump, start + i * jump + size) if size < n else (0, n)


def _pick(value: object, axis: int) -> int:
    return value[axis] if isinstance(value, tuple) else value
