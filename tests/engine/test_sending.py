"""A file is sent in the background and one sees how far it is."""

from __future__ import annotations

import io
import threading

import pytest

from launcher.engine.sending import CHUNK_BYTES, Upload, sending
from launcher.events import Progress


def shown(at: int) -> Progress:
    return Progress("send", "", at, 3 * CHUNK_BYTES)


def test_how_far_it_is_is_said_while_the_other_side_reads() -> None:
    upload, go = Upload(io.BytesIO(bytes(3 * CHUNK_BYTES))), threading.Semaphore(0)

    def read() -> int:
        return sum(len(piece) for piece in upload.chunks() if go.acquire())

    work, said, answer = sending(upload, read, shown), set(), 0
    while True:
        try:
            said.add(next(work).done_bytes)
        except StopIteration as end:
            answer = end.value
            break
        go.release()
    assert said == {0, CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES}
    assert answer == 3 * CHUNK_BYTES


def test_it_goes_on_from_where_the_file_stands() -> None:
    file = io.BytesIO(bytes(10))
    file.seek(4)
    upload = Upload(file)
    assert (upload.at, b"".join(upload.chunks())) == (4, bytes(6))


def test_the_senders_error_is_raised_where_the_caller_is() -> None:
    def fail() -> None:
        raise OSError("cut")

    with pytest.raises(OSError, match="cut"):
        list(sending(Upload(io.BytesIO()), fail, shown))


def test_nothing_more_is_read_once_the_caller_has_gone() -> None:
    upload, go, read = Upload(io.BytesIO(bytes(3 * CHUNK_BYTES))), threading.Event(), []

    def work() -> None:
        for piece in upload.chunks():
            go.wait()
            read.append(len(piece))

    steps = sending(upload, work, shown)
    next(steps)
    steps.close()
    go.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(1)
    assert len(read) == 1
