"""One process or several, each with a part of every batch: what torchrun starts finds itself here.

Each process adds up the gradients of its own pictures; one all_reduce a step makes the whole batch's of them.
It comes after the backward passes, so a process that runs out of memory can do its part again in smaller ones.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn

CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        return self.rank == 0


def join() -> World:
    """torchrun's variables, a GPU for each process where there are GPUs."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = CPU
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if size > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(hours=12))  # the first works alone at times
    return World(rank, size, device)


def leave(world: World) -> None:
    if world.size > 1:
        distributed.destroy_process_group()


def total(world: World, x: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, in place."""
    if world.size > 1:
        distributed.all_reduce(x)
    return x


def add_gradients(world: World, parameters: Iterable[nn.Parameter]) -> None:
    if world.size == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:  # no picture of this batch fell to this process
            parameter.grad = torch.zeros_like(parameter)
    grads = [p.grad for p in parameters]
    flat = total(world, torch.cat([g.reshape(-1) for g in grads]))
    for grad, piece in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(piece.view_as(grad))


def same_everywhere(world: World, model: nn.Module) -> None:
    """The first process's weights for all."""
    if world.size > 1:
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, 0)
