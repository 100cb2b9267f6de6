"""A network taken apart so that one unit can be projected back to pixels: Zeiler and Fergus's deconvnet.

Their rule on the way down: unpool to where the maximum was, rectify, convolve with the transposed filters.
Backpropagation does the first and the last already, so captum only changes the rectifier's gradient. All that
such a projection knows of the picture are the places of the maxima. Networks that shrink their maps by strides
have none, and nine projections would be one: there guided backpropagation (Springenberg and others, 2014) also
stops at rectifiers that were silent.

For either each rectifier must be an nn.ReLU of its own, neither in place, nor reused, nor hidden in a function:
the network is traced (torch.fx) and gets one for each use.
"""

import copy
import operator
import warnings
from dataclasses import dataclass

import torch
from captum.attr import NeuronDeconvolution, NeuronGuidedBackprop
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from fields import Field, fields_of, shape

RECTIFIERS = {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}
SIXES = {F.relu6}  # rectifiers that also cut at 6
SMOOTH = (nn.SiLU, nn.GELU, nn.Hardswish, nn.ELU, nn.LeakyReLU, nn.Mish)
SUMS = (operator.add, operator.iadd, torch.add)
CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d)


class Rectifier(nn.ReLU):
    """ReLU or ReLU6 on the way up, always ReLU on the way down: a unit at its cap is silent for no one."""

    def __init__(self, six: bool) -> None:
        super().__init__(inplace=False)
        self.six = six

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Capped.apply(x) if self.six else F.relu(x)


class Capped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return F.relu6(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        return grad * (ctx.saved_tensors[0] > 0)


class Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (nn.Conv2d, nn.MultiheadAttention)) or super().is_leaf_module(module, name)


@dataclass(frozen=True)
class Layer:
    name: str  # as in the state_dict, where the activation is used once
    node: fx.Node
    channels: int
    side: tuple[int, int]  # H, W
    field: Field | None  # what a unit sees; None: all of the picture


def take_apart(network: nn.Module, x: torch.Tensor) -> fx.GraphModule:
    """The same function as `network` in eval mode, in pieces: each activation is a module used once."""
    network = copy.deepcopy(network).eval()
    graph = Tracer().trace(network)
    pieces = fx.GraphModule(network, graph)
    activations = (nn.ReLU, nn.ReLU6, *SMOOTH)
    once = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in list(graph.nodes):
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, (nn.ReLU, nn.ReLU6)) or node.target in RECTIFIERS | SIXES:
            own = Rectifier(isinstance(module, nn.ReLU6) or node.target in SIXES)
        elif isinstance(module, activations):
            own = copy.deepcopy(module)
            own.inplace = False
        else:
            continue
        node.meta["name"] = node.target if once.count(node.target) == 1 else node.name
        pieces.add_submodule(f"activation_{node.name}", own)
        node.op, node.target = "call_module", f"activation_{node.name}"
        node.args, node.kwargs = node.args[:1], {}
    pieces.recompile()
    ShapeProp(pieces).propagate(x)
    return pieces


def layers_of(pieces: fx.GraphModule, head: str, n: int) -> list[Layer]:
    """Up to `n` layers from the bottom to the top: the last activations of each resolution, then between."""
    found = [node for node in _before(pieces, head) if _is_activation(pieces, node)]
    if len(found) < 2:  # networks that rectify nothing between convolutions, as ConvNeXt
        found = [node for node in _before(pieces, head) if isinstance(_module(pieces, node), nn.Conv2d)]
    found = [node for node in found if min(shape(node)[2:]) > 1]
    fields = fields_of(pieces)
    return [
        Layer(_name(node), node, shape(node)[1], tuple(shape(node)[2:]), fields[node])
        for node in _spread(found, n)
    ]


def rule(pieces: fx.GraphModule) -> str:
    """How this network's units are projected: deconvnet (the paper's case), adapted, guided, or gradient."""
    modules = [module for node in pieces.graph.nodes if (module := _module(pieces, node))]
    rectifiers = [m for m in modules if isinstance(m, Rectifier)]
    if any(isinstance(m, SMOOTH) for m in modules) or not rectifiers:
        return "gradient"
    shrinking = [
        m for m in modules if isinstance(m, (nn.Conv2d, nn.AvgPool2d)) and m.stride not in (1, (1, 1))
    ]
    if any(node.target in SUMS for node in pieces.graph.nodes) or len(shrinking) > 1:
        return "guided"
    strange = any(isinstance(m, nn.BatchNorm2d) for m in modules) or any(m.six for m in rectifiers)
    return "adapted" if strange else "deconvnet"


def projector(pieces: fx.GraphModule, layer: Layer) -> NeuronDeconvolution | NeuronGuidedBackprop:
    """By this network's rule. For smooth activations guided backpropagation is the plain gradient."""
    method = NeuronDeconvolution if rule(pieces) in ("deconvnet", "adapted") else NeuronGuidedBackprop
    part = up_to(pieces, layer)
    return method(part, part.get_submodule(layer.node.target))


def project(
    method: NeuronDeconvolution | NeuronGuidedBackprop, x: torch.Tensor, channel: int, where: torch.Tensor
) -> torch.Tensor:
    """What of each picture in x (B, 3, H, W) excites the unit at `where` (B, 2: y, x) of the method's layer."""
    rows = torch.arange(len(x), device=x.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks
        seen = method.attribute(x, neuron_selector=lambda a: a[rows, channel, where[:, 0], where[:, 1]])
    return seen.detach()


def up_to(pieces: fx.GraphModule, layer: Layer) -> fx.GraphModule:
    """The network from the picture to this layer: what is above needs no computing."""
    needed, nodes = {layer.node}, list(pieces.graph.nodes)
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    graph, copies = fx.Graph(), {}
    for node in nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[layer.node])
    return fx.GraphModule(pieces, graph)


def averaged_maps(pieces: fx.GraphModule, head: str) -> str | None:
    """Give a name to the maps that the head averages over the picture: class-activation maps are made of them."""
    ends = [node for node in pieces.graph.nodes if node.target == head]  # SqueezeNet's head takes maps itself
    ends += [node for node in reversed(pieces.graph.nodes) if _averages(pieces, node)]
    source = next((node.args[0] for node in ends if _is_map(node.args[0])), None)
    if source is None:
        return None
    pieces.add_submodule("averaged_maps", nn.Identity())
    with pieces.graph.inserting_after(source):
        named = pieces.graph.call_module("averaged_maps", (source,))
    source.replace_all_uses_with(named, lambda user: user is not named)
    pieces.recompile()
    return "averaged_maps"


def _before(pieces: fx.GraphModule, head: str) -> list[fx.Node]:
    nodes = list(pieces.graph.nodes)
    end = next((i for i, node in enumerate(nodes) if node.target == head), len(nodes))
    return [node for node in nodes[:end] if node.op == "call_module" and len(shape(node)) == 4]


def _is_activation(pieces: fx.GraphModule, node: fx.Node) -> bool:
    """One whose maps have the channels first: it follows a convolution, its norm, or a sum of these."""
    below = node.args[0]
    follows = isinstance(_module(pieces, below), CHANNELS_FIRST) or below.target in (
        operator.add,
        operator.iadd,
    )
    return isinstance(_module(pieces, node), (Rectifier, *SMOOTH)) and follows


def _averages(pieces: fx.GraphModule, node: fx.Node) -> bool:
    module = _module(pieces, node)
    return isinstance(module, nn.AdaptiveAvgPool2d) or node.target in (F.adaptive_avg_pool2d, "mean")


def _is_map(node: object) -> bool:
    return isinstance(node, fx.Node) and len(shape(node)) == 4 and min(shape(node)[2:]) > 1


def _module(pieces: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return pieces.get_submodule(node.target) if node.op == "call_module" else None


def _name(node: fx.Node) -> str:
    return node.meta.get("name", node.target)


def _spread(nodes: list[fx.Node], n: int) -> list[fx.Node]:
    sides = [shape(node)[2:] for node in nodes]
    picked = [i for i in range(len(nodes)) if i + 1 == len(nodes) or sides[i] != sides[i + 1]]
    if len(picked) > n:
        picked = [picked[round(i * (len(picked) - 1) / max(n - 1, 1))] for i in range(n)]
    while len(picked) < min(n, len(nodes)):
        edges = [-1, *picked]
        gap, low = max((b - a, -a) for a, b in zip(edges, picked, strict=False))
        picked = sorted([*picked, -low + gap // 2])
    return [nodes[i] for i in picked]
