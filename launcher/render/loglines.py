"""Shows blocks of log.jsonl: the job's stdout on stdout, the rest on stderr; in order, and fast."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from launcher.render.sink import Sink

STDOUT = "stdout"
# As `records.log_line` writes it; quotes within the text are escaped, so this is nowhere else in a line.
_LINE = r'"stream":"(\w+)","text":"([^"\\]*(?:\\.[^"\\]*)*)"'


def show(block: bytes, out: Sink, err: Sink, raw: bool = False) -> None:
    """Write the texts of some log lines to their streams; `raw`: the job's very bytes."""
    if raw:
        for is_out, data in _exact(block, in_order=out.place == err.place):
            (out if is_out else err).bytes(data)
        return
    for is_out, text in _texts(block, in_order=out.place == err.place):
        sink, other = (out, err) if is_out else (err, out)
        if other.mid_line and other.terminal and sink.terminal:
            other.fresh()
        sink.text(text)


def _texts(block: bytes, in_order: bool) -> list[tuple[bool, str]]:
    """(is it stdout, text) of many lines together, which is far faster than line by line.

    `in_order`: both streams are shown in one place, so only neighbours may be taken together.
    """
    lines: list[tuple[str, str]] = re.findall(_LINE, block.decode("utf-8", "replace"))
    try:
        if len(lines) == block.count(b"\n"):
            return [(is_out, json.loads(f'"{text}"')) for is_out, text in _joined(lines, in_order)]
    except ValueError:
        pass
    # not as we write it: another version, or damaged
    return _joined([(record["stream"], record["text"]) for record in _records(block)], in_order)


def _joined(lines: list[tuple[str, str]], in_order: bool) -> list[tuple[bool, str]]:
    found = [(stream == STDOUT, text) for stream, text in lines]
    if not in_order:
        found.sort(key=itemgetter(0))
    return [(out, "".join(text for _, text in group)) for out, group in groupby(found, itemgetter(0))]


def _exact(block: bytes, in_order: bool) -> Iterator[tuple[bool, bytes]]:
    """(is it stdout, bytes) as the job wrote them."""
    if b',"b64":"' not in block:  # the texts are all UTF-8, so they are the bytes
        yield from ((is_out, text.encode("utf-8", "replace")) for is_out, text in _texts(block, in_order))
        return
    for record in _records(block):
        text = record["text"].encode("utf-8", "replace")
        yield record["stream"] == STDOUT, base64.b64decode(record["b64"]) if "b64" in record else text


def _records(block: bytes) -> Iterator[Mapping[str, Any]]:
    for line in block.split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "text" in record and "stream" in record:
            yield record
