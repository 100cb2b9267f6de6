"""Several streams read at once and given in their order: small files cost a round trip each, and there are many."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

AT_ONCE = 6
PIECES = 16  # of one stream that wait to be taken
LOOK_S = 0.2

Open = Callable[[], Iterator[bytes]]


def in_order(streams: Sequence[Open]) -> Iterator[tuple[int, bytes]]:
    """(index, bytes) of the first stream, then of the second …; the next few are read meanwhile."""
    stop = threading.Event()
    begun: dict[int, queue.Queue[Any]] = {}
    try:
        for index in range(len(streams)):
            for ahead in range(index, min(index + AT_ONCE, len(streams))):
                if ahead not in begun:
                    begun[ahead] = _begin(streams[ahead], stop)
            while (piece := begun[index].get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield index, piece
            del begun[index]
    finally:
        stop.set()


def _begin(stream: Open, stop: threading.Event) -> queue.Queue[Any]:
    pieces: queue.Queue[Any] = queue.Queue(PIECES)

    def put(piece: Any) -> bool:
        while not stop.is_set():
            try:
                pieces.put(piece, timeout=LOOK_S)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for piece in stream():
                if not put(piece):
                    return
            put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=work, name="kaggle-output", daemon=True).start()
    return pieces
