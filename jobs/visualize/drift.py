"""How far fine-tuning has moved each layer: |W_after - W_before| / |W_before|, Frobenius norms."""

from dataclasses import dataclass

import torch

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Moved:
    layer: str
    weights: int
    share: float  # |dW| / |W|: 0 unchanged, 1 as far as the weights are long


def drift(before: State, after: State) -> list[Moved]:
    """Of each layer with filters or a matrix, from the bottom to the top. Norms and biases are left out."""
    return [_moved(name.removesuffix(".weight"), [name], before, after) for name in _common(before, after)]


def by_block(before: State, after: State, most: int = 24) -> list[Moved]:
    """The same for at most `most` blocks of layers: names are cut short until they are few enough."""
    names = _common(before, after)
    depth = max((name.count(".") for name in names), default=0)
    while True:
        blocks: dict[str, list[str]] = {}
        for name in names:
            blocks.setdefault(".".join(name.removesuffix(".weight").split(".")[:depth]), []).append(name)
        if len(blocks) <= most or depth == 1:
            return [_moved(block, inside, before, after) for block, inside in blocks.items()]
        depth -= 1


def new_layers(before: State, after: State) -> list[str]:
    """Those that had to start anew: the head, where the classes are others."""
    known = {*_common(before, after)}
    return [name.removesuffix(".weight") for name in after if after[name].dim() > 1 and name not in known]


def say(moved: list[Moved]) -> str:
    """Does this fine-tuning show that low-level features transfer? In one sentence or two."""
    if not any(m.share for m in moved):
        return "No layer has moved: only the head was trained, on features that stayed as they were."
    third = max(len(moved) // 3, 1)
    low, high = (_mean(part) for part in (moved[:third], moved[-third:]))
    compared = (
        f"the first third of the layers moved by {low:.1%} of their length, the last third by {high:.1%}"
    )
    if low * 1.25 < high:
        return (
            f"Low-level features transfer: {compared}. The edges and colours that the first layers look for are "
            "the same in any photograph, so they are taken over nearly as they were; what is special to the new "
            "classes is made of them further up."
        )
    if high * 1.25 < low:
        return (
            f"Here the first layers moved more than the last: {compared}. The new pictures differ from the old "
            "ones in their pixels rather than in what they show, or the learning rate was too high."
        )
    return f"All layers moved alike: {compared}."


def _common(before: State, after: State) -> list[str]:
    return [n for n, w in after.items() if w.dim() > 1 and n in before and before[n].shape == w.shape]


def _moved(layer: str, names: list[str], before: State, after: State) -> Moved:
    was = torch.cat([before[name].double().cpu().flatten() for name in names])
    now = torch.cat([after[name].double().cpu().flatten() for name in names])
    length, way = was.norm().item(), (now - was).norm().item()
    return Moved(layer, len(was), way / length if length else float(way > 0))


def _mean(moved: list[Moved]) -> float:
    return sum(m.share for m in moved) / len(moved)
