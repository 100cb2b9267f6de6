"""Chooses which files of a job travel: those of its folder, and what `files.also` brings from elsewhere.

Order of the rules, the later ones stronger: .gitignore (of the folder, of every folder in it, and of the
folders above it up to the repository's root), .launcherignore, `files:` of the spec, and what never travels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from launcher.errors import SpecError
from launcher.job.also import outside
from launcher.job.spec import Files
from launcher.walk import Wanted, never, walk

LARGE_BYTES = 50_000_000


@dataclass(frozen=True)
class SourceFile:
    """One file that travels: its path in the bundle, with slashes. `at`: where it lies, if not below the folder."""

    path: str
    size_bytes: int
    at: str = ""


@dataclass(frozen=True)
class Choice:
    """What travels, and what was left out because it looks like a key (paths, to be shown)."""

    files: tuple[SourceFile, ...]
    keys: tuple[str, ...] = ()

    @property
    def large(self) -> tuple[SourceFile, ...]:
        """Files that the user is asked about."""
        return tuple(file for file in self.files if file.size_bytes > LARGE_BYTES)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def choose(root: Path, files: Files, leave_out: Iterable[Path] = ()) -> Choice:
    """The files that travel, sorted by UTF-8 path.

    `leave_out`: paths of local data sources and of the spec; `job.yaml` at the root is always left out.
    """
    root = Path(os.path.abspath(root))
    left_out = frozenset({str(root / "job.yaml")} | {os.path.abspath(path) for path in leave_out})
    own = walk(root, Wanted(files.include, files.exclude, left_out))
    chosen = [SourceFile(path, size) for path, size in own.files]
    keys = list(own.keys)
    taken = _Taken({path.split("/")[0]: path for path, _ in own.files})
    for text in files.also:
        brought = _brought(root, text, Wanted(exclude=files.exclude, left_out=left_out))
        taken.add(brought.files[0].path.split("/")[0], text)
        chosen += brought.files
        keys += brought.keys
    if not chosen:
        raise SpecError(
            f"no file of {root} would travel", "look at files: in the spec and at its ignore files"
        )
    return Choice(tuple(sorted(chosen, key=lambda file: file.path.encode())), tuple(sorted(keys)))


@dataclass
class _Taken:
    """Which names directly in the bundle are taken, and by what."""

    by: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        if name in self.by:
            raise SpecError(
                f"files.also: {text} and {self.by[name]} would both be {name} in the bundle",
                "rename one of them, or leave one out",
            )
        self.by[name] = text


def _brought(root: Path, text: str, wanted: Wanted) -> Choice:
    """What one entry of `files.also` brings: a file, or what travels of a folder; never nothing."""
    path = outside(root, text)
    if why := never(path):
        raise SpecError(f"files.also: {text} never travels: {why}", "remove it; keys belong under secrets:")
    if not path.is_dir():
        return Choice((SourceFile(path.name, path.stat().st_size, str(path)),))
    found = walk(path, wanted)
    if not found.files:
        raise SpecError(f"files.also: no file of {text} would travel", "look at the ignore files in it")
    brought = (SourceFile(f"{path.name}/{below}", size, str(path / below)) for below, size in found.files)
    return Choice(tuple(brought), tuple(f"{text.rstrip('/')}/{key}" for key in found.keys))
