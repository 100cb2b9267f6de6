"""The kinds of single values in a job.yaml: commands, GPUs, times, sizes, money."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import partial
from typing import Any

from launcher.errors import SpecError
from launcher.job.gpu import MODEL, Gpu, model, one_gpu
from launcher.job.kinds import ODD_HINT, Kind, kind_of, list_of, parsed, placed, scalar_text, written
from launcher.job.units import DURATION, SIZE, duration_s, shown, size_bytes
from launcher.job.yaml import Node


def _boolean(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise node.error(f"{written(node)} is neither true nor false", "write true or false")
    return node.value


def _param(node: Node) -> Any:
    if isinstance(node.value, dict | list):
        raise node.error(
            f"must be one value, not {kind_of(node)}", "a param is a text, a number, true, false or null"
        )
    if node.odd:
        raise node.error(f"{node.text} may mean several numbers", ODD_HINT)
    if isinstance(node.value, float) and not math.isfinite(node.value):
        raise node.error(f"{node.text} is not a finite number", "quote it to hand it on as text")
    return node.value


def _cost(node: Node) -> Decimal:
    if type(node.value) not in (int, float) or node.value < 0 or not node.value <= 1_000_000:
        hint = "write a number, like 5.00, in the currency of the paying account"
        raise node.error(f"{written(node)} is not an amount of money", ODD_HINT if node.odd else hint)
    return Decimal(node.text if isinstance(node.value, float) else node.value)


def _keep(node: Node) -> str | int:
    if node.value == "all" and isinstance(node.value, str):
        return "all"
    if type(node.value) is int and 1 <= node.value <= 1_000_000:
        return node.value
    raise node.error(
        f"{written(node)} is neither all nor a whole number above 0", "write all, or how many to keep"
    )


def _gpu(node: Node) -> Gpu | None:
    if not isinstance(node.value, list):
        one: Gpu | None = placed(node, partial(one_gpu, scalar_text(node)))
        return one
    if not node.value:
        raise node.error("the list of models is empty", "write none when the job needs no GPU")
    return Gpu(models=MODELS.read(node))


def _run(node: Node) -> str | tuple[str, ...]:
    if isinstance(node.value, list):
        argv = tuple(scalar_text(child) for child in node.value)
        if not argv or not argv[0].strip():
            raise node.error("the list names no program", "write [python, train.py]")
        return argv
    if not isinstance(node.value, str) or not node.text.strip():
        raise node.error(
            "the command is empty" if node.value == "" else f"must be a command, not {kind_of(node)}",
            "write a shell command (run: python train.py) or a list of arguments",
        )
    return node.text.rstrip("\n")


MODELS = list_of(parsed(model, MODEL, "a model"))
_SCALAR = {"type": ["string", "number", "boolean"]}
_NOT_EMPTY = r"[\s\S]*\S[\s\S]*"

TEXT = Kind(scalar_text, _SCALAR, "text, as it is written")
BOOLEAN = Kind(_boolean, {"type": "boolean"}, "true or false")
PARAM = Kind(_param, {"type": ["string", "number", "boolean", "null"]}, "text, number, true, false or null")
COST = Kind(_cost, {"type": "number", "minimum": 0, "maximum": 1_000_000}, "number ≥ 0")
KEEP = Kind(
    _keep,
    {"anyOf": [{"const": "all"}, {"type": "integer", "minimum": 1, "maximum": 1_000_000}]},
    "all, or a whole number ≥ 1",
)
TIME = parsed(duration_s, DURATION, "time: 90s, 10m, 6h, 1h30m, 1d")
MEMORY = parsed(size_bytes, SIZE, "size: 500MB, 8GB (10⁹ bytes), 8GiB (2³⁰)")
GPU = Kind(
    _gpu,
    {
        "anyOf": [
            {"type": "string", "pattern": f"^(?:{SIZE})$"},
            {"type": "string", "pattern": f"^(?:{MODEL})$"},
            {**MODELS.schema, "minItems": 1},
        ]
    },
    "a model, a list of models, a memory, or none",
)
RUN = Kind(
    _run,
    {
        "anyOf": [
            {"type": "string", "pattern": _NOT_EMPTY},
            {"type": "array", "minItems": 1, "items": _SCALAR},
        ]
    },
    "a command for sh -c, or a list of arguments",
)


def _positive_s(text: str) -> float:
    if not (seconds := duration_s(text)):
        raise SpecError(f"{shown(text)} is no time at all", "write it like 90s, 10m or 6h")
    return seconds


PERIOD = parsed(_positive_s, DURATION, "time: 90s, 10m, 6h, 1h30m, 1d")


def _stall(node: Node) -> Any:
    return None if node.text in ("off", "none") else PERIOD.read(node)


STALL = Kind(_stall, {"anyOf": [{"enum": ["off", "none"]}, TIME.schema]}, "time, or off")
