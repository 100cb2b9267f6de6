"""What is paid for by the hour is given back without being asked, once all that it held is home."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.agent import records
from launcher.errors import LauncherError
from launcher.events import Event, Notice, Progress, Result
from launcher.run import Run, Segment
from launcher.runner.context import Context
from launcher.target import Target


def and_give_back(
    ctx: Context, run: Run, place: tuple[Target, Segment], settled: Iterator[Event]
) -> Iterator[Event]:
    """The events of a segment's end; before the result its paid resources are released."""
    for event in settled:
        if isinstance(event, Result):
            yield from _give_back(ctx, run, *place)
        yield event


def released(ctx: Context, target: Target, segment: Segment) -> Iterator[Event]:
    """A target's release of a segment, each thing noted as it goes."""
    for step in target.release(segment):
        if step.released:
            ctx.ledger.released(segment.run_id, step.released.kind, step.released.id)
        if step.phase:
            yield Progress(step.phase, step.detail, finished=True)


def _give_back(ctx: Context, run: Run, target: Target, segment: Segment) -> Iterator[Event]:
    held = ctx.ledger.resources(run.id, paid_only=True)
    kinds = sorted({one.resource.kind for one in held if one.segment == segment.number})
    what = f"the {' and the '.join(kinds)} on {target.name}"
    if not kinds:
        return
    try:
        yield from released(ctx, target, ctx.ledger.run(run.id).segments[segment.number])
    except LauncherError as e:
        said = f"{e.message}; {what} may still cost"
        yield Notice(f"{said}: launcher release {run.id}", "warning")
        return
    if not any(
        one.segment == segment.number for one in ctx.ledger.resources(run.id)
    ):  # nothing else is there
        ctx.ledger.update_segment(run.id, segment.number, released_at=records.utc())
    ctx.ledger.event(run.id, "given-back", {"segment": segment.number, "resources": kinds})
    yield Notice(f"all is home: gave back {what}")
