"""Files of a runtime: uploads in chunks, downloads by ranges, listings. Paths begin at its /: `content/…`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from launcher.errors import RemoteError
from launcher.target import Range
from launcher.targets.colab.ranged import read_range
from launcher.targets.colab.runtime import PEER, Ask, RuntimeLine, good
from launcher.targets.colab.upload import Place, model, upload
from launcher.targets.colab.wire import json_object, number, short

MOST_NAMES, DEEPEST = 100_000, 64  # of a walk


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
        self._line = line

    def put(self, path: str, data: bytes) -> None:
        """A small file, whole; it appears at once. Its folder must be there."""
        good(self._line.ask(Ask("PUT", _contents(path), model(data))), f"writing /{_plain(path)}")

    def upload(self, path: str, source: Path, resume: bool = False) -> Iterator[int]:
        """A file in chunks; yields the bytes there, from the first (what `resume` found there already) to the last.

        Its size is checked, not its content: check its hash there with a cell. `resume` goes on with what an earlier
        upload of the same bytes left. Its folder must be there.
        """
        place = Place(f"/{_plain(path)}", _contents(path), lambda: self.size(path))
        return upload(self._line, place, source, resume)

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        """(index into `wanted`, bytes) in order; nothing for a missing file or beyond its end. Goes on after cuts."""
        asked = False  # a runtime that has said once that it lives need not say it for each missing file
        for index, part in enumerate(wanted):
            blocks = read_range(self._line, "/files/" + quote(_plain(part.path)), part)
            missing = False
            while True:
                try:
                    yield index, next(blocks)
                except StopIteration as end:
                    missing = end.value
                    break
            if missing and not asked:
                self._line.must_answer()
                asked = True

    def size(self, path: str) -> int | None:
        """A file's size; None when there is none."""
        found = self._get(path, "?content=0")
        return (
            int(number(found.get("size"))) if found is not None and found.get("type") != "directory" else None
        )

    def listing(self, path: str) -> list[Entry]:
        """A folder's names; [] when there is none."""
        found = self._get(path, "?content=1&type=directory")
        content = found.get("content") if found else None
        return [_entry(one) for one in content if _listed(one)] if isinstance(content, list) else []

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        """Files below a folder, as target.Folder.find has them."""
        found: list[tuple[str, int, float]] = []
        folders: list[tuple[str, tuple[list[Entry], ...]]] = [("", ())]  # each with what those above it hold
        seen = 0
        while folders:
            below, above = folders.pop()
            entries = self.listing(f"{path}/{below}" if below else path)
            if entries in above:
                continue  # a link that leads in a circle: listings do not tell links from folders
            seen += len(entries)
            if seen > MOST_NAMES or len(above) > DEEPEST:
                raise RemoteError(
                    f"/{_plain(path)} has too many files or folders to list", "pack them into fewer"
                )
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.is_folder:
                    folders.append((name, (*above, entries)))
                elif any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in patterns):
                    found.append((name, entry.size_bytes, entry.modified_at))
        return found

    def make_folder(self, path: str) -> None:
        """With its parents; fine when it is there."""
        parts = _plain(path).split("/")
        for end in range(1, len(parts) + 1):
            here = "/".join(parts[:end])
            if self._get(here, "?content=0") is None:
                answer = self._line.ask(Ask("PUT", _contents(here), b'{"type": "directory"}'))
                if answer.status not in (400, 409):  # another was faster
                    good(answer, f"making /{here}")

    def delete(self, path: str) -> None:
        """A file, or a folder with the files in it; fine when there is none.

        Folders in it are refused: Jupyter does not tell them from links, whose ends are not ours to delete.
        """
        answer = self._line.ask(Ask("DELETE", _contents(path)))
        if answer.status == 400:  # not empty
            for entry in self.listing(path):
                if not entry.is_folder:
                    self._line.ask(Ask("DELETE", _contents(f"{path}/{entry.name}")))
            answer = self._line.ask(Ask("DELETE", _contents(path)))
        if answer.status != 404:
            good(answer, f"deleting /{_plain(path)}")

    # inside

    def _get(self, path: str, query: str) -> dict[str, Any] | None:
        answer = self._line.ask(Ask("GET", _contents(path) + query))
        if answer.status == 404 or (answer.status == 400 and "type=" in query):  # 400: a file is no folder
            return None
        return json_object(good(answer, f"looking at /{_plain(path)}"), PEER)


def _plain(path: str) -> str:
    """Without leading slash; a path that leads elsewhere than it says is a mistake of ours or a lie of theirs."""
    parts = path.strip("/").split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise RemoteError(f"{short(path)!r} is not a path in {PEER}")
    return "/".join(parts)


def _contents(path: str) -> str:
    return "/api/contents/" + quote(_plain(path))


def _listed(one: object) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("name"), str):
        return False
    name = one["name"]
    return bool(name) and "/" not in name and "\0" not in name and not name.startswith(".")


def _entry(one: dict[str, Any]) -> Entry:
    modified = 0.0
    with suppress(ValueError, OverflowError):
        modified = datetime.fromisoformat(str(one.get("last_modified", ""))).timestamp()
    return Entry(one["name"], one.get("type") == "directory", int(number(one.get("size"))), modified)
