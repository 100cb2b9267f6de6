"""Transfers as events: how far one is, work in a thread as a generator, what travels together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from launcher.events import Event, Progress
from launcher.run import Artifact

BATCH = 1000
REPORT_S = 0.25

Emit = Callable[[Event], Any]


class Meter:
    """Says how far a transfer is, a few times a second."""

    def __init__(self, total_bytes: int, name: str, emit: Emit) -> None:
        self._total, self._name, self._emit = total_bytes, name, emit
        self._done, self._said = 0, 0.0

    def counted(self, chunks: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        for index, data in chunks:
            self._done += len(data)
            if time.monotonic() - self._said > REPORT_S:
                self._said = time.monotonic()
                self._emit(Progress("pull", self._name, self._done, self._total))
            yield index, data

    def done(self) -> None:
        self._emit(Progress("pull", self._name, self._total, self._total, finished=True))


def working(work: Callable[[Emit], None]) -> Iterator[Event]:
    """Run `work` in a thread and yield what it emits."""
    inbox: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        try:
            work(inbox.put)
            inbox.put(None)
        except BaseException as e:
            inbox.put(e)

    threading.Thread(target=run, daemon=True).start()
    while (item := inbox.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


def batches(artifacts: Sequence[Artifact]) -> Iterator[list[Artifact]]:
    """Each checkpoint alone (it counts as soon as it is home), outputs many at a time."""
    outputs = [a for a in artifacts if a.kind != "checkpoint"]
    yield from ([a] for a in artifacts if a.kind == "checkpoint")
    for start in range(0, len(outputs), BATCH):
        yield outputs[start : start + BATCH]
