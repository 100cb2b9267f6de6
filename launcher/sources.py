"""Finds what a job's lock is made from, and says by content whether the lock is still of it.

The lock lies beside its source: requirements.in or requirements.txt -> requirements.lock, pyproject.toml ->
requirements.lock, a script with a PEP 723 header train.py -> train.lock (not train.py.lock, which is uv's own
format and which `uv run train.py` would read).
"""

from __future__ import annotations

import hashlib
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from launcher.agent import records
from launcher.errors import SpecError
from launcher.job.header import script_header
from launcher.job.spec import LoadedJob
from launcher.lock import Lock, parse_lock

LOCK_NAME = "requirements.lock"
PYPROJECT = "pyproject.toml"
MAX_DEPTH = 8  # of -r inside -r


@dataclass(frozen=True)
class LockPlan:
    """Where the lock is or will be, and all that it depends on. `source` None: the lock stands alone."""

    path: Path
    source: Path | None
    python: str  # 3.12, or an exact version
    python_given: bool
    torch: str
    index: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of the source's meaning (not its comments) and the settings: a lock that records it is fresh."""
        settings = [self.python if self.python_given else None, self.torch, list(self.index)]
        return hashlib.sha256(records.canonical([_meaning(self.source), settings])).hexdigest()


def lock_plan(loaded: LoadedJob) -> LockPlan | None:
    """None: the job needs no packages, so it has no lock."""
    environment, kind = loaded.spec.environment, loaded.requirements_source.kind
    named = environment.requirements
    if named is None or kind == "none":
        return None
    path, source = _pair(loaded.root / named)
    if kind in ("requirements", "pyproject", "header"):
        source = loaded.requirements_source.path
    if source is None and not path.exists():
        stem = path.with_suffix("")
        raise SpecError(
            f"{path} does not exist, nor anything to make it from",
            f"write {stem.name}.in beside it, one package a line, or remove environment.requirements",
        )
    return LockPlan(
        path=path,
        source=source,
        python=environment.python or f"3.{sys.version_info.minor}",
        python_given=environment.python is not None,
        torch=environment.torch,
        index=environment.index,
    )


def why_stale(plan: LockPlan) -> str:
    """Why the lock must be made (again); empty when it is good. SpecError for a lock that is damaged."""
    if not plan.path.exists():
        return f"there is no {plan.path.name} yet"
    if plan.source is None:
        return ""
    lock = parse_lock(read(plan.path))
    if lock.source:
        return "" if lock.source == f"sha256:{plan.digest}" else f"{plan.source.name} or its settings changed"
    missing = _unlocked(plan.source, lock)
    return f"{missing} of {plan.source.name} is not in {plan.path.name}" if missing else ""


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from error


def _pair(named: Path) -> tuple[Path, Path | None]:
    """(lock, source) for what the spec names, which may be either of the two."""
    if named.name == PYPROJECT:
        return named.with_name(LOCK_NAME), named
    if named.suffix in (".in", ".py"):
        return named.with_suffix(".lock"), named
    if named.suffix == ".txt" and (not named.exists() or b"--hash" not in read(named)):
        return named.with_suffix(".lock"), named if named.exists() else None
    candidates = [named.with_suffix(suffix) for suffix in (".in", ".txt", ".py")]
    if named.name == LOCK_NAME:
        candidates.append(named.with_name(PYPROJECT))
    return named, next((one for one in candidates if one != named and _is_source(one)), None)


def _is_source(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix == ".py":
        return script_header(read(path).decode("utf-8", "replace"), path.name) is not None
    return path.suffix != ".toml" or bool(_project(path)["dependencies"])


def _meaning(source: Path | None) -> Any:
    """What of a source decides the lock, as plain JSON."""
    if source is None:
        return None
    if source.name == PYPROJECT:
        return _project(source)
    if source.suffix == ".py":
        header = script_header(read(source).decode("utf-8", "replace"), source.name)
        return [list(header.dependencies), header.requires_python, list(header.index)] if header else None
    return list(_lines(source))


def _project(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(read(path).decode())
    except ValueError as error:
        raise SpecError(f"{path} is not TOML: {error}") from error
    project = table.get("project", {})
    uv = {k: v for k, v in table.get("tool", {}).get("uv", {}).items() if isinstance(v, dict | list | str)}
    needs = project.get("requires-python")
    return {"dependencies": project.get("dependencies", []), "requires-python": needs, "uv": uv}


def _lines(path: Path, depth: int = 0) -> Iterator[str]:
    """The requirement lines of a file and of those that it includes, without comments."""
    for line in read(path).decode("utf-8", "replace").splitlines():
        text = f" {line} ".split(" #")[0].strip()
        words = text.replace("=", " ").split()
        if depth < MAX_DEPTH and len(words) > 1 and words[0] in ("-r", "--requirement", "-c", "--constraint"):
            yield words[0]
            yield from _lines(path.parent / words[1], depth + 1)
        elif text:
            yield text


def _unlocked(source: Path, lock: Lock) -> str:
    """The first requirement of the source that a lock of another tool does not fulfil."""
    for text in _requirements(source):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # an option, a path: not ours to judge
        versions = [pin.version for pin in lock.all if pin.name == canonicalize_name(requirement.name)]
        if not requirement.url and not any(
            requirement.specifier.contains(v, prereleases=True) for v in versions
        ):
            return text
    return ""


def _requirements(source: Path) -> list[str]:
    meaning = _meaning(source)
    if isinstance(meaning, dict):
        return [str(one) for one in meaning["dependencies"]]
    if source.suffix == ".py":
        return list(meaning[0]) if meaning else []
    return [text for text in meaning if not text.startswith("-")]
