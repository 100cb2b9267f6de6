"""The kinds of values in a job.yaml: how each is read from a node, and what JSON Schema says of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from launcher.errors import SpecError
from launcher.job.gpu import MODEL, Gpu, model, one_gpu
from launcher.job.units import DURATION, SIZE, duration_s, shown, size_bytes
from launcher.job.yaml import Node

IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
ENV_NAME = rf"(?!LAUNCHER_){IDENTIFIER}"
ODD_HINT = "YAML versions read this number differently: write it in plain decimal digits, or quote it"


@dataclass(frozen=True)
class Kind:
    read: Callable[[Node], Any]
    schema: Mapping[str, Any]
    what: str  # in words, for the manual


def word(pattern: str, what: str, hint: str) -> Kind:
    """Text of one form. Numbers are refused rather than turned into text."""

    def read(node: Node) -> str:
        if not isinstance(node.value, str) or not re.fullmatch(pattern, node.value):
            raise node.error(f"{written(node)} is not {what}", hint)
        return node.value

    return Kind(read, {"type": "string", "pattern": f"^(?:{pattern})$"}, what)


def parsed(function: Callable[[str], Any], pattern: str, what: str) -> Kind:
    """Text that `function` turns into a value; its SpecError gets the place."""

    def read(node: Node) -> Any:
        return placed(node, lambda: function(scalar_text(node)))

    return Kind(read, {"type": "string", "pattern": f"^(?:{pattern})$"}, what)


def one_of(*choices: str, hint: str = "") -> Kind:
    def read(node: Node) -> str:
        if node.value not in choices or not isinstance(node.value, str):
            raise node.error(
                f"{written(node)} is none of {', '.join(choices)}", hint or f"write {choices[0]}"
            )
        return node.value

    return Kind(read, {"enum": list(choices)}, " or ".join(choices))


def integer(least: int, most: int) -> Kind:
    def read(node: Node) -> int:
        if type(node.value) is not int:
            hint = ODD_HINT if node.odd else f"write a whole number from {least} to {most}"
            raise node.error(f"{written(node)} is not a whole number", hint)
        if not least <= node.value <= most:
            raise node.error(f"{node.value} is not between {least} and {most}", "")
        return node.value

    return Kind(read, {"type": "integer", "minimum": least, "maximum": most}, f"whole number ≥ {least}")


def list_of(item: Kind, unique: bool = True, least: int = 0) -> Kind:
    def read(node: Node) -> tuple[Any, ...]:
        if not isinstance(node.value, list):
            raise node.error(
                f"must be a list, not {kind_of(node)}", f"write [{written(node)}]" if node.text else ""
            )
        if len(node.value) < least:
            raise node.error("the list is empty", "remove the key for its default")
        values: list[Any] = []
        for child in node.value:
            values.append(item.read(child))
            if unique and values[-1] in values[:-1]:
                raise child.error(f"{written(child)} is there twice", "remove one")
        return tuple(values)

    schema = {"type": "array", "items": item.schema, "uniqueItems": unique, "minItems": least}
    return Kind(read, schema, f"list of: {item.what}")


def map_of(key: str, what: str, hint: str, item: Kind) -> Kind:
    """A mapping whose keys the user chooses, each matching the pattern `key`."""

    def read(node: Node) -> dict[str, Any]:
        if not isinstance(node.value, dict):
            raise node.error(f"must be a mapping, not {kind_of(node)}", "write `key: value`, one a line")
        for name in node.value:
            if not re.fullmatch(key, name):
                raise node.error(f"{shown(name)} is not {what}", hint, node.key_lines[name])
        return {name: item.read(child) for name, child in node.value.items()}

    schema = {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{key})$"},
        "additionalProperties": item.schema,
    }
    return Kind(read, schema, f"mapping to: {item.what}")


def placed(node: Node, action: Callable[[], Any]) -> Any:
    """The result of `action`; its SpecError is told again with the node's place."""
    try:
        return action()
    except SpecError as e:
        raise node.error(e.message, e.hint) from e


def kind_of(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    return "nothing" if node.value is None else written(node)


def written(node: Node) -> str:
    """What the user wrote, for a message."""
    if isinstance(node.value, dict | list) or node.value is None:
        return kind_of(node)
    return shown(node.value) if isinstance(node.value, str) else node.text


def scalar_text(node: Node) -> str:
    """A scalar as it was written: `NO`, `010`, `1:30`, `false` and `3.10` stay what they look like."""
    if isinstance(node.value, dict | list) or node.value is None:
        raise node.error(f"must be one value, not {kind_of(node)}", 'write "" for an empty text')
    return node.text


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
        one: Gpu | None = placed(node, lambda: one_gpu(scalar_text(node)))
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
    if isinstance(node.value, dict) or not scalar_text(node).strip():
        raise node.error(
            "the command is empty" if node.text == "" else f"must be a command, not {kind_of(node)}",
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
DURATION_KIND = parsed(duration_s, DURATION, "time: 90s, 10m, 6h, 1h30m, 1d")
SIZE_KIND = parsed(size_bytes, SIZE, "size: 500MB, 8GB (10⁹ bytes), 8GiB (2³⁰)")
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


STALL = Kind(_stall, {"anyOf": [{"enum": ["off", "none"]}, DURATION_KIND.schema]}, "time, or off")
