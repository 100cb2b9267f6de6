"""The packages and the Python that a script's PEP 723 header or a pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from launcher.errors import SpecError
from launcher.job.units import shown

_BLOCK = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
)  # from the PEP
MINORS = (14, 13, 12, 11, 10, 9, 8)  # of Python 3, newest first
MAX_PATCH = 40


@dataclass(frozen=True)
class Wanted:
    """What a project says it needs."""

    dependencies: tuple[str, ...] = ()
    requires_python: str | None = None
    index: tuple[str, ...] = ()


def script_header(text: str, source: str) -> Wanted | None:
    """The PEP 723 header of a script, or None when it has none."""
    found = [m for m in _BLOCK.finditer(text.replace("\r\n", "\n")) if m["type"] == "script"]
    if not found:
        return None
    if len(found) > 1:
        raise SpecError(f"{source}: two `# /// script` headers", "keep one")
    lines = found[0]["content"].splitlines()
    toml = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    return _wanted(_toml(toml, f"{source}: its `# /// script` header"), f"{source}: its header")


def project(text: str, source: str) -> Wanted | None:
    """The `[project]` of a pyproject.toml, or None when there is none with dependencies."""
    table = _toml(text, source).get("project")
    if not isinstance(table, dict) or not ("dependencies" in table or "requires-python" in table):
        return None
    return _wanted(table, source)


def choose_python(requires: str, preferred: int) -> str | None:
    """A version for `>=3.11,<3.14`: an exact one if named, else 3.<preferred> if allowed, else the newest.

    Patch levels inside ranges are left to the lock, so only the minor version is decided here.
    """
    try:
        allowed = SpecifierSet(requires)
    except InvalidSpecifier as e:
        hint = 'write it like ">=3.11"'
        raise SpecError(f"requires-python {shown(requires)} is not understood", hint) from e
    for minor in (preferred, *MINORS):
        patches = [patch for patch in range(MAX_PATCH) if f"3.{minor}.{patch}" in allowed]
        if patches:
            return f"3.{minor}.{patches[0]}" if len(patches) == 1 and patches[0] else f"3.{minor}"
    raise SpecError(f"no Python from 3.8 to 3.14 satisfies requires-python {shown(requires)}", "widen it")


def _wanted(table: dict[str, Any], source: str) -> Wanted:
    dependencies, python = table.get("dependencies", []), table.get("requires-python")
    if not isinstance(dependencies, list) or not all(isinstance(d, str) for d in dependencies):
        raise SpecError(f"{source}: dependencies must be a list of texts", 'write dependencies = ["torch"]')
    if python is not None and not isinstance(python, str):
        raise SpecError(f"{source}: requires-python must be a text", 'write requires-python = ">=3.11"')
    return Wanted(tuple(dependencies), python, _indexes(table))


def _indexes(table: dict[str, Any]) -> tuple[str, ...]:
    """`[[tool.uv.index]] url = …`, which uv reads in a header."""
    tool = table.get("tool")
    uv = tool.get("uv") if isinstance(tool, dict) else None
    entries = uv.get("index") if isinstance(uv, dict) else None
    found = (
        [entry.get("url") for entry in entries if isinstance(entry, dict)]
        if isinstance(entries, list)
        else []
    )
    return tuple(url for url in found if isinstance(url, str))


def _toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        said = " ".join(str(e).split())
        raise SpecError(f"{source} is not valid TOML: {said}", "see https://toml.io") from e
