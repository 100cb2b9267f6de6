"""The home folder of a run: the only place that its results are believed in. One process at a time writes it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.run import Artifact, File
from launcher.vault import disk, keep, log
from launcher.vault.disk import HIDDEN
from launcher.vault.index import HomeArtifact, Index
from launcher.vault.keep import Keep
from launcher.vault.names import CAPSULE
from launcher.vault.receive import Reader
from launcher.vault.writer import Writer, lock, make

LEAST_ROOM_BYTES = 1 << 20

# Asked for a path in $LAUNCHER_OUT and its first byte, yields the bytes from there on.
Opener = Callable[[str, int], Iterable[bytes]]


class Home:
    """A run's folder. Anyone may read; `try_lock` or `writer` come before anything that writes.

    `keep`: which checkpoints stay, "all" or how many of the newest (`best` and `best.*` always do).
    """

    def __init__(self, path: str | Path, keep: Keep = "all") -> None:
        self.path = Path(path).absolute()
        self.keep = keep
        self._writer: Writer | None = None
        self._depth = 0
        self._index = Index(self.path)
        self._reading = threading.Lock()
        self._publishing = threading.Lock()

    @classmethod
    def create(cls, path: str | Path, keep: Keep = "all") -> Home:
        """A new run's folder, on a disk with some room: what is started into a full one cannot come home."""
        home = cls(path, keep)
        disk.check_room(home.path, LEAST_ROOM_BYTES)
        make(home.path)
        return home

    # one writer

    @contextlib.contextmanager
    def writer(self) -> Iterator[Home]:
        """Hold the lock, waiting for whoever has it."""
        self._lock(wait=True)
        try:
            yield self
        finally:
            self.unlock()

    def try_lock(self) -> bool:
        """Hold the lock from now on, if nobody else does."""
        return self._lock(wait=False)

    def unlock(self) -> None:
        """Everything written is on the disk when this returns. No error when the lock is not held."""
        self._depth = max(0, self._depth - 1)
        if self._writer and not self._depth:
            held, self._writer = self._writer, None
            held.close()

    # the log

    @property
    def log_path(self) -> Path:
        return self.path / records.LOG

    @property
    def last_seq(self) -> int:
        return self._writer.log.last_seq if self._writer else log.last_seq(self.log_path)

    def append_log(self, raw: bytes, segment: int) -> int:
        """Take the complete lines of `raw`, each checked; returns how many bytes they were.

        IntegrityError for a line that is not the next of this segment. Lines of a closed segment go to
        late.<k>.jsonl.
        """
        return self._held().log.append(raw, segment)

    def position(self, segment: int) -> int:
        """How many bytes of this segment's own log.jsonl are home."""
        return self._held().log.position(segment)

    def segment_digest(self, segment: int) -> tuple[int, str]:
        """Bytes and SHA-256 of what is home of this segment's log, late lines included."""
        return self._held().log.digest(segment)

    def close_segments(self, below: int) -> int:
        """A segment `below` begins: home takes nothing more from older ones. Returns the size of the log."""
        with self._publishing:
            return self._held().close_segments(below)

    def tail(self, position: int) -> tuple[int, bytes]:
        """For onlookers: the new position and the complete lines of log.jsonl from `position` on."""
        return log.tail(self.log_path, position)

    def times(self, segment: int) -> tuple[str | None, str | None]:
        """When the first and the last line that is home of a segment were written; None for none."""
        return log.times(self.log_path, segment)

    # metrics

    def append_metrics(self, raw: bytes, segment: int) -> int:
        """Take the complete lines of `raw`; metrics.jsonl joins those of all segments."""
        held = self._held()
        return len(raw) if segment < held.log.closed else held.metrics.append(raw, segment)

    def metrics_position(self, segment: int) -> int:
        return self._held().metrics.position(segment)

    def sync(self) -> None:
        """Put what was appended on the disk now; it gets there within a second anyway."""
        self._held().sync()

    # artifacts

    def missing(self, segment: int, artifacts: Sequence[Artifact]) -> list[Artifact]:
        """Of what this segment published, what should come home, in the order of publication."""
        with self._reading:
            index = self._index.load()
            if segment < index.closed:
                return []
            keys = {a.key for a in index.ever() if a.kind == "checkpoint"} | {
                (a.kind, a.name) for a in artifacts
            }
            known = {key: order for key in keys if (order := index.known(key)) >= (0, 0)}
        return keep.missing(artifacts, segment, known, self.keep)

    def publish(self, artifact: Artifact, opener: Opener, segment: int) -> Path:
        """Bring one artifact home; returns its path there. Nothing appears that was not verified."""

        def reader(wanted: Sequence[tuple[str, int]]) -> Iterator[tuple[int, bytes]]:
            for index, (path, offset) in enumerate(wanted):
                for block in opener(path, offset):
                    yield index, block

        return self.publish_all([artifact], reader, segment)[0]

    def publish_all(self, artifacts: Sequence[Artifact], reader: Reader, segment: int) -> list[Path]:
        """Bring several home with one question for all their files: much faster where they are many and small."""
        with self._publishing:
            held = self._held()
            held.publisher.publish(artifacts, segment, reader)
            return [held.publisher.path_of(artifact) for artifact in artifacts]

    def partial_size(self, file: File) -> int:
        """How many bytes of a file are here from an earlier try."""
        return self._held().inbox.size(file)

    def checkpoints(self) -> list[HomeArtifact]:
        """In the order of publication; only what stands as it came."""
        return self._artifacts("checkpoint")

    def checkpoint(self, name: str) -> HomeArtifact | None:
        with self._reading:
            return self._index.load().standing(("checkpoint", name))

    def newest_checkpoint(self) -> HomeArtifact | None:
        """What `last` and a resume mean: never `best`."""
        return next((a for a in reversed(self.checkpoints()) if not a.best), None)

    def best_checkpoint(self) -> HomeArtifact | None:
        return next((a for a in reversed(self.checkpoints()) if a.best), None)

    def outputs(self) -> dict[str, HomeArtifact]:
        return {artifact.name: artifact for artifact in self._artifacts("output")}

    def names(self) -> dict[str, str]:
        """Path at home -> path in $LAUNCHER_OUT, of what could not keep its name."""
        with self._reading:
            files = [file for artifact in self._index.load().ever() for file in artifact.files]
        return {file.at: file.path for file in files if file.at != file.path}

    # the capsule

    def write_capsule(self, capsule: Mapping[str, Any]) -> None:
        """Replace capsule.json whole; `names` in it tells which files have another name here. Needs no lock."""
        make(self.path)
        data = json.dumps({**capsule, "names": self.names()}, indent=1, ensure_ascii=False).encode() + b"\n"
        with disk.trouble(self.path / CAPSULE):
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with disk.folder(root, (HIDDEN,)) as hidden:
                    disk.write_file(root, CAPSULE, data, hidden)
            finally:
                os.close(root)

    def capsule(self) -> dict[str, Any] | None:
        """What was written last; None when there is none."""
        try:
            found = json.loads((self.path / CAPSULE).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    # inside

    def _lock(self, wait: bool) -> bool:
        if self._writer is None:
            self._writer = lock(self.path, wait)
            if self._writer:
                self._writer.keep(self.keep)
        self._depth += self._writer is not None
        return self._writer is not None

    def _held(self) -> Writer:
        if self._writer is None:
            raise RuntimeError("a run's home is written only under its lock")
        return self._writer

    def _artifacts(self, kind: str) -> list[HomeArtifact]:
        with self._reading:
            return self._index.load().artifacts(kind)
