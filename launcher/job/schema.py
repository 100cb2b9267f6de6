"""JSON Schema (2020-12) of job.yaml for editors, made from the table that the parser reads by.

It accepts whatever the parser accepts. What only code can tell (a placeholder without a param, the same name
in env and secrets) it leaves to the parser.
"""

from __future__ import annotations

from typing import Any

from launcher.job import yaml
from launcher.job.keys import JOB, Key, Section

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The whole schema as a plain JSON value."""
    return {"$schema": DIALECT, "title": "job.yaml of launcher", **_section(JOB)}


def _section(section: Section) -> dict[str, Any]:
    properties = {
        name: _key(key, optional=name not in section.required) for name, key in section.keys.items()
    }
    result: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": list(section.required),
        "additionalProperties": False,
    }
    return {**result, **(section.rules or {})}


def _key(key: Key, optional: bool) -> dict[str, Any]:
    """A key without a value (`env:`) means its default, so optional ones may be null."""
    kind = _section(key.kind) if isinstance(key.kind, Section) else dict(key.kind.schema)
    result: dict[str, Any] = {"description": key.doc}
    result |= {"anyOf": [kind, {"type": "null"}]} if optional else kind
    if key.default:
        result["default"] = yaml.read(key.default.encode(), "default").plain()
    return result
