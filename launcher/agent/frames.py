"""Frames of the steward's protocol: one line of JSON, then the bytes that it announces.

A header is at most 1 MiB, a payload too. A value that would make a longer header travels ahead of it in
`part` frames and is joined again on the other side. Flow is bounded per request and direction: who sends may
have `WINDOW` bytes unread at the other end (a frame counts as its payload and `FRAME_COST`), which gives back
what it has read ({"id":7,"window":N}). So one slow reader never holds up the others on the same connection,
and nobody's memory grows.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # as typing's, whose import would be a fifth of the steward's start
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    Header = Dict[str, Any]
else:
    Header = dict

MAX_HEADER = 1 << 20
MAX_PAYLOAD = 1 << 20
MAX_JOINED = 64 << 20
WINDOW = 32 << 20
FRAME_COST = 512
BEAT_S = 5.0
PATIENCE_S = 60.0  # of the steward with its client, which beats more often
PART = 512 << 10


class BadFrame(ValueError):
    """The other side does not speak this protocol."""


def encode(header: Header, payload: bytes = b"") -> List[bytes]:
    """The buffers to write, in order, for one frame."""
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    frames: List[bytes] = []
    if len(text) > PART:
        for at in range(0, len(text), PART):
            piece = text[at : at + PART]
            frames += [b'{"id":%d,"part":true,"n":%d}\n' % (header["id"], len(piece)), piece]
        text = b'{"id":%d,"joined":true}' % header["id"]
    if payload:
        text = text[:-1] + b',"n":%d}' % len(payload)
    frames.append(text + b"\n")
    if payload:
        frames.append(payload)
    return frames


class Reader:
    """Takes frames out of a stream of bytes; trusts nothing that it reads."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        """`read(size, least)` gives up to `size` bytes; it may wait until it has `least`."""
        self._read = read
        self._buffer = b""
        self._at = 0
        self._parts: Dict[int, List[bytes]] = {}
        self._parts_bytes = 0

    def next(self) -> Optional[Tuple[Header, bytes]]:
        """The next whole frame; None where the stream ends between two frames."""
        while True:
            text = self._line()
            if text is None:
                return None
            header = _parse(text)
            payload = self._exactly(header.get("n", 0))
            if header.get("part") is True:
                self._keep(header["id"], payload)
                continue
            if header.get("joined") is True:
                header = self._join(header)
            return header, payload

    def _keep(self, number: int, piece: bytes) -> None:
        self._parts_bytes += len(piece)
        if self._parts_bytes > MAX_JOINED:
            raise BadFrame("a value of more than %d bytes" % MAX_JOINED)
        self._parts.setdefault(number, []).append(piece)

    def _join(self, header: Header) -> Header:
        text = b"".join(self._parts.pop(header["id"], ()))
        self._parts_bytes -= len(text)
        whole = _parse(text)
        if whole["id"] != header["id"]:
            raise BadFrame("parts of another request")
        return whole

    def _line(self) -> Optional[bytes]:
        pieces: List[bytes] = []
        size = 0
        while True:
            end = self._buffer.find(b"\n", self._at)
            stop = len(self._buffer) if end < 0 else end
            pieces.append(self._buffer[self._at : stop])
            size += stop - self._at
            if size > MAX_HEADER:
                raise BadFrame("a header of more than %d bytes" % MAX_HEADER)
            if end >= 0:
                self._at = end + 1
                return b"".join(pieces)
            if not self._more(1):
                if size:
                    raise EOFError("the stream ended inside a frame")
                return None

    def _exactly(self, size: Any) -> bytes:
        if type(size) is not int or not 0 <= size <= MAX_PAYLOAD:
            raise BadFrame("a payload of %.40r bytes" % (size,))
        here = self._buffer[self._at : self._at + size]
        self._at += len(here)
        if len(here) == size:
            return here
        pieces, missing = [here], size - len(here)
        while missing:
            if not self._more(missing):
                raise EOFError("the stream ended inside a frame")
            piece = self._buffer if len(self._buffer) <= missing else self._buffer[:missing]
            self._at = len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _more(self, least: int) -> bool:
        self._buffer = self._read(MAX_PAYLOAD, least)
        self._at = 0
        return bool(self._buffer)


def _parse(text: bytes) -> Header:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise BadFrame("no JSON where a header should be: %.60r" % text) from None
    if type(header) is not dict or type(header.get("id")) is not int:
        raise BadFrame("a header without an id: %.60r" % text)
    return header
