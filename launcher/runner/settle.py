"""What a segment's end leaves behind: its final state in the ledger, the capsule at home, the exit code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launcher.agent import records
from launcher.events import Event, Result, StateChanged
from launcher.published import ExitRecord
from launcher.run import Run, Segment, State, Status, process_exit_code
from launcher.runner.context import Context
from launcher.runner.homes import home_of
from launcher.runner.look import facts_of
from launcher.runner.sources import data_of


def proven(ctx: Context, run: Run, segment: Segment, record: ExitRecord) -> Iterator[Event]:
    """The end is proven by an exit record, and everything is home."""
    ctx.ledger.update_segment(
        run.id,
        segment.number,
        state=record.state,
        reason=record.reason,
        exit_code=record.exit_code,
        started_at=record.started_at or segment.started_at,
        ended_at=record.ended_at,
        unreachable_since=None,
    )
    ctx.ledger.save_handle(run.id, segment.number, {"home": True})
    yield from _ended(ctx, run, segment)


def lost(ctx: Context, run: Run, segment: Segment, status: Status) -> Iterator[Event]:
    """No agent lives there any more and there is no exit record: it ran as long as its log at home says."""
    first, last = home_of(run).times(segment.number)
    ctx.ledger.update_segment(
        run.id,
        segment.number,
        state=status.state,
        reason=status.reason,
        exit_code=status.exit_code,
        started_at=segment.started_at or first,
        ended_at=last or segment.started_at or records.utc(),
        unreachable_since=None,
    )
    ctx.ledger.save_handle(run.id, segment.number, {"home": True})
    yield from _ended(ctx, run, segment)


def result(run: Run) -> Result:
    """How the run ended, with the process's exit code, from the ledger."""
    newest = run.newest
    if newest is None:
        return Result(run.id, State.PENDING.value, 125, "never placed")
    code = process_exit_code(newest.state, newest.exit_code, newest.reason)
    return Result(run.id, newest.state.value, code, newest.reason, {"exit_code": newest.exit_code})


def capsule(run: Run) -> dict[str, Any]:
    """capsule.json: everything needed to tell whether two runs were the same. No secret values."""
    newest = run.newest
    handle = newest.handle if newest else {}
    return {
        "v": records.VERSION,
        "id": run.id,
        "name": run.name,
        "parent": run.parent,
        "created_at": run.created_at,
        "state": run.state.value,
        "exit_code": newest.exit_code if newest else None,
        "job": run.facts.get("job_digest"),
        "bundle": run.facts.get("bundle_digest"),
        "lock": run.facts.get("lock_digest"),
        "data": data_of(run),
        "agent": handle.get("agent"),
        "image": handle.get("image"),
        "fingerprint": handle.get("fingerprint"),
        "target": newest.target if newest else None,
        "machine": handle.get("machine"),
        "cost_usd": 0.0,
        "args": list(run.facts.get("args", ())),
        "from": run.facts.get("from"),
        "spec": run.spec,
        "segments": [_segment(s) for s in run.segments],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    kept = ("fingerprint", "machine", "form", "image", "base", "agent", "environment")
    known = {key: segment.handle[key] for key in kept if key in segment.handle}
    return {**facts_of(segment), **known}


def _ended(ctx: Context, run: Run, segment: Segment) -> Iterator[Event]:
    run = ctx.ledger.run(run.id)
    stored = run.segments[segment.number]
    home_of(run).write_capsule(capsule(run))
    ctx.ledger.event(
        run.id, "ended", {"segment": stored.number, "state": stored.state.value, "reason": stored.reason}
    )
    yield StateChanged(run.id, stored.number, stored.state.value, stored.reason)
    yield result(run)
