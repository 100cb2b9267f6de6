"""Asking a run to stop, and cleaning up after it without ever destroying the only copy of a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from launcher.agent import records
from launcher.errors import LauncherError, Refused, TargetError, Unreachable
from launcher.events import Event, LogLines, Notice, Result, StateChanged
from launcher.run import Run, Segment, State
from launcher.runner import follow, settle
from launcher.runner.context import Context
from launcher.runner.giveback import released
from launcher.runner.homes import claimed, home_of
from launcher.targets.registry import target_of

STOP_GRACE_S = 60.0
STOP_PATIENCE_S = STOP_GRACE_S + 30.0  # another follower ends with the segment


def cancel(ctx: Context, run: Run, grace_s: float) -> Iterator[Event]:
    """Ask the job to save and stop; returns at once. May be called again, with a shorter grace too."""
    segment = run.newest
    if segment is None or segment.state.final:
        yield settle.result(run)
        return
    if not segment.handed_over:
        raise Refused(
            f"{run.id} has not started yet",
            f"`launcher release {run.id}` undoes the submission, `launcher attach {run.id}` finishes it",
        )
    ctx.ledger.event(run.id, "cancel", {"segment": segment.number, "grace_s": grace_s})
    target = target_of(ctx, segment.target)
    target.cancel(segment, grace_s)
    if target.limits.live_checkpoints:
        yield Notice(f"asked {run.id} to save and stop within {grace_s:g} s")
    else:
        yield Notice(f"{target.name} stops {run.id} at once; what it has published comes home by `attach`")
    yield Result(run.id, run.state.value, 0)


def stop(ctx: Context, run: Run) -> Iterator[Event]:
    """Cancel a living segment and bring it home to its end. Raises Unreachable when nobody answers."""
    segment = run.newest
    assert segment is not None
    target = target_of(ctx, segment.target)
    target.cancel(segment, STOP_GRACE_S)
    with claimed(run, patience_s=STOP_PATIENCE_S) as home:
        for event in follow.follow(ctx, run, target, home, patience_s=30.0):
            if not isinstance(event, LogLines | Result):
                yield event


def release(ctx: Context, runs: Sequence[Run], force: bool) -> Iterator[Event]:
    """Remove all that these runs left anywhere. Any number of times; done when nothing of them is listed any more."""
    code = 0
    for run in runs:
        for segment in run.segments:
            if segment.released_at:
                continue
            try:
                yield from _release(ctx, run, segment, force)
            except LauncherError as e:
                code = code or e.exit_code
                if len(runs) == 1:
                    raise
                yield Notice(f"{run.id}: {e.message}", "warning")
    for run in runs[-1:]:
        yield Result(run.id, ctx.ledger.run(run.id).state.value, code)


def _release(ctx: Context, run: Run, segment: Segment, force: bool) -> Iterator[Event]:
    target = target_of(ctx, segment.target)
    if not force:
        yield from _bring_last(ctx, run, segment)
        run = ctx.ledger.run(run.id)
        segment = run.segments[segment.number]
        if segment.handed_over and not segment.state.final:
            raise Refused(
                f"{run.id} is still {segment.state.value}",
                f"`launcher cancel {run.id}` first, or `launcher release {run.id} --force` kills it",
            )
    yield from released(ctx, target, segment)
    if not segment.state.final:
        _undone(ctx, run, segment)
        yield StateChanged(run.id, segment.number, State.CANCELLED.value, "released")
    ctx.ledger.update_segment(run.id, segment.number, released_at=records.utc())
    yield Notice(f"released {run.id} segment {segment.number} on {segment.target}")


def _bring_last(ctx: Context, run: Run, segment: Segment) -> Iterator[Event]:
    """Results first: nothing is destroyed while a complete checkpoint or the log is only there."""
    if not segment.handed_over or segment.handle.get("home"):
        return
    home = home_of(run)
    if not home.try_lock():
        raise Refused(f"another launcher process is bringing {run.id} home", "wait for it, or stop it")
    try:
        for event in follow.catch_up(ctx, run, home, segment):
            if not isinstance(event, LogLines | Result):
                yield event
    except Unreachable as e:
        raise TargetError(
            f"{e.message}; {run.id} may hold the only copy of its newest results there",
            f"try again when it answers; `launcher release {run.id} --force` gives them up",
        ) from e
    finally:
        home.unlock()


def _undone(ctx: Context, run: Run, segment: Segment) -> None:
    now = records.utc(time.time())
    ctx.ledger.update_segment(run.id, segment.number, state=State.CANCELLED, reason="released", ended_at=now)
