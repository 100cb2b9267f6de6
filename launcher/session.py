"""Brings a segment's folder home while it lives: log, metrics, checkpoints, then outputs; over any Folder.

Nothing that the folder says is believed: lines are checked by `Home`, files by the hash that the manifest gave
before they get their name, and the end by the exit record's hashes of log and manifest.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import published
from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError, RemoteError
from launcher.events import ArtifactHome, Event, LogLines, Notice, Progress
from launcher.run import Artifact, Segment
from launcher.target import Folder, Range
from launcher.transfer import Emit, Meter, batches, working

if TYPE_CHECKING:
    from launcher.vault import Home

METRICS = f"{records.OUT}/{records.METRICS}"
MAX_LOG_LINE_BYTES = 1 << 20
MAX_SAID_BYTES = 4096


class Heard:
    """The place answers, and has nothing new to say."""


@dataclass
class Session:
    """One connection's worth of bringing a segment home. `exit` is set once the end is proven and all is home."""

    folder: Folder
    home: Home
    segment: Segment
    exit: published.ExitRecord | None = None
    ended: bool = False  # no agent lives there any more, with or without an exit record
    _lines: dict[str, bytes] = field(default_factory=dict)
    _manifest: Any = field(default_factory=hashlib.sha256)
    _manifest_bytes: int = 0
    _published: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    _unfit: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> Iterator[Event | Heard]:
        """Until the segment ends: events as they happen. Closing the generator detaches; nothing is lost."""
        inbox: queue.Queue[Any] = queue.Queue(maxsize=8)
        reader = threading.Thread(target=self._read_into, args=(inbox,), daemon=True)
        puller = _Puller(self, inbox)
        reader.start()
        puller.start()
        try:
            yield from self._sort(inbox, puller)
        finally:
            self._stop.set()
            puller.close()
        yield from self.finish()

    def catch_up(self) -> Iterator[Event]:
        """What is there now, without waiting for more."""
        ended = self._exit_record()  # first: what ends while the rest is read would not match it
        offsets = self._offsets()
        chunks = self.folder.read([Range(path, offset) for path, offset in offsets.items()])
        for index, data in chunks:
            yield from self._take(list(offsets)[index], data)
        yield from working(lambda emit: self._bring(self.wanted(), emit))
        if ended:
            yield from self._settle(ended)

    def fingerprint(self) -> dict[str, Any] | None:
        """What the environment really was, once the agent has written it; its own digest is checked."""
        data = b"".join(chunk for _, chunk in self.folder.read([Range(records.FINGERPRINT, 0, 8 << 20)]))
        return published.fingerprint(data) if data else None

    def wanted(self) -> list[Artifact]:
        """Checkpoints that are published, kept by `keep` and not home, in the order of publication."""
        waiting = [
            a for a in self._published.values() if a.kind == "checkpoint" and a.digest not in self._unfit
        ]
        return list(self.home.missing(self.segment.number, sorted(waiting, key=lambda a: a.number)))

    def finish(self) -> Iterator[Event]:
        """If there is an exit record: check it against what is home, then bring the outputs."""
        if data := self._exit_record():
            yield from self._settle(data)

    def _exit_record(self) -> bytes:
        wanted = Range(records.EXIT, 0, published.MAX_EXIT_BYTES + 1)
        return b"".join(chunk for _, chunk in self.folder.read([wanted]))

    def _settle(self, data: bytes) -> Iterator[Event]:
        record = published.exit_record(data, self.segment.run_id, self.segment.number)
        self._check(record)
        outputs = sorted((a for a in self._published.values() if a.kind == "output"), key=lambda a: a.number)
        wanted = [*self.wanted(), *self.home.missing(self.segment.number, outputs)]
        yield from working(lambda emit: self._bring(wanted, emit, last_chance=True))
        self.exit = record
        self.ended = True

    def _offsets(self) -> dict[str, int]:
        self._lines.clear()
        self._manifest, self._manifest_bytes = hashlib.sha256(), 0
        number = self.segment.number
        return {
            records.LOG: self.home.position(number),
            records.MANIFEST: 0,
            METRICS: self.home.metrics_position(number),
        }

    def _read_into(self, inbox: queue.Queue[Any]) -> None:
        try:
            for item in self.folder.follow(self._offsets()):
                if not self._put(inbox, item):
                    return
            self._put(inbox, None)
        except BaseException as e:
            self._put(inbox, e)

    def _put(self, inbox: queue.Queue[Any], item: Any) -> bool:
        while not self._stop.is_set():
            try:
                inbox.put(item, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def _sort(self, inbox: queue.Queue[Any], puller: _Puller) -> Iterator[Event | Heard]:
        while (item := inbox.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, tuple):
                yield item
                continue
            path, data = item
            yield from self._take(path, data) if path else [Heard()]
            if path == records.MANIFEST:
                puller.wake(self.wanted())
        self.ended = True
        while puller.busy() or not inbox.empty():
            try:
                item = inbox.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, tuple):
                yield item

    def _take(self, path: str, data: bytes) -> Iterator[Event]:
        if path == records.SAID:
            yield from self._said(data)
            return
        limit = published.MAX_LINE_BYTES if path == records.MANIFEST else MAX_LOG_LINE_BYTES
        whole, rest = _whole_lines(self._lines.get(path, b""), data)
        if len(rest) > limit:
            raise IntegrityError(f"{path} has a line of more than {limit >> 10} KiB", "is this server yours?")
        self._lines[path] = rest
        if path == records.MANIFEST:
            self._note(whole)
        elif whole and path == records.LOG:
            self.home.append_log(whole, self.segment.number)
            yield LogLines(whole)
        elif whole and path == METRICS:
            self.home.append_metrics(whole, self.segment.number)

    def _said(self, data: bytes) -> Iterator[Event]:
        """What the place says of its own work before the agent's: the last line is how far it is."""
        whole, rest = _whole_lines(self._lines.get(records.SAID, b""), data)
        self._lines[records.SAID] = rest[-MAX_SAID_BYTES:]
        lines = whole[-MAX_SAID_BYTES:].decode("utf-8", "replace").split("\n")
        if line := next((text for text in map(str.strip, reversed(lines)) if text), ""):
            yield Progress("place", line)

    def _note(self, lines: bytes) -> None:
        self._manifest.update(lines)
        self._manifest_bytes += len(lines)
        for line in lines.split(b"\n"):
            artifact = published.artifact(line) if line else None
            if artifact:
                self._published[artifact.kind, artifact.name] = artifact
                if len(self._published) > published.MAX_FILES:
                    raise IntegrityError("the manifest names more files than any job writes")

    def _bring(self, artifacts: Sequence[Artifact], emit: Emit, last_chance: bool = False) -> None:
        """Publish at home. A checkpoint that was replaced meanwhile is no error while its job may write on."""
        for batch in batches(artifacts):
            meter = Meter(sum(a.size_bytes for a in batch), batch[0].name, emit)

            def reader(
                wanted: Sequence[tuple[str, int]], meter: Meter = meter
            ) -> Iterator[tuple[int, bytes]]:
                ranges = [Range(f"{records.OUT}/{path}", offset) for path, offset in wanted]
                return meter.counted(self.folder.read(ranges))

            try:
                paths = self.home.publish_all(batch, reader, self.segment.number)
            except (IntegrityError, RemoteError) as e:
                self._unfit.update(a.digest for a in batch)
                if batch[0].kind != "checkpoint" or (last_chance and not _gone(e)):
                    raise
                emit(
                    Notice(
                        f"checkpoint {batch[0].name} was replaced or deleted before it was home", "warning"
                    )
                )
                continue
            meter.done()
            for artifact, path in zip(batch, paths, strict=True):
                emit(self._arrived(artifact, path))

    def _arrived(self, artifact: Artifact, path: Path) -> ArtifactHome:
        return ArtifactHome(
            self.segment.run_id,
            artifact.kind,
            artifact.name,
            str(path),
            artifact.size_bytes,
            artifact.digest,
            self.segment.number,
        )

    def _check(self, record: published.ExitRecord) -> None:
        if (self._manifest_bytes, self._manifest.hexdigest()) != (
            record.manifest_size,
            record.manifest_sha256,
        ):
            raise IntegrityError("the manifest is not the one that the exit record names")
        size, sha256 = self.home.segment_digest(self.segment.number)
        if (size, sha256) != (record.log_size, record.log_sha256):
            raise IntegrityError(
                f"the log at home ({size} bytes) is not the one that the exit record names ({record.log_size} bytes)",
                f"look at {self.home.path}; the server may have changed its log",
            )


class _Puller:
    """One thread that brings checkpoints while the log goes on."""

    def __init__(self, session: Session, inbox: queue.Queue[Any]) -> None:
        self._session, self._inbox = session, inbox
        self._todo: queue.Queue[list[Artifact] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.start: Callable[[], None] = self._thread.start

    def wake(self, wanted: list[Artifact]) -> None:
        self._todo.put(wanted)

    def busy(self) -> bool:
        return bool(self._todo.unfinished_tasks)

    def close(self) -> None:
        self._todo.put(None)

    def _work(self) -> None:
        while (wanted := self._todo.get()) is not None:
            try:
                self._bring(wanted)
            finally:
                self._session._put(self._inbox, Progress("pull", "", finished=True))
                self._todo.task_done()

    def _bring(self, wanted: list[Artifact]) -> None:
        try:
            still = {a.digest for a in self._session.wanted()}
            for artifact in wanted:
                if artifact.digest in still and self._todo.empty() and not self._session._stop.is_set():
                    self._session._bring([artifact], lambda event: self._session._put(self._inbox, event))
        except LauncherError as e:
            self._session._put(self._inbox, e)


def _whole_lines(before: bytes, data: bytes) -> tuple[bytes, bytes]:
    cut = data.rfind(b"\n") + 1
    if not cut:
        return b"", before + data
    return before + data[:cut], data[cut:]


def _gone(error: LauncherError) -> bool:
    return isinstance(error, RemoteError) or "is not the announced" in error.message
