"""What the verbs yield while they work: values for the screen and for `--json`, never text with colours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LogLines:
    """Some whole lines of log.jsonl, byte for byte (a block, so that a million lines stay cheap)."""

    raw: bytes

    def records(self) -> Iterator[dict[str, Any]]:
        """The parsed lines, in order."""
        for line in self.raw.split(b"\n"):
            if line:
                yield json.loads(line)


@dataclass(frozen=True)
class StateChanged:
    run_id: str
    segment: int
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Progress:
    """A phase (pack, lock, connect, environment, image, upload, start, pull …) and how far it is; no total: unknown."""

    phase: str
    detail: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    finished: bool = False


@dataclass(frozen=True)
class ArtifactHome:
    """A checkpoint or output stands verified under its final name."""

    run_id: str
    kind: str
    name: str
    path: str
    size_bytes: int
    sha256: str
    segment: int = 0


@dataclass(frozen=True)
class Notice:
    """One line of chatter: level is info or warning."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class Result:
    """Always last: how the verb ended; `exit_code` is the process's."""

    run_id: str
    state: str
    exit_code: int
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


Event = LogLines | StateChanged | Progress | ArtifactHome | Notice | Result
