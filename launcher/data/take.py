"""What a source holds now: every file hashed once, and not again while stat says that it is the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.agent import hashing
from launcher.data import seen
from launcher.data.seen import Seen
from launcher.data.source import Entry, Source
from launcher.data.walk import Found, files_of, identity
from launcher.errors import SpecError

THREADS = 4  # hashing leaves the interpreter's lock
GROUP_FILES, GROUP_BYTES = 64, 8 << 20
TELL_S = 0.1

Told = tuple[int, int]  # bytes hashed so far, bytes to hash


def take(source: Path, kept: Path) -> Generator[Told, None, list[Entry]]:
    """Yields how far it is, where there is much to hash; the list of the source's contents."""
    found = files_of(source)
    known = seen.load(kept, str(source))
    hashes = seen.still(known, found)
    fresh = [file for file in found if file.path not in hashes]
    if fresh:
        made = yield from _hash_all(fresh)
        hashes.update((path, one.sha256) for path, one in made.items())
        here = {file.path for file in found}
        seen.save(kept, str(source), {**{p: s for p, s in known.items() if p in here}, **made})
    return [(file.path, file.size_bytes, hashes[file.path]) for file in found]


def changed(source: Source, wanted: Iterable[Entry]) -> list[str]:
    """Which of these recorded files are not any more what they were; those that stat knows are not read."""
    known = seen.load(source.kept, source.origin)
    return [entry[0] for entry in wanted if not _same(source.path_of(entry[0]), entry, known.get(entry[0]))]


def _same(path: str, entry: Entry, last: Seen | None) -> bool:
    _, size, sha256 = entry
    try:
        now = identity(os.stat(path))
        if last and (last.identity, last.sha256) == (now, sha256):  # the machine hashes what arrives, too
            return True
        return now[0] == size and hashing.hash_file(os.path.realpath(path))[1] == sha256
    except (OSError, hashing.Changed):
        return False


class _Stopped(Exception):
    """Ctrl-C: a thread in the middle of a large file ends, too."""


@dataclass
class _Work:
    """Shared by the threads that hash."""

    done_bytes: int = 0
    made: dict[str, Seen] = field(default_factory=dict)
    stop: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, count: int) -> None:
        if self.stop:
            raise _Stopped
        with self.lock:
            self.done_bytes += count


def _hash_all(files: Sequence[Found]) -> Generator[Told, None, dict[str, Seen]]:
    from concurrent.futures import (
        FIRST_EXCEPTION,
        Future,
        ThreadPoolExecutor,
        wait,
    )  # not for jobs without data

    total, work = sum(file.size_bytes for file in files), _Work()
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        waiting: set[Future[None]] = {pool.submit(_hash_group, group, work) for group in _groups(files)}
        try:
            while waiting:
                ready, waiting = wait(waiting, TELL_S, FIRST_EXCEPTION)
                for one in ready:
                    one.result()
                if waiting:
                    yield work.done_bytes, total
        finally:
            work.stop = True
    return work.made


def _hash_group(files: Sequence[Found], work: _Work) -> None:
    for file in files:
        if work.stop:
            return
        work.made[file.path] = _hashed(file, work)


def _hashed(file: Found, work: _Work) -> Seen:
    began = time.time_ns()
    try:
        _, sha256 = hashing.hash_file(file.real, work.read)
        if identity(os.stat(file.real)) != file.identity:
            raise hashing.Changed(file.real)
    except hashing.Changed as error:
        hint = "wait until nothing writes to it"
        raise SpecError(f"{file.real} changed while it was hashed", hint) from error
    except OSError as error:
        raise SpecError(
            f"{file.real}: {(error.strerror or str(error)).lower()}", "make it readable, or move it away"
        ) from error
    return Seen(file.identity, sha256, began)


def _groups(files: Sequence[Found]) -> Iterator[list[Found]]:
    """Small files go to a thread together."""
    group: list[Found] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.size_bytes
        if len(group) >= GROUP_FILES or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
