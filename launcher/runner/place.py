"""Puts one segment on its target, saving every step before the next: a crash at any point can be finished or undone."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.agent import records
from launcher.errors import LauncherError, Refused
from launcher.events import Event, Notice, Progress, StateChanged
from launcher.run import Run, Segment, State
from launcher.runner.context import Context
from launcher.runner.giveback import released
from launcher.target import Step, Submission, Target


def place(ctx: Context, run: Run, target: Target, submission: Submission) -> Iterator[Event]:
    """Submit until the hand-over. A refusal ends the segment as failed; another error leaves it to be finished."""
    segment = submission.segment
    try:
        for step in target.submit(submission):
            yield from save(ctx, run, segment, step)
    except Refused as e:
        yield from given_up(ctx, run, target, e)
        raise
    except LauncherError as e:
        ctx.ledger.event(run.id, "submit-error", {"segment": segment.number, "message": e.message})
        raise


def given_up(ctx: Context, run: Run, target: Target, error: LauncherError) -> Iterator[Event]:
    """The newest segment was refused there: it has failed, and leaves nothing behind."""
    segment = ctx.ledger.run(run.id).newest
    assert segment is not None
    reason = f"{error.code}: {error.message}"
    ctx.ledger.update_segment(run.id, segment.number, state=State.FAILED, reason=reason)
    if any(held.segment == segment.number for held in ctx.ledger.resources(run.id)):
        try:
            yield from released(ctx, target, segment)
        except LauncherError as e:
            said = f"{e.message}; something of {run.id} may be left on {target.name}"
            yield Notice(f"{said}: launcher release {run.id}", "warning")
            return
    ctx.ledger.update_segment(run.id, segment.number, released_at=records.utc())


def save(ctx: Context, run: Run, segment: Segment, step: Step) -> Iterator[Event]:
    """One step of a target, made durable, then shown."""
    ledger, number = ctx.ledger, segment.number
    if step.resource:
        ledger.intend(run.id, number, step.resource)
    if step.released:
        ledger.released(run.id, step.released.kind, step.released.id)
    if step.handle is not None:
        ledger.save_handle(run.id, number, step.handle)
    if step.handed_over:
        # what the user has yet to open runs no time
        began = {"started_at": records.utc()} if step.state is State.RUNNING else {}
        ledger.update_segment(run.id, number, state=step.state, handed_over=True, **began)
        yield StateChanged(run.id, number, step.state.value)
    elif not step.state.final and step.state is not segment.state:
        ledger.update_segment(run.id, number, state=step.state)
    if step.notice:
        yield Notice(step.notice, "warning")
    if step.phase:
        finished = step.total_bytes is not None and step.done_bytes >= step.total_bytes
        yield Progress(step.phase, step.detail, step.done_bytes, step.total_bytes, finished)
