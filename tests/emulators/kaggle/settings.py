"""How the emulated Kaggle behaves and what goes wrong in it, as data; may change while it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Settings:
    """Times in `_s` are Kaggle's own; sessions and quota run `time_scale` times faster than the wall clock."""

    time_scale: float = 1.0  # 360: a session of 12 hours ends after 2 minutes
    session_limit_s: float = 12 * 3600
    gpu_sessions: int = 2  # that may run side by side
    queue_wall_s: float = 0.0  # QUEUED for so long
    save_wall_s: float = 0.0  # CANCEL_REQUESTED or RUNNING for so long while outputs are saved
    output_limit_bytes: int = 20 * 10**9
    signed_url_wall_s: float = 3600.0
    dataset_wall_s: float = 0.0  # a new dataset version becomes READY after so long
    shapes: tuple[str, ...] = ("NvidiaTeslaT4",)  # that this account may have
    environment: dict[str, str] = field(default_factory=dict)  # more variables for sessions
    visible: tuple[Path, ...] = ()  # of this machine's disk: read-only in sessions, under the same name
    omit_defaults: bool = False  # leave "", 0, false, [] and an enum's first value out of replies


@dataclass
class Answer:
    """What the next requests get instead of an answer; `call` is an RPC's name, or logs, upload, output."""

    call: str
    status: int = 0  # 0: the work is done, and then the connection closes without an answer
    times: int = 1
    retry_after_s: float | None = None
    after_bytes: int | None = None  # upload, output: the connection closes after so many bytes
    message: str = "emulated fault"


@dataclass
class Faults:
    """All off."""

    answers: list[Answer] = field(default_factory=list)
    cut_stream_after_s: float | None = None  # each log stream is cut after so many seconds
    cut_idle_stream_after_s: float | None = None  # … after so many seconds without a line
    dataset_stuck: bool = False  # new versions stay NOT_YET_PERSISTED
    dataset_failed: bool = False  # … become FAILED
    start_refused: str = ""  # a session ends in ERROR with this message before it starts
    legacy_refused: bool = False  # name and key get 401
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, call: str) -> Answer | None:
        """The fault for this call, used up by one."""
        with self._lock:
            for answer in self.answers:
                if answer.call in (call, "*") and answer.times > 0:
                    answer.times -= 1
                    return answer
        return None
