"""A segment's folder on a machine, read through the steward there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from launcher.errors import IntegrityError, RemoteError
from launcher.target import Range

if TYPE_CHECKING:
    from launcher.hosts.steward import Steward


FIND_DEPTH = 16
FOLLOW_WINDOW_BYTES = 8 << 20  # unread at most: a follower that is slower than the job must not grow


class MachineFolder:
    """`launcher.target.Folder` over a Steward; `path` is the segment's folder there."""

    def __init__(self, steward: Steward, path: str, container: str | None) -> None:
        self.steward, self.path, self._container = steward, path, container

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        ranges = [[f"{self.path}/{r.path}", r.offset, r.length] for r in wanted]
        for header, data in self.steward.stream("read", ranges=ranges):
            yield int(header.get("i", 0)), data

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        where = f"{self.path}/{path}"
        try:
            found = self.steward.call("list", path=where, depth=FIND_DEPTH, match=list(patterns))
        except RemoteError as error:
            if error.code == "missing":
                return []
            raise
        try:
            files = [entry for entry in found["entries"] if entry[1] == "file"]
            return [(str(name), max(0, int(size)), float(time)) for name, _, size, time in files]
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise IntegrityError(
                f"{self.steward.name} lists files in no known form", "is this server yours?"
            ) from error

    def follow(self, offsets: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        stream = self.steward.stream(
            "follow",
            folder=self.path,
            offsets=dict(offsets),
            container=self._container,
            window=FOLLOW_WINDOW_BYTES,
        )
        for header, data in stream:
            path = header.get("path", "")
            if path in offsets or not path:
                yield path, data

    def put(self, path: str, data: bytes) -> None:
        self.steward.write(f"{self.path}/{path}", data)
