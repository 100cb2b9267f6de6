"""One range of a file over HTTP: what came is checked against what was asked, and a cut is gone on from."""

from __future__ import annotations

import re
import time
from collections.abc import Generator

from launcher.errors import RemoteError, Unreachable
from launcher.target import Range
from launcher.targets.colab.runtime import PEER, Ask, RuntimeLine, good
from launcher.targets.colab.wire import AGAIN, BLOCK, DELAYS_S, Answer, Stream

NOTHING = (403, 404, 416)  # a folder; no file; nothing there yet
SMALLEST_BLOCK = 512
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class _Broken(Exception):
    """The answer ended early: go on from where it did."""


def read_range(line: RuntimeLine, path: str, part: Range) -> Generator[bytes, None, bool]:
    """The bytes that are there; returns whether the file is missing."""
    reading = _Reading(part)
    failures = 0
    while reading.left != 0:
        before = reading.offset
        try:
            with line.stream(Ask("GET", path, range=reading.header)) as stream:
                if stream.status in NOTHING:
                    return stream.status == 404
                yield from reading.blocks(stream)
            return False
        except (Unreachable, _Broken) as error:
            failures = 0 if reading.offset > before else failures + 1
            # a block that did not come whole is lost: where connections are short, blocks must be, too
            reading.block = max(SMALLEST_BLOCK, reading.block // 8) if failures else reading.block
            if failures > len(DELAYS_S):
                raise Unreachable(
                    f"{PEER} breaks off again and again", "check the network, then try again"
                ) from error
        if failures:
            line.must_live()
            time.sleep(DELAYS_S[failures - 1])
    return False


class _Reading:
    """How far a range has come."""

    def __init__(self, part: Range) -> None:
        self.offset = part.offset
        self.left = part.length
        self.block = BLOCK

    @property
    def header(self) -> str:
        end = "" if self.left is None else str(self.offset + self.left - 1)
        return f"bytes={self.offset}-{end}"

    def blocks(self, stream: Stream) -> Generator[bytes, None, None]:
        expected = self._expected(stream)
        for block in stream.blocks(self.block):
            if len(block) > expected:
                raise RemoteError(f"{PEER} sent more bytes than were asked for")
            expected -= len(block)
            self.offset += len(block)
            self.left = None if self.left is None else self.left - len(block)
            yield block
        if expected and stream.headers.get("Content-Length") is not None:
            raise _Broken

    def _expected(self, stream: Stream) -> int:
        """How many bytes come, at most; RemoteError when they are not those that were asked for."""
        most = 1 << 60 if self.left is None else self.left
        if stream.status in AGAIN:
            raise _Broken
        if stream.status == 206:
            found = CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self.offset or int(found[2]) - self.offset >= most:
                raise RemoteError(f"{PEER} sent another part of the file than was asked for")
            return int(found[2]) - self.offset + 1
        good(Answer(stream.status, stream.headers, b""), "reading a file")
        # the whole of a file that is not larger than what was asked for; a sign-in page is neither
        size = stream.headers.get("Content-Length", "")
        page = (
            stream.headers.get("Content-Type", "").startswith("text/html")
            and "Accept-Ranges" not in stream.headers
        )
        if self.offset or page or not size.isdigit() or int(size) > most:
            raise RemoteError(f"{PEER} did not send the part of the file that was asked for")
        return int(size)
