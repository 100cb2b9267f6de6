"""The `--json` stream: one object a line on stdout, each with `schema` and `type`; chatter is on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from launcher.events import ArtifactHome, Event, LogLines, Notice, Progress, Result, StateChanged
from launcher.render.safe import one_line
from launcher.render.sink import Sink

SCHEMA = 1
_LOG = b'\n{"schema":1,"type":"log",'
PROGRESS_EVERY_S = 0.2


class JsonStream:
    """Shows events as JSON lines."""

    def __init__(self, out: Sink, err: Sink) -> None:
        self._out, self._err = out, err
        self._shown: dict[str, tuple[str, float]] = {}  # phase -> (detail, when)

    def show(self, event: Event) -> None:
        if isinstance(event, LogLines):
            self._out.bytes(log_objects(event.raw))
        elif isinstance(event, Notice):
            self._err.line(one_line(event.text))
        elif not (isinstance(event, Progress) and self._too_soon(event)):
            self._out.bytes(encoded(as_object(event)))

    def pause(self) -> None:
        """Nothing moves here."""

    close = pause

    def _too_soon(self, event: Progress) -> bool:
        """Numbers alone; a new detail is the only word of what takes so long now."""
        now = time.monotonic()
        if event.finished:
            self._shown.pop(event.phase, None)
            return False
        detail, shown = self._shown.get(event.phase, ("", float("-inf")))
        if detail == event.detail and now - shown < PROGRESS_EVERY_S:
            return True
        self._shown[event.phase] = event.detail, now
        return False


def log_objects(block: bytes) -> bytes:
    """Lines of log.jsonl with the two keys added. A line holds no raw newline, so no parsing is needed."""
    return (b"\n" + block.rstrip(b"\n")).replace(b"\n{", _LOG)[1:] + b"\n"


def as_object(event: StateChanged | Progress | ArtifactHome | Result) -> dict[str, Any]:
    """An event as the object that `--json` promises."""
    if isinstance(event, StateChanged):
        values = dict(vars(event))
        return _typed("state", run=values.pop("run_id"), **values)
    if isinstance(event, Progress):
        return _typed("progress", **vars(event))
    if isinstance(event, ArtifactHome):
        values = dict(vars(event))
        return _typed("artifact", run=values.pop("run_id"), **values)
    return _typed(
        "result",
        **{k: v for k, v in event.detail.items() if k != "exit_code"},
        run=event.run_id,
        state=event.state,
        reason=event.reason,
        exit_code=event.exit_code,
    )


def encoded(value: Mapping[str, Any]) -> bytes:
    """One JSON object as one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _typed(kind: str, /, **values: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "type": kind, **values}
