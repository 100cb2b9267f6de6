"""Following a run: from wherever an earlier follow stopped, through cuts, to the proven end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from launcher.agent import records
from launcher.errors import LauncherError, Unreachable
from launcher.events import Event, LogLines, Notice, Result, StateChanged
from launcher.run import Run, Segment
from launcher.runner import settle
from launcher.runner.context import Context, LogQuery
from launcher.runner.giveback import and_give_back
from launcher.runner.homes import home_of
from launcher.runner.logquery import chosen
from launcher.session import Heard, Session
from launcher.target import Target
from launcher.vault import Home

RETRY_S = (0.5, 1.0, 2.0, 4.0)  # then 4 s for ever: back within 10 s of the network's return


def attach(ctx: Context, run: Run) -> Iterator[Event]:
    """Go on following where any earlier follow stopped; finish a half-done submission first."""
    home = home_of(run)
    if not home.try_lock():
        yield from _look_over_shoulder(ctx, run, home)
        run = ctx.ledger.run(run.id)
    try:
        yield from _attach(ctx, run, home)
    finally:
        home.unlock()


def _attach(ctx: Context, run: Run, home: Home) -> Iterator[Event]:
    from launcher.runner import relay
    from launcher.targets.registry import target_of

    newest = run.newest
    if newest is None or (newest.state.final and newest.handle.get("home")) or newest.released_at:
        yield settle.result(run)
        return
    target = target_of(ctx, newest.target)
    if not newest.handed_over and not newest.state.final:
        yield from relay.finish_submission(ctx, run, target)
    yield from follow(ctx, run, target, home)


def follow(
    ctx: Context, run: Run, target: Target, home: Home, patience_s: float = float("inf")
) -> Iterator[Event]:
    """The newest segment, until its end is proven. Never decides from silence: waits out every cut, or raises
    Unreachable after `patience_s` of one."""
    run = ctx.ledger.run(run.id)
    segment = run.newest
    assert segment is not None
    attempts, silent_since = 0, 0.0
    while True:
        try:
            for event in _once(ctx, run, segment, target, home):
                if silent_since:
                    silent_since = 0.0
                    ctx.ledger.update_segment(run.id, segment.number, unreachable_since=None)
                    yield Notice(f"{segment.target} answers again")
                attempts = 0
                if not isinstance(event, Heard):
                    yield event
                if isinstance(event, Result):
                    return
        except Unreachable as e:
            if silent_since and time.monotonic() - silent_since > patience_s:
                raise
            if not silent_since:
                silent_since = time.monotonic()
                ctx.ledger.update_segment(run.id, segment.number, unreachable_since=records.utc())
                yield Notice(f"{e.message}; the job goes on, trying again", "warning")
        time.sleep(RETRY_S[min(attempts, len(RETRY_S) - 1)])
        attempts += 1


def _once(ctx: Context, run: Run, segment: Segment, target: Target, home: Home) -> Iterator[Event | Heard]:
    """One connection: follow until it breaks (Unreachable) or the segment ends (Result)."""
    with target.open(segment) as folder:
        session = Session(folder, home, segment)
        yield from session.follow()
        note_facts(ctx, run, segment, session)
        place = (target, segment)
        if session.exit:
            settled = settle.proven(ctx, run, segment, session.exit)
            yield from and_give_back(ctx, run, place, settled)
        elif session.ended:
            status = target.status(segment)
            if status.state.final:
                yield from and_give_back(ctx, run, place, settle.lost(ctx, run, segment, status))


def catch_up(ctx: Context, run: Run, home: Home, segment: Segment | None = None) -> Iterator[Event]:
    """What a segment (the newest) has now, without waiting; settles it when it turns out to have ended."""
    from launcher.targets.registry import target_of

    segment = segment or run.newest
    if segment is None or not segment.handed_over or segment.handle.get("home"):
        return
    target = target_of(ctx, segment.target)
    with target.open(segment) as folder:
        session = Session(folder, home, segment)
        yield from session.catch_up()
        note_facts(ctx, run, segment, session)
        status = None if session.exit else target.status(segment)
        if status and status.state.final:  # it may have ended between the two looks
            yield from session.catch_up()
        if session.exit:
            settled = settle.proven(ctx, run, segment, session.exit)
        elif status and status.state.final:
            settled = settle.lost(ctx, run, segment, status)
        else:
            return
        yield from and_give_back(ctx, run, (target, segment), settled)


def note_facts(ctx: Context, run: Run, segment: Segment, session: Session) -> None:
    """Keep the fingerprint in the ledger, from where it goes into the capsule."""
    if "fingerprint" in segment.handle:
        return
    fingerprint = session.fingerprint()
    if fingerprint:
        ctx.ledger.save_handle(run.id, segment.number, {"fingerprint": fingerprint})


def logs(ctx: Context, run: Run, query: LogQuery) -> Iterator[Event]:
    """What is home, after a look for more; with `follow` goes on as `attach` does."""
    home = home_of(run)
    if not query.follow and home.try_lock():
        try:
            for event in catch_up(ctx, run, home):
                if isinstance(event, Notice | StateChanged):
                    yield event
        except LauncherError as e:
            yield Notice(f"{e.message}; showing what is home", "warning")
        finally:
            home.unlock()
    shown = 0
    for block in chosen(home.log_path, query):
        shown += len(block)
        yield LogLines(block)
    if query.follow:
        for event in attach(ctx, run):
            if not isinstance(event, LogLines):
                yield event
            elif block := b"".join(chosen(event.raw, LogQuery(grep=query.grep))):
                yield LogLines(block)
        return
    yield Result(run.id, run.state.value, 0)


def wait(ctx: Context, runs: list[Run]) -> Iterator[Event]:
    """Until all have ended; the last Result carries the first exit code that is not zero."""
    first = 0
    for run in runs:
        for event in attach(ctx, run):
            if isinstance(event, Result):
                first = first or event.exit_code
                yield Result(event.run_id, event.state, first, event.reason, event.detail)
            elif not isinstance(event, LogLines):
                yield event


def _look_over_shoulder(ctx: Context, run: Run, home: Home) -> Iterator[Event]:
    """Another process brings this run home: show what it writes, take over when it ends."""
    yield Notice("another launcher process follows this run; showing what it brings")
    position = home.log_path.stat().st_size if home.log_path.exists() else 0
    ours = False
    while not ours:
        ours = home.try_lock()  # before the last look, so that nobody writes after it
        position, block = home.tail(position)
        while block:
            yield LogLines(block)
            position, block = home.tail(position)
        if not ours:
            time.sleep(0.1)
