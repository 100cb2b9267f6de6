"""A session's log over one connection: live as server-sent events, or the finished list of the same events."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import requests

from launcher.errors import RemoteError, Unreachable
from launcher.targets.kaggle import lean
from launcher.targets.kaggle.values import LogEvent
from launcher.targets.kaggle.wire import chunks

HEARTBEAT_S = 4.0
SILENCE_S = 300.0  # Kaggle's own side cuts idle streams after about 3 min
MOST_LINE_BYTES = 16 << 20
AHEAD = 64  # pieces that are read before they are asked for
END = "END_OF_LOG"
THREAD = "kaggle-log"


def log_events(
    open_log: Callable[[], requests.Response], heartbeat_s: float = HEARTBEAT_S
) -> Iterator[LogEvent | None]:
    """The events from the log's start, None whenever nothing came for so long. Unreachable at a cut."""
    with contextlib.closing(Pump(open_log)) as pump:
        live = None
        while live is None:
            live = pump.live(heartbeat_s)
            if live is None:
                yield None
        pieces = pump.pieces(heartbeat_s)
        yield from _live(pieces) if live else _finished(pieces)


def _live(pieces: Iterable[bytes | None]) -> Iterator[LogEvent | None]:
    index = 0
    for line in _lines(pieces):
        if line is None:
            yield None
        elif line.startswith(b"data:"):
            payload = line[len(b"data:") :].strip().decode("utf-8", "replace")
            if payload == END:
                return
            yield _event(index, _parsed(payload))
            index += 1
    raise Unreachable("Kaggle's log stream was cut", "it goes on from where it was")


def _finished(pieces: Iterable[bytes | None]) -> Iterator[LogEvent | None]:
    index = 0
    for item in lean.items(pieces):
        if item is lean.SILENCE:
            yield None
        else:
            yield _event(index, item)
            index += 1


def _lines(pieces: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """Whole lines; what a cut left of the last one is none."""
    begun = bytearray()
    for piece in pieces:
        if piece is None:
            yield None
            continue
        first, *others = piece.split(b"\n")
        begun += first
        for other in others:
            yield bytes(begun).rstrip(b"\r")
            begun = bytearray(other)
        if len(begun) > MOST_LINE_BYTES:
            raise RemoteError(f"Kaggle's log has a line of more than {MOST_LINE_BYTES >> 20} MiB")


def _parsed(payload: str) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload


def _event(index: int, item: Any) -> LogEvent:
    """Whatever it is counts, so that the same event has the same number in each replay."""
    if not isinstance(item, dict):
        return LogEvent(index, "", item if isinstance(item, str) else "")
    stream, text = item.get("stream_name"), item.get("data")
    return LogEvent(index, stream if isinstance(stream, str) else "", text if isinstance(text, str) else "")


class Pump:
    """Reads an answer in a thread: only so can silence be told from the end."""

    def __init__(self, open_log: Callable[[], requests.Response]) -> None:
        self._open = open_log
        self._queue: queue.Queue[Any] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._answer: requests.Response | None = None
        threading.Thread(target=self._run, name=THREAD, daemon=True).start()

    def live(self, patience_s: float) -> bool | None:
        """Whether these are server-sent events; None when there is no answer yet."""
        said: bool | None = self._next(patience_s)
        return said

    def pieces(self, patience_s: float) -> Iterator[bytes | None]:
        """The body; None at silence."""
        while True:
            piece = self._next(patience_s)
            if piece == b"":
                return
            yield piece

    def close(self) -> None:
        """The thread wakes and ends; what it holds is dropped."""
        self._closed.set()
        if self._answer is not None:
            with contextlib.suppress(Exception):  # it may be closing itself at this moment
                self._answer.raw.shutdown()

    def _next(self, patience_s: float) -> Any:
        try:
            said = self._queue.get(timeout=patience_s)
        except queue.Empty:
            return None
        if isinstance(said, BaseException):
            raise said
        return said

    def _run(self) -> None:
        try:
            with self._open() as answer:
                self._answer = answer
                kind = answer.headers.get("Content-Type", "").lower()
                self._put(kind.startswith("text/event-stream"))
                for piece in chunks(answer):
                    self._put(piece)
            self._put(b"")
        except _Over:
            pass
        except BaseException as error:
            with contextlib.suppress(_Over):
                self._put(error)

    def _put(self, said: Any) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(said, timeout=0.5)
            except queue.Full:
                continue
        raise _Over


class _Over(Exception):
    """Nobody reads any more."""
