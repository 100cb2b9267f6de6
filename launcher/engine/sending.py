"""Sends a file while the caller goes on saying how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import IO, TypeVar

from launcher.events import Progress

CHUNK_BYTES = 1 << 20
REPORT_S = 0.25

Answer = TypeVar("Answer")


class Upload:
    """A file from where it stands to its end; `at` is how far its reader is."""

    def __init__(self, file: IO[bytes]) -> None:
        self.at = file.tell()
        self.stopped = False
        self._file = file

    def chunks(self) -> Iterator[bytes]:
        while not self.stopped and (piece := self._file.read(CHUNK_BYTES)):
            yield piece
            self.at += len(piece)


def sending(
    upload: Upload, work: Callable[[], Answer], shown: Callable[[int], Progress]
) -> Generator[Progress, None, Answer]:
    """Does `work`, which reads the upload, in a thread; returns or raises what it did."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # raised again where the caller is
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(REPORT_S)
            yield shown(upload.at)
    finally:
        upload.stopped = True
    if errors:
        raise errors[0]
    return answers[0]
