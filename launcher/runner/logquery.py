"""Choosing lines of a log: the last n, since a time, matching an expression (pure but for reading)."""

from __future__ import annotations

import collections
import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from launcher.errors import SpecError
from launcher.runner.context import LogQuery

BLOCK_LINES = 4096
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def chosen(log: Path | bytes, query: LogQuery) -> Iterator[bytes]:
    """Blocks of whole lines of `log` that the query wants, in order."""
    wanted = _matcher(query)
    lines: Iterable[bytes] = (line for line in _lines(log) if wanted is None or wanted(line))
    if query.tail is not None:
        lines = collections.deque(lines, maxlen=query.tail)
    block: list[bytes] = []
    for line in lines:
        block.append(line)
        if len(block) == BLOCK_LINES:
            yield b"".join(block)
            block.clear()
    if block:
        yield b"".join(block)


def since_time(text: str, now: datetime.datetime) -> str:
    """The ISO 8601 UTC time that `10m`, `2h` or an ISO time means. Raises SpecError."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match:
        moment = now - datetime.timedelta(seconds=int(match[1]) * UNITS[match[2]])
    else:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError as e:
            raise SpecError(
                f"--since {text!r} is neither a duration (10m) nor an ISO time (2026-01-31T10:00)"
            ) from e
        moment = moment.astimezone(datetime.UTC)
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _lines(log: Path | bytes) -> Iterator[bytes]:
    if isinstance(log, bytes):
        yield from (line + b"\n" for line in log.split(b"\n") if line)
        return
    if not log.exists():
        return
    with log.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _matcher(query: LogQuery) -> Callable[[bytes], bool] | None:
    if query.grep is None and query.since is None:
        return None
    try:
        pattern = re.compile(query.grep) if query.grep is not None else None
    except re.error as e:
        raise SpecError(f"--grep {query.grep!r} is not a regular expression: {e}") from e
    since = since_time(query.since, datetime.datetime.now(datetime.UTC)) if query.since else ""

    def wanted(line: bytes) -> bool:
        record = json.loads(line)
        return record["time"] >= since and (pattern is None or bool(pattern.search(record["text"])))

    return wanted
