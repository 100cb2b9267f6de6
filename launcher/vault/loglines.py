"""What a log line must be: well formed, of its segment, the next number. Fast for lines as we write them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher.agent import records
from launcher.errors import IntegrityError

# 64 KiB of control characters become 384 KiB of \u00XX in `text`; bytes that are not UTF-8 come in `b64` too.
MAX_LINE_BYTES = 512 << 10
KEYS = ("v", "seq", "time", "segment", "rank", "stream", "text")
STREAMS = ("stdout", "stderr", "launcher")
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
HEAD = re.compile(rb'\{"v":1,"seq":([1-9][0-9]*),"time":"[^"]*","segment":([0-9]+),')
TOO_LONG = f"a line of more than {MAX_LINE_BYTES >> 10} KiB"


@dataclass(frozen=True)
class Checked:
    """How far a block is good: its first `size` bytes are `count` lines; `wrong` says why not further."""

    size: int
    count: int
    wrong: str = ""


def check(raw: bytes, segment: int, first_seq: int) -> Checked:
    """Check the complete lines of `raw`: of this segment, numbered from `first_seq` without a gap."""
    size = count = 0
    for piece in _pieces(raw):
        if len(piece) > MAX_LINE_BYTES:
            return Checked(size, count, TOO_LONG)
        lines = _check_fast(piece, segment, first_seq + count)
        if not lines:
            slow = _check_slow(piece, segment, first_seq + count)
            if slow.wrong:
                return Checked(size + slow.size, count + slow.count, slow.wrong)
            lines = slow.count
        size, count = size + len(piece), count + lines
    return Checked(size, count, TOO_LONG if len(raw) - size > MAX_LINE_BYTES else "")


def numbers(line: bytes) -> tuple[int, int]:
    """(seq, segment) of a line that is already home. IntegrityError if it is none."""
    if line.endswith(b"}\n") and (match := HEAD.match(line)):
        return int(match[1]), int(match[2])
    record = _parsed(line)
    return int(record["seq"]), int(record["segment"])


def _pieces(raw: bytes) -> Iterator[bytes]:
    """Complete lines in pieces no larger than a line may be, so that no line in them is too long."""
    start, end = 0, raw.rfind(b"\n") + 1
    while start < end:
        cut = raw.rfind(b"\n", start, start + MAX_LINE_BYTES) + 1
        cut = cut or raw.find(b"\n", start) + 1  # one line alone is longer: the caller sees its length
        yield raw[start:cut]
        start = cut


@functools.lru_cache(maxsize=8)
def _pattern(segment: int) -> re.Pattern[bytes]:
    """A line as records.log_line writes it; possessive, so that no line costs more than its length."""
    text = r'[^"\\\x00-\x1f]*+(?:\\(?:["\\bfnrt]|u00[01][0-9a-f])[^"\\\x00-\x1f]*+)*+'
    b64 = r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
    line = (
        rf'^\{{"v":1,"seq":([1-9][0-9]{{0,15}}),"time":"{TIME}","segment":{segment},"rank":0,'
        rf'"stream":"(?:{"|".join(STREAMS)})","text":"{text}"(?:,"b64":"{b64}")?\}}\n'
    )
    return re.compile(line.encode(), re.MULTILINE)


def _check_fast(piece: bytes, segment: int, first_seq: int) -> int:
    """How many lines there are, if all are written as ours are; 0 to look closer."""
    found = _pattern(segment).findall(piece)
    # The pattern begins at a line's start and has its only line end last, so each match is one whole line:
    # as many matches as line ends is all of the piece.
    if len(found) != piece.count(b"\n"):
        return 0
    if list(map(int, found)) != list(range(first_seq, first_seq + len(found))):
        return 0
    try:
        return len(found) if piece.isascii() or piece.decode() else 0
    except UnicodeDecodeError:
        return 0


def _check_slow(piece: bytes, segment: int, first_seq: int) -> Checked:
    size = count = 0
    for line in piece.split(b"\n")[:-1]:
        try:
            _check_line(line, segment, first_seq + count)
        except IntegrityError as e:
            return Checked(size, count, e.message)
        size, count = size + len(line) + 1, count + 1
    return Checked(size, count)


def _check_line(line: bytes, segment: int, seq: int) -> None:
    record = _parsed(line)
    shown = f"{line[:100]!r}"
    for key, wanted in (("v", records.VERSION), ("seq", seq), ("segment", segment), ("rank", 0)):
        if record[key] != wanted or type(record[key]) is not int:
            raise IntegrityError(f"{key} is {record[key]!r} where {wanted} is next: {shown}")
    if record["stream"] not in STREAMS or not re.fullmatch(TIME, str(record["time"])):
        raise IntegrityError(f"no stream or no time: {shown}")
    if not isinstance(record["text"], str) or not isinstance(record.get("b64", ""), str):
        raise IntegrityError(f"no text: {shown}")
    try:
        record["text"].encode()
    except UnicodeEncodeError as e:
        raise IntegrityError(f"half a character: {shown}") from e


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        pairs = json.loads(line, object_pairs_hook=list)
        keys = tuple(key for key, _ in pairs)
        if keys not in (KEYS, (*KEYS, "b64")):
            raise ValueError("not the keys of a log line")
    except (ValueError, TypeError, RecursionError) as e:
        raise IntegrityError(f"not a log line: {line[:100]!r}") from e
    return dict(pairs)
