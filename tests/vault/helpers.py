"""Artifacts and openers for the tests of the vault."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from launcher.agent import records
from launcher.run import Artifact, File

TIME = "2026-01-01T00:00:00.000Z"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lines(first: int, count: int, segment: int = 0, text: str = "step\n") -> bytes:
    return b"".join(records.log_line(first + i, TIME, segment, 0, "stdout", text) for i in range(count))


def checkpoint(name: str, data: bytes, number: int = 1) -> Artifact:
    file = File(f"checkpoints/{name}", len(data), sha(data))
    return Artifact(number, "checkpoint", name, (file,), file.sha256, len(data), TIME)


def output(name: str, data: bytes, number: int = 1) -> Artifact:
    file = File(name, len(data), sha(data))
    return Artifact(number, "output", name, (file,), file.sha256, len(data), TIME)


def folder(name: str, contents: Mapping[str, bytes], number: int = 1) -> Artifact:
    files = tuple(File(f"checkpoints/{name}/{path}", len(data), sha(data)) for path, data in contents.items())
    digest = records.tree_digest([(path, len(data), sha(data)) for path, data in contents.items()])
    return Artifact(number, "checkpoint", name, files, digest, sum(f.size_bytes for f in files), TIME, True)


def giving(
    contents: Mapping[str, bytes] | bytes, block: int = 1 << 16
) -> Callable[[str, int], Iterator[bytes]]:
    """An opener that gives what it is said to have."""

    def opener(path: str, offset: int) -> Iterator[bytes]:
        data = contents if isinstance(contents, bytes) else contents[path]
        for start in range(offset, len(data), block):
            yield data[start : start + block]

    return opener
