"""What runs, where, since when: from the ledger, or with one look at the places."""

from __future__ import annotations

import datetime
from typing import Any

from launcher.agent import records
from launcher.errors import LauncherError, Unreachable
from launcher.ledger import Ledger
from launcher.run import Run, Segment
from launcher.runner.context import Context


def ps(ctx: Context, all: bool, refresh: bool) -> list[dict[str, Any]]:
    """One row a run, newest first; only living or unreleased ones unless `all`."""
    runs = ctx.ledger.runs(active_only=not all)
    if refresh:
        for run in runs:
            look(ctx, run)
        runs = ctx.ledger.runs(active_only=not all)
    return [summary(run) for run in runs]


def status(ctx: Context, run: Run) -> dict[str, Any]:
    """Everything about one run, after one look at where it lives."""
    look(ctx, run)
    run = ctx.ledger.run(run.id)
    return {**summary(run), "segments": [_row(s) for s in run.segments], "parent": run.parent}


def events(ctx: Context, run: Run) -> list[dict[str, Any]]:
    """What happened to the run, in order."""
    return ctx.ledger.events(run.id)


def unreleased(ledger: Ledger) -> list[str]:
    """One line for each thing that may still cost money; from the ledger alone, without network."""
    return [
        f"{held.run_id}: {held.resource.kind} {held.resource.id} on {held.target}"
        f" may still cost {held.resource.detail.get('spends', 'money')} since {held.intended_at}"
        for held in ledger.resources(unreleased_only=True)
        if held.resource.paid
    ]


def look(ctx: Context, run: Run) -> None:
    """One look at the newest segment; the ledger learns what it said. Silence changes nothing but the flag."""
    from launcher.targets.registry import target_of

    segment = run.newest
    if segment is None or segment.state.final or not segment.handed_over:
        return
    try:
        target = target_of(ctx, segment.target)
        seen = target.status(segment)
    except Unreachable:
        since = segment.unreachable_since or records.utc()
        ctx.ledger.update_segment(run.id, segment.number, unreachable_since=since)
        return
    except LauncherError as e:
        ctx.ledger.event(run.id, "look-error", {"message": e.message})
        return
    ended = {"ended_at": _end(segment, target.limits.max_time_s)} if seen.state.final else {}
    ctx.ledger.update_segment(
        run.id,
        segment.number,
        state=seen.state,
        reason=seen.reason,
        exit_code=seen.exit_code,
        unreachable_since=None,
        **ended,
    )


def _end(segment: Segment, longest_s: float | None) -> str:
    """Now; a session that only lasts so long has ended by then, whenever somebody looks."""
    now = str(records.utc())
    if longest_s is None or not segment.started_at:
        return now
    start = datetime.datetime.fromisoformat(segment.started_at).timestamp()
    return min(now, str(records.utc(start + longest_s)))


def summary(run: Run) -> dict[str, Any]:
    """The keys that `status --json` and `ps --json` promise."""
    newest = run.newest
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state.value,
        "reason": newest.reason if newest else "",
        "exit_code": newest.exit_code if newest else None,
        "unreachable_since": newest.unreachable_since if newest else None,
        "released_at": newest.released_at if newest else None,
        "cost_usd": 0.0,
        "out": run.home,
        "target": newest.target if newest else None,
        "created_at": run.created_at,
        "started_at": newest.started_at if newest else None,
        "ended_at": newest.ended_at if newest else None,
        "segments": len(run.segments),
    }


def facts_of(segment: Segment) -> dict[str, Any]:
    """What is recorded of a segment, as plain JSON."""
    return {
        "number": segment.number,
        "target": segment.target,
        "state": segment.state.value,
        "reason": segment.reason,
        "exit_code": segment.exit_code,
        "created_at": segment.created_at,
        "started_at": segment.started_at,
        "ended_at": segment.ended_at,
        "released_at": segment.released_at,
        "first_seq": segment.first_seq,
    }


def _row(segment: Segment) -> dict[str, Any]:
    return {
        **facts_of(segment),
        "unreachable_since": segment.unreachable_since,
        "form": segment.handle.get("form"),
        "folder": segment.handle.get("folder"),
        "address": segment.handle.get("address"),
        "fingerprint_sha256": (segment.handle.get("fingerprint") or {}).get("portable_sha256"),
    }
