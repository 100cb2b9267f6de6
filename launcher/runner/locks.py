"""The lock of a job, as `run` and `plan` need it: made anew when it is stale, or only judged."""

from __future__ import annotations

from collections.abc import Generator

from launcher.events import Event, Notice, Progress
from launcher.job.spec import LoadedJob
from launcher.lock import Lock, parse_lock
from launcher.runner.context import Context
from launcher.sources import LockPlan, lock_plan, read, why_stale


def fresh_lock(ctx: Context, loaded: LoadedJob) -> Generator[Event, None, bytes | None]:
    """The bytes of the job's lock, made anew when it is not of its source; None: standard library only."""
    plan = lock_plan(loaded)
    if plan is None:
        return None
    if stale := why_stale(plan):
        yield Notice(f"locking: {stale}")
        return (yield from _make(ctx, plan))
    return read(plan.path)


def check_lock(loaded: LoadedJob) -> tuple[Lock | None, str]:
    """The lock as it stands, and what `run` would do about it; changes nothing."""
    plan = lock_plan(loaded)
    if plan is None:
        return None, ""
    stale = why_stale(plan)
    lock = parse_lock(read(plan.path)) if plan.path.exists() else None
    return lock, f"`run` would lock first: {stale}" if stale else ""


def _make(ctx: Context, plan: LockPlan) -> Generator[Event, None, bytes]:
    from launcher.locking import LockSettings, write_lock

    own_table = ctx.config.variable("UV_PYTHON_DOWNLOADS_JSON_URL")
    yield Progress("lock", plan.path.name)
    data = write_lock(plan, LockSettings(ctx.config.home / "cache", own_table))
    lock = parse_lock(data)
    yield Progress("lock", f"{plan.path.name}: {len(lock.pins)} packages, CPython {lock.python}", 1, 1, True)
    return data
