"""Which GPU a job asks for: a model, one of several models, or an amount of memory."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.agent import gpus
from launcher.errors import SpecError
from launcher.job.units import SIZE, shown, size_bytes

MODEL = r"[A-Za-z][A-Za-z0-9]*([ ._-][A-Za-z0-9]+){0,5}"

_HINT = 'write a model (T4), a list of models ([T4, L4]), a memory ("16GB+") or none'


@dataclass(frozen=True)
class Gpu:
    """Any of `models` (none named: any model), each with at least `memory_bytes` (None: any amount)."""

    models: tuple[str, ...] = ()
    memory_bytes: int | None = None


def one_gpu(text: str) -> Gpu | None:
    """`T4`, `16GB+` (the plus may be left out: memory is always a minimum), or `none`."""
    if text.lower() == "none":
        return None
    if re.fullmatch(SIZE, text):
        return Gpu(memory_bytes=size_bytes(text))
    return Gpu(models=(model(text),))


def model(text: str) -> str:
    if found := re.fullmatch(rf"({MODEL}):([0-9]+)", text):
        raise SpecError(
            f"{shown(text)} is not a GPU model",
            f"write gpu: {found[1]} and count: {found[found.lastindex or 0]}",
        )
    if re.fullmatch(SIZE, text):
        raise SpecError(f"{shown(text)} in a list of models", 'a memory stands alone: gpu: "16GB+"')
    if not re.fullmatch(MODEL, text) or text.lower() in ("none", "any", "auto", "yes", "no", "on", "off"):
        raise SpecError(f"{shown(text)} is not a GPU model", _HINT)
    return text


def fits(need: Gpu, name: str, memory_bytes: int | None) -> bool:
    """Whether the GPU called `name` (by its driver or a price list), with so much memory, will do."""
    return bool(gpus.fits(need.models, need.memory_bytes, name, memory_bytes))
