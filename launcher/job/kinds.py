"""The kinds of values in a job.yaml: how each is read from a node, and what JSON Schema says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from launcher.errors import SpecError
from launcher.job.units import shown
from launcher.job.yaml import Node

ODD_HINT = "YAML versions read this number differently: write it in plain decimal digits, or quote it"


ONE_HINT = 'write one value behind the colon ("" is an empty text)'


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
        value = placed(node, partial(function, scalar_text(node)))
        if not isinstance(node.value, str):
            raise node.error(
                f"must be text, and YAML reads {node.text} as something else", f'write "{node.text}"'
            )
        return value

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
            raise node.error(
                f"{node.value} is not between {least} and {most}",
                f"write {min(max(node.value, least), most)}",
            )
        return node.value

    return Kind(read, {"type": "integer", "minimum": least, "maximum": most}, f"whole number ≥ {least}")


def list_of(item: Kind, unique: bool = True, least: int = 0) -> Kind:
    def read(node: Node) -> tuple[Any, ...]:
        if not isinstance(node.value, list):
            raise node.error(
                f"must be a list, not {kind_of(node)}", f"write [{written(node) if node.text else '…'}]"
            )
        if len(node.value) < least:
            raise node.error("the list is empty", "remove the key for its default")
        values: list[Any] = []
        seen: set[Any] = set()
        for child in node.value:
            values.append(item.read(child))
            if unique and values[-1] in seen:
                raise child.error(f"{written(child)} is there twice", "remove one")
            seen.add(values[-1])
        return tuple(values)

    schema = {"type": "array", "items": item.schema, "uniqueItems": unique, "minItems": least}
    return Kind(read, schema, f"list of: {item.what}")


def map_of(check: Callable[[str], str], pattern: str, item: Kind) -> Kind:
    """A mapping whose keys the user chooses: `check` refuses a bad one, `pattern` tells the schema."""

    def read(node: Node) -> dict[str, Any]:
        if not isinstance(node.value, dict):
            raise node.error(f"must be a mapping, not {kind_of(node)}", "write `key: value`, one a line")
        for name in node.value:
            placed(node.at(name), partial(check, name))
        return {name: item.read(child) for name, child in node.value.items()}

    schema = {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{pattern})$"},
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
        raise node.error(f"must be one value, not {kind_of(node)}", ONE_HINT)
    return node.text
