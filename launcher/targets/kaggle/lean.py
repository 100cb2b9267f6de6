"""Large JSON without holding it whole: an array's items one by one, an object without one long text."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from launcher.errors import RemoteError

MOST_ITEM = 16 << 20
INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # of a text, up to its quote or a half escape
OUTSIDE = re.compile(rb'["{}\[\]]')
BETWEEN = re.compile(r"[\s,]*")
DECODER = json.JSONDecoder()
SILENCE = object()  # in place of an item: nothing came for a while


def items(pieces: Iterable[bytes | None], most: int = MOST_ITEM) -> Iterator[Any]:
    """The items of the one JSON array in `pieces`, as they arrive; SILENCE for None. RemoteError if it is none."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    text, started, enough = "", False, 0
    for piece in pieces:
        if piece is None:
            yield SILENCE
            continue
        text += decode(piece)
        if len(text) < enough:  # an item that was not whole yet is tried again when twice as much is there
            continue
        if not started:
            text, started = _opened(text)
        done = 0
        while started and (found := _item(text, done)) is not None:
            item, done = found
            yield item
        text = text[done:]
        enough = 2 * len(text)
        if len(text) > most:
            raise RemoteError("Kaggle's log is no list of events, or one of them has no end")
    yield from _rest(text, started)


def without(pieces: Iterable[bytes], key: str) -> Iterator[bytes]:
    """The JSON object in `pieces`, with "" as the text that its own `key` has."""
    return Skip(key.encode()).run(pieces)


def capped(pieces: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """The same, as long as it is not too much."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most_bytes:
            raise RemoteError(f"Kaggle sent more than {most_bytes >> 20} MiB where less was due")
        yield piece


class Skip:
    """Where in the object a reader is: how deep, inside a text or not, behind which name."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._depth = 0
        self._inside = self._skipping = False
        self._name = self._between = b""

    def run(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        half = b""
        for piece in pieces:
            data, at = half + piece, 0
            half = b""
            while at < len(data) and not half:
                kept, at, half = self._text(data, at) if self._inside else self._structure(data, at)
                yield kept
        yield half

    def _text(self, data: bytes, at: int) -> tuple[bytes, int, bytes]:
        """What to keep of a text, where to go on, and half an escape to see again with what follows."""
        found = INSIDE.match(data, at)
        end = found.end() if found else at
        kept = b"" if self._skipping else data[at:end]
        if self._depth == 1 and len(self._name) <= len(self._key):
            self._name += data[at : min(end, at + len(self._key) + 1)]
        if end == len(data):
            return kept, end, b""
        if data[end : end + 1] != b'"':
            return kept, end, data[end:]
        self._inside = self._skipping = False
        self._between = b""
        return kept + b'"', end + 1, b""

    def _structure(self, data: bytes, at: int) -> tuple[bytes, int, bytes]:
        found = OUTSIDE.search(data, at)
        end = found.start() if found else len(data)
        self._between = (self._between + data[at:end][:64]).strip()[:8]
        if not found:
            return data[at:end], end, b""
        sign = found[0]
        if sign == b'"':
            self._skipping = self._between == b":" and self._name == self._key
            self._inside, self._name = True, b""
        else:
            self._depth += 1 if sign in b"{[" else -1
            self._name = self._between = b""
        return data[at : end + 1], end + 1, b""


def _opened(text: str) -> tuple[str, bool]:
    """The text behind the array's bracket, once it is there."""
    text = text.lstrip()
    if text and text[0] != "[":
        raise RemoteError("Kaggle's log is no list of events")
    return text[1:], bool(text)


def _item(text: str, at: int) -> tuple[Any, int] | None:
    """The item at a place and where it ends; None when it is not whole yet."""
    found = BETWEEN.match(text, at)
    start = found.end() if found else at
    try:
        item, end = DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return (item, end) if end < len(text) else None  # a number may go on


def _rest(text: str, started: bool) -> Iterator[Any]:
    """What is left when no more comes; a list whose bracket is missing has all its items nevertheless."""
    done, text = 0, text + " "
    while started and (found := _item(text, done)) is not None:
        item, done = found
        yield item
    if text[done:].strip(" \t\r\n,") not in ("]", ""):
        raise RemoteError("Kaggle's log ends in the middle of an event")
