"""Shows runs in one TensorBoard on this machine: ended ones from home, living ones from where they live."""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.errors import LauncherError, RunNotFound, Unreachable
from launcher.events import Notice
from launcher.run import Run, Segment
from launcher.runner.context import Context
from launcher.target import Target
from launcher.targets.registry import target_of
from launcher.tensorboard.server import Server, Wish, free_port
from launcher.tensorboard.shown import Shown

LOOK_S = 2.0
TICK_S = 0.2
AT_ONCE_S = 0.05  # a server that always has more must not keep us busy
AGAIN_S = 4.0
JOIN_S = 1.0


@dataclass(frozen=True)
class Address:
    """It answers here."""

    url: str
    runs: tuple[str, ...]


def tensorboard(ctx: Context, runs: Sequence[Run], port: int) -> Generator[Notice | Address, None, None]:
    """Until closed. Nothing of it is left then: no process, no file. Port 0: any free one."""
    port = free_port(port)
    scratch = Path(tempfile.mkdtemp(prefix="launcher-tensorboard-"))
    board = _Board(ctx, scratch)
    server = Server(Wish(scratch, scratch / "shown", port, ctx.config.child_environment()))
    try:
        for run in {run.id: run for run in runs}.values():
            board.add(run)
        board.refuse_nothing()
        yield from board.said()
        yield from server.start()
        yield Address(server.url, tuple(board.shown))
        while server.running:
            board.look_around()
            yield from board.said()
            time.sleep(TICK_S)
        raise LauncherError(f"TensorBoard ended: {server.last_words()}")
    finally:
        board.close()
        server.stop()
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass
class _Board:
    """The runs that are shown, and the threads that follow the living ones."""

    ctx: Context
    scratch: Path
    shown: dict[str, Shown] = field(default_factory=dict)
    _living: set[str] = field(default_factory=set)
    _threads: dict[tuple[str, int], threading.Thread] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _inbox: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    _looked: float = 0.0

    def add(self, run: Run) -> None:
        shown = self.shown[run.id] = Shown(run.id, Path(run.home), self.scratch)
        shown.link_home()
        segment = run.newest
        if segment and not segment.state.final:
            self._living.add(run.id)
            if shown.empty:
                self._inbox.put(f"{run.id} has nothing to show yet; it appears as soon as it writes")
        elif segment and _lies_there(segment):
            self._last_look(shown, segment)
        self._follow(run)

    def refuse_nothing(self) -> None:
        """RunNotFound when none has anything to show and none will; what is missing is named."""
        empty = [run_id for run_id, shown in self.shown.items() if shown.empty and run_id not in self._living]
        message = f"{', '.join(empty)}: neither event files nor metrics.jsonl are home"
        if len(empty) == len(self.shown):
            hint = "a job writes them below $LAUNCHER_OUT; `launcher pull RUN` brings what is still there"
            raise RunNotFound(message, hint)
        if empty:
            self._inbox.put(message)

    def look_around(self) -> None:
        """Now and then: a resumed run has a new segment, and another process may bring one home."""
        if time.monotonic() < self._looked + LOOK_S:
            return
        self._looked = time.monotonic()
        for run_id in self._living:
            self._follow(self.ctx.ledger.run(run_id))
            self.shown[run_id].refresh()

    def said(self) -> Iterator[Notice]:
        while not self._inbox.empty():
            yield Notice(self._inbox.get())

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads.values():
            thread.join(JOIN_S)

    def _follow(self, run: Run) -> None:
        """A thread for the newest segment, if it lives and has none."""
        segment = run.newest
        if segment is None or segment.state.final or not _lies_there(segment):
            return
        key = run.id, segment.number
        if key not in self._threads:
            work = (self.shown[run.id], target_of(self.ctx, segment.target), segment)
            self._threads[key] = threading.Thread(target=self._work, args=work, daemon=True)
            self._threads[key].start()

    def _last_look(self, shown: Shown, segment: Segment) -> None:
        """An ended segment whose outputs are not home."""
        try:
            with target_of(self.ctx, segment.target).open(segment) as folder:
                while shown.look(segment.number, folder).more:
                    pass
        except LauncherError as error:
            self._inbox.put(f"{segment.run_id}: {error.message}; showing what is home")

    def _work(self, shown: Shown, target: Target, segment: Segment) -> None:
        try:
            self._watch(shown, target, segment)
        except (LauncherError, OSError) as error:
            self._inbox.put(f"{segment.run_id}: {error}; showing what is here")

    def _watch(self, shown: Shown, target: Target, segment: Segment) -> None:
        """Look after look, through cuts, until the segment has ended and all of it is here."""
        silent = full = False
        while not self._stop.is_set():
            try:
                began = time.monotonic()
                status = target.status(segment)  # before the look: what was written until the end is seen
                with target.open(segment) as folder:
                    look = shown.look(segment.number, folder)
            except Unreachable as error:
                if not silent:
                    self._inbox.put(f"{segment.run_id}: {error.message}; showing what is here")
                silent = True
                self._stop.wait(AGAIN_S)
                continue
            if silent:
                self._inbox.put(f"{segment.run_id}: {segment.target} answers again")
            if look.full and not full:
                self._inbox.put(
                    f"{segment.run_id} writes more event files than can be shown; some are left out"
                )
            silent, full = False, look.full
            if status.state.final and not look.more:
                self._inbox.put(f"{segment.run_id} has ended ({status.state.value})")
                return
            took = time.monotonic() - began
            self._stop.wait(AT_ONCE_S if look.more else max(LOOK_S, 10 * took))


def _lies_there(segment: Segment) -> bool:
    """Whether its folder is still where it ran, with something that is not home."""
    home = segment.state.final and segment.handle.get("home")
    return segment.handed_over and not segment.released_at and not home
