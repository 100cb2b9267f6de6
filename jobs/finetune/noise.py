"""Dropout and stochastic depth as functions of (seed, step, layer), for whatever part of a batch is at hand.

The masks of the whole batch are drawn, and each process and micro-batch takes the rows of its own pictures:
so two processes, or half the memory, learn what one process with the whole batch learns.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.ops import StochasticDepth


@dataclass
class Noise:
    """What the layers draw by: set before each forward pass."""

    seed: int
    step: int = 0
    B: int = 0  # pictures in the whole batch
    rows: torch.Tensor | None = None  # places of those at hand

    def keep(self, layer: int, p: float, shape: torch.Size) -> torch.Tensor:
        """1 / (1 - p) where something is kept and 0 elsewhere, (rows, …)."""
        key = hashlib.sha256(f"{self.seed} {self.step} {layer}".encode()).digest()
        draw = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
        mask = torch.rand((self.B, *shape[1:]), generator=draw)[self.rows] >= p
        return mask.float() / (1 - p)


class RowDropout(nn.Dropout):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _apply(self, x, x.shape)


class RowDepth(StochasticDepth):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _apply(self, x, torch.Size([len(x)] + [1] * (x.dim() - 1)))


def _apply(layer: nn.Module, x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if not layer.training or layer.p == 0:
        return x
    return x * layer.noise.keep(layer.number, layer.p, shape).to(x.device, x.dtype)


def install(model: nn.Module, seed: int) -> Noise:
    """Same parameters and names, other forward passes."""
    noise = Noise(seed)
    kinds = {nn.Dropout: RowDropout, StochasticDepth: RowDepth}
    for number, layer in enumerate(model.modules()):
        if type(layer) in kinds:
            layer.__class__ = kinds[type(layer)]
            layer.noise, layer.number = noise, number
    return noise
