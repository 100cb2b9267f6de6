"""What the network looked at when it erred: class-activation maps (Grad-CAM) of its worst mistakes."""

from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import fx, nn

from exhibits import Exhibit, tensors
from mining import AT_ONCE
from networks import Look

FEW = 6  # mistakes, after which those follow that were nearly one


@dataclass(frozen=True)
class Answer:
    """What the network said of one picture, beside the truth where that is known."""

    name: str
    truth: int | None
    said: int
    odds: torch.Tensor  # (C,)

    @property
    def wrong(self) -> bool:
        return self.truth is not None and self.said != self.truth

    @property
    def excess(self) -> float:
        """How much more a wrong answer was believed than the right one; where none is known, how much it was."""
        if self.truth is None:
            return self.odds[self.said].item()
        others = self.odds.clone()
        others[self.truth] = 0
        return (others.max() - self.odds[self.truth]).item()


@torch.inference_mode()
def answers(network: nn.Module, exhibits: list[Exhibit], look: Look) -> list[Answer]:
    device = next(network.parameters()).device
    odds = [network(x.to(device)).float().softmax(1).cpu() for x in tensors(exhibits, look)]
    return [
        Answer(e.name, e.truth, int(one.argmax()), one)
        for e, one in zip(exhibits, torch.cat(odds), strict=True)
    ]


def worst(given: list[Answer], n: int) -> list[int]:
    """The n most confident mistakes, the worst first; if they are few, some that were nearly one, or are unknown."""
    order = sorted(range(len(given)), key=lambda i: -given[i].excess)
    wrong = sum(answer.wrong for answer in given)
    known = any(answer.truth is not None for answer in given)
    return order[: min(n, max(wrong, FEW) if known else n)]


def cam(pieces: fx.GraphModule, last: str, x: torch.Tensor, classes: list[int]) -> np.ndarray:
    """For each picture in x (B, 3, H, W) what spoke for its class: (B, H, W), 0 to 1, each map by its own maximum."""
    gradcam, target = LayerGradCam(pieces, pieces.get_submodule(last)), torch.tensor(classes, device=x.device)
    parts = zip(x.split(AT_ONCE), target.split(AT_ONCE), strict=True)
    heat = torch.cat([gradcam.attribute(some, said, relu_attributions=True).detach() for some, said in parts])
    heat = LayerAttribution.interpolate(heat, tuple(x.shape[2:]), "bilinear")[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)).cpu().numpy()
