"""Shows blocks of log.jsonl: the job's stdout on stdout, the rest on stderr; in order, and fast."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from launcher.render.sink import Sink

STDOUT = "stdout"


def show(block: bytes, out: Sink, err: Sink, raw: bool = False) -> None:
    """Write the texts of some log lines to their streams; `raw`: the job's very bytes."""
    for is_out, group in groupby(_records(block), key=lambda record: record["stream"] == STDOUT):
        sink, other = (out, err) if is_out else (err, out)
        if other.mid_line and other.terminal and sink.terminal and not raw:
            other.fresh()
        if raw:
            sink.bytes(b"".join(map(exact, group)))
        else:
            sink.text("".join([record["text"] for record in group]))


def exact(record: Mapping[str, Any]) -> bytes:
    """The bytes that the job wrote."""
    if "b64" in record:
        return base64.b64decode(record["b64"])
    text: str = record["text"]
    return text.encode("utf-8", "replace")


def _records(block: bytes) -> Sequence[Mapping[str, Any]] | Iterator[Mapping[str, Any]]:
    """The parsed lines; as one JSON list, which is three times as fast as line by line."""
    try:
        records: list[Mapping[str, Any]] = json.loads(b"[%s]" % block.rstrip(b"\n").replace(b"\n", b","))
    except ValueError:
        return _readable(block)
    return records


def _readable(block: bytes) -> Iterator[Mapping[str, Any]]:
    for line in block.split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        yield record
