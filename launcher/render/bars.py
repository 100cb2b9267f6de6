"""Phases on a terminal: what goes on now, with bar and elapsed time, then a line that stays (rich)."""

from __future__ import annotations

import io
import time

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Live

from launcher.events import Progress
from launcher.render.screen import words
from launcher.render.sink import Sink
from launcher.render.table import brief, elapsed

TOLD_OTHERWISE = {"pull"}  # each file that comes home has a line of its own


class Bars:
    """At most one moving line, on stderr."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._console = Console(
            file=io.TextIOWrapper(sink.file, encoding="utf-8", write_through=True),
            force_terminal=True,
            no_color=not sink.colour,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live: Live | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._began: dict[str, float] = {}

    def show(self, event: Progress) -> None:
        began = self._began.setdefault(event.phase, time.monotonic())
        if event.finished:
            self._finish(event, time.monotonic() - self._began.pop(event.phase, began))
        else:
            self._move(event)

    def pause(self) -> None:
        """Take the moving line away; the next progress brings it back."""
        if self._live:
            self._live.stop()
        self._live, self._task, self._phase = None, None, ""

    def _finish(self, event: Progress, took_s: float) -> None:
        self.pause()
        if event.phase in TOLD_OTHERWISE:
            return
        self._sink.line(f"✓ {event.phase}  " + "  ".join([*words(event), elapsed(took_s)]))

    def _move(self, event: Progress) -> None:
        if self._live is None or self._phase != event.phase:
            self.pause()
            self._live, self._phase = self._begin(event), event.phase
        if self._task is not None:
            self._live.update(
                self._task,
                completed=event.done_bytes,
                total=event.total_bytes,
                description=event.phase,
                detail=brief(event.detail),
            )

    def _begin(self, event: Progress) -> Live:
        self._sink.fresh()
        sized = [BarColumn(bar_width=24), DownloadColumn()] if (event.total_bytes or 0) > 1 else []
        live = Live(
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[detail]}", markup=False),
            *sized,
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = live.add_task(event.phase, total=event.total_bytes, detail=brief(event.detail))
        live.tasks[0].start_time = self._began[event.phase]
        live.start()
        return live
