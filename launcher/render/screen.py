"""Shows the events of a verb to a person: the job's lines, one line a phase, bars on a terminal, the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from launcher.events import ArtifactHome, Event, LogLines, Notice, Progress, Result, StateChanged
from launcher.render import loglines
from launcher.render.safe import one_line
from launcher.render.sink import Sink
from launcher.render.table import brief, elapsed, size

if TYPE_CHECKING:
    from launcher.render.bars import Bars


class Shows(Protocol):
    """What follows a verb: `pause` before anything else is written, `close` at the end."""

    def show(self, event: Event) -> None: ...
    def pause(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Manner:
    """How to speak. `raw`: the job's bytes as they are; `verbose`: each step of a phase, such as those of an
    image's build, is a line that stays; `moving`: bars may move."""

    raw: bool = False
    verbose: bool = False
    moving: bool = True


class Screen:
    """Job output to `out`, all chatter to `err`."""

    def __init__(self, out: Sink, err: Sink, manner: Manner = Manner()) -> None:
        self._out, self._err = out, err
        self._raw, self._verbose = manner.raw, manner.verbose
        self._moves = manner.moving and err.terminal
        self._said = ("", "")
        self._bars: Bars | None = None
        self._phases: set[str] = set()
        self._began = time.monotonic()

    def show(self, event: Event) -> None:
        if isinstance(event, LogLines):
            self.pause()
            loglines.show(event.raw, self._out, self._err, self._raw)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Notice):
            self.say(("warning: " if event.level == "warning" else "") + event.text)
        elif isinstance(event, StateChanged):
            self._state(event)
        elif isinstance(event, ArtifactHome):
            self.say(f"{event.kind} {event.name} is home ({size(event.size_bytes)})")
        else:
            self._result(event)

    def say(self, text: str) -> None:
        """One line of chatter."""
        self.pause()
        if self._out.terminal and self._err.terminal:
            self._out.fresh()
        self._err.line(one_line(text))

    def pause(self) -> None:
        """Take a moving bar off the screen, so that something else can be written."""
        if self._bars:
            self._bars.pause()

    def close(self) -> None:
        self.pause()
        self._out.reset()
        self._err.reset()

    def _progress(self, event: Progress) -> None:
        said = event.phase, event.detail
        if self._verbose and event.detail and said != self._said and not event.finished:
            self._said = said
            self._phases.add(event.phase)
            self.say(phase_line(event))
        elif self._moves:
            self._moving().show(event)
        elif event.phase not in self._phases and event.phase != "pull":
            self._phases.add(event.phase)
            self.say(phase_line(event))

    def _moving(self) -> Bars:
        if self._bars is None:
            from launcher.render.bars import Bars

            self._bars = Bars(self._err)
        if self._out.terminal:
            self._out.fresh()
        return self._bars

    def _state(self, event: StateChanged) -> None:
        if event.state in ("running", "recovering"):
            why = f" ({event.reason})" if event.reason else ""
            took = f" after {elapsed(time.monotonic() - self._began)}" if self._began else ""
            self._began = 0.0  # of the first start only: a relay's later ones come hours after
            self.say(f"{event.run_id} is {event.state}{why}{took}")

    def _result(self, event: Result) -> None:
        if event.run_id and event.state in ENDS:
            self.say(f"{event.run_id} {ending(event)}")


ENDS = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "was cancelled",
    "timed_out": "was stopped by a limit",
    "preempted": "was preempted",
    "lost": "is lost",
}


def ending(event: Result) -> str:
    """`failed: oom (exit 137)`"""
    code = event.detail.get("exit_code")
    why = f": {event.reason}" if event.reason else ""
    return ENDS[event.state] + why + (f" (exit {code})" if code else "")


def phase_line(event: Progress) -> str:
    """`upload: bundle, 2.1 MB`"""
    detail = ", ".join(words(event))
    return f"{event.phase}: {detail}" if detail else event.phase


def words(event: Progress) -> list[str]:
    """What is done, and how much of it there is (a total of 1 only says that it is finished)."""
    total_bytes = event.total_bytes or 0
    total = size(total_bytes) if total_bytes > 1 else ""
    return [text for text in (brief(event.detail), total) if text]
