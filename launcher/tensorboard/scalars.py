"""Lines of metrics.jsonl as a TensorBoard event file: TFRecord frames around a handful of protobuf fields (pure).

The format: https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MAX_TAGS = 1000  # of one line
MAX_DEPTH = 8


def file_header(wall_time: float) -> bytes:
    """The record that every event file begins with."""
    return _record(_wall_time(wall_time) + _bytes(3, b"brain.Event:2"))


def events(lines: Iterable[bytes], before: int, wall_time: float) -> tuple[bytes, int]:
    """The records of some lines, and the last step. A line without one counts on from `before`."""
    found = []
    for line in lines:
        value = _object(line)
        if value is None:
            continue
        before = _step(value, before)
        numbers = dict(_numbers(value))
        if numbers:
            found.append(event(before, numbers, wall_time))
    return b"".join(found), before


def event(step: int, numbers: Mapping[str, float], wall_time: float) -> bytes:
    """One record: all the numbers of a step."""
    values = b"".join(_bytes(1, _bytes(1, tag.encode()) + _float(2, x)) for tag, x in numbers.items())
    return _record(_wall_time(wall_time) + b"\x10" + _varint(step & (1 << 64) - 1) + _bytes(5, values))


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _record(data: bytes) -> bytes:
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc32c(size)) + data + struct.pack("<I", masked_crc32c(data))


def _wall_time(seconds: float) -> bytes:
    return b"\x09" + struct.pack("<d", seconds)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _float(field: int, number: float) -> bytes:
    try:
        return _varint(field << 3 | 5) + struct.pack("<f", number)
    except (OverflowError, struct.error):  # more than 32, or 64, bits of float can hold
        return _varint(field << 3 | 5) + struct.pack("<f", float("inf") if number > 0 else float("-inf"))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _table() -> Iterator[int]:
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


_TABLE = tuple(_table())


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _step(value: Mapping[str, Any], before: int) -> int:
    step = value.get("step")
    if isinstance(step, int | float) and not isinstance(step, bool) and abs(step) < 1 << 53:
        return int(step)
    return before + 1


def _numbers(value: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """`{"loss": 1, "val": {"acc": 0.5}}` -> loss, val/acc; texts and lists are no numbers."""
    for name, inner in list(value.items())[:MAX_TAGS]:
        tag = (prefix + name).encode("utf-8", "replace").decode()[:200]
        if isinstance(inner, dict) and depth < MAX_DEPTH:
            yield from _numbers(inner, f"{tag}/", depth + 1)
        elif isinstance(inner, int | float) and tag != "step":
            yield tag, inner
