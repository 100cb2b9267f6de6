"""All regular files of a source, with what tells whether one of them has changed since."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.agent.hashing import kind_of
from launcher.errors import SpecError
from launcher.job.units import shown

OURS = ".launcher"  # in the home of a run, beside its capsule
CAPSULE = "capsule.json"
Identity = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode


@dataclass(frozen=True)
class Found:
    """A file: its path inside the source (of a single file: ""), where it really lies, and what stat says."""

    path: str
    real: str
    identity: Identity

    @property
    def size_bytes(self) -> int:
        return self.identity[0]


def files_of(source: Path) -> list[Found]:
    """Sorted by path. SpecError, in one line, for what cannot travel."""
    try:
        top = os.stat(source)
    except OSError as error:
        raise SpecError(f"{_shown(source)}: {_why(error)}", "write a file or folder that is there") from error
    if stat.S_ISREG(top.st_mode):
        return [Found("", os.path.realpath(source), identity(top))]
    if not stat.S_ISDIR(top.st_mode):
        raise SpecError(f"{_shown(source)} is {kind_of(top.st_mode)}", "data is a file or a folder")
    root = os.path.realpath(source)
    found = sorted(_Walk(root).folder("", root, (root,)), key=lambda file: file.path)
    if not found:
        raise SpecError(f"{_shown(source)} has no files", "put some into it, or remove the key")
    return found


def identity(info: os.stat_result) -> Identity:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino


class _Walk:
    """Below `root`; links are followed as long as they stay there."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._home = os.path.exists(os.path.join(root, CAPSULE))

    def folder(self, prefix: str, real: str, above: tuple[str, ...]) -> Iterator[Found]:
        try:
            with os.scandir(real) as scanned:
                entries = list(scanned)
        except OSError as error:
            raise SpecError(f"{_shown(real)}: {_why(error)}", "make it readable, or move it away") from error
        for entry in entries:
            if not prefix and entry.name == OURS and self._home:
                continue
            path = prefix + entry.name
            if not _is_text(path):
                raise SpecError(f"{_shown(entry.path)} has a name that is not UTF-8", "rename it")
            yield from self._entry(path, entry, above)

    def _entry(self, path: str, entry: os.DirEntry[str], above: tuple[str, ...]) -> Iterator[Found]:
        try:
            info = entry.stat(follow_symlinks=False)
            real = entry.path
            if stat.S_ISLNK(info.st_mode):
                real = self._target(entry.path)
                info = os.stat(real)
        except OSError as error:
            raise SpecError(f"{_shown(entry.path)}: {_why(error)}", "remove it, or mend it") from error
        if stat.S_ISREG(info.st_mode):
            yield Found(path, real, identity(info))
        elif stat.S_ISDIR(info.st_mode):
            if real in above:
                raise SpecError(f"{_shown(entry.path)} is a link that leads in a circle", "remove it")
            yield from self.folder(path + "/", real, (*above, real))
        else:
            raise SpecError(
                f"{_shown(entry.path)} is {kind_of(info.st_mode)}", "only files and folders can travel"
            )

    def _target(self, link: str) -> str:
        real = os.path.realpath(link)
        if not real.startswith(self._root.rstrip("/") + "/") and real != self._root:
            raise SpecError(
                f"{_shown(link)} is a link that leads out of the source", "put a copy in its place"
            )
        return real


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: object) -> str:
    text = os.fsencode(str(path)).decode("utf-8", "replace")
    return text if text.isprintable() else shown(text)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
