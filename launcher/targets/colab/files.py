"""Files of a runtime: uploads in chunks, downloads by ranges, listings. Paths begin at its /: `content/…`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.target import Range
from launcher.targets.colab.runtime import RuntimeLine


@dataclass(frozen=True)
class Entry:
    """One name in a folder there."""

    name: str
    is_folder: bool
    size_bytes: int
    modified_at: float


class RuntimeFiles:
    """No part of a path may begin with a dot: Jupyter neither shows nor takes it. `/content/x` is `content/x`."""

    def __init__(self, line: RuntimeLine) -> None:
        raise NotImplementedError

    def put(self, path: str, data: bytes) -> None:
        """A small file, whole; it appears at once. Its folder must be there."""
        raise NotImplementedError

    def upload(self, path: str, source: Path, resume: bool = False) -> Iterator[int]:
        """A file in chunks; yields the bytes there, from the first (what `resume` found there already) to the last.

        Its size is checked, not its content: check its hash there with a cell. `resume` goes on with what an earlier
        upload of the same bytes left. Its folder must be there.
        """
        raise NotImplementedError

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        """(index into `wanted`, bytes) in order; nothing for a missing file or beyond its end. Goes on after cuts."""
        raise NotImplementedError

    def size(self, path: str) -> int | None:
        """A file's size; None when there is none."""
        raise NotImplementedError

    def listing(self, path: str) -> list[Entry]:
        """A folder's names; [] when there is none."""
        raise NotImplementedError

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        """Files below a folder, as target.Folder.find has them."""
        raise NotImplementedError

    def make_folder(self, path: str) -> None:
        """With its parents; fine when it is there."""
        raise NotImplementedError

    def delete(self, path: str) -> None:
        """A file or a folder with all that is in it; fine when there is none."""
        raise NotImplementedError
