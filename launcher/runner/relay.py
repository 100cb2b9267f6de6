"""Going on: a further segment of the same run from its newest checkpoint, or the same bundle as a new run."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.agent import records
from launcher.errors import Refused, RunNotFound, Unreachable
from launcher.events import Event, Notice, Result, StateChanged
from launcher.job.spec import JobSpec
from launcher.job.units import duration_s
from launcher.run import Run, Segment, State, new_id
from launcher.runner import control, follow, settle
from launcher.runner.context import Context, ResumeRequest
from launcher.runner.homes import claimed, home_of
from launcher.runner.ladder import MOVES_ON, Ladder, about
from launcher.runner.load import cost_of
from launcher.runner.order import order, spent_s
from launcher.runner.pack import recorded_bundle, recorded_lock
from launcher.runner.place import given_up, place
from launcher.runner.sources import recorded_sources
from launcher.secrets import gather
from launcher.target import Need, Submission, Target
from launcher.targets.registry import target_of
from launcher.vault import Home, HomeArtifact


@dataclass(frozen=True)
class Fresh:
    """A new run that is not recorded yet, its home, and the checkpoint that it begins from."""

    run: Run
    home: Home
    checkpoint: str | None = None


@dataclass(frozen=True)
class Start:
    """A new run and its first target; `ladder` has the targets that come after it, for `need`."""

    made: Fresh
    target: Target
    detach: bool = False
    ladder: Ladder | None = None
    need: Need | None = None


def resume(ctx: Context, run: Run, request: ResumeRequest) -> Iterator[Event]:
    """A further segment from the newest complete checkpoint. The old one is stopped, or fenced off if silent."""
    run = resumable(ctx, run, request)
    target = target_of(ctx, request.on or (run.newest.target if run.newest else "local"))
    yield from _fits(ctx, run, target)
    if not (yield from ready_to_go_on(ctx, run)):
        return
    with claimed(run) as home:
        yield from add_segment(ctx, run, home, Next(target, request.checkpoint))
        yield from finish_submission(ctx, ctx.ledger.run(run.id), target)
        yield from followed(ctx, run, target, home, request.detach)


def resumable(ctx: Context, run: Run, request: ResumeRequest) -> Run:
    """The run with its new limits. Refused when it has succeeded or used its time."""
    if run.state is State.SUCCEEDED:
        raise Refused(f"{run.id} has succeeded; there is nothing to resume", f"launcher rerun {run.id}")
    return _with_new_limits(ctx, run, request)


def ready_to_go_on(ctx: Context, run: Run) -> Generator[Event, None, bool]:
    """Stop or fence the newest segment; False when it succeeded meanwhile."""
    yield from _close_newest(ctx, run)
    if ctx.ledger.run(run.id).state is not State.SUCCEEDED:
        return True
    yield Notice(f"{run.id} finished while it was being stopped; there is nothing to resume")
    yield settle.result(ctx.ledger.run(run.id))
    return False


@dataclass(frozen=True)
class Next:
    """Where a further segment goes, from which checkpoint (the newest), and what its target must know."""

    target: Target
    checkpoint: str | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)


def add_segment(ctx: Context, run: Run, home: Home, following: Next) -> Iterator[Event]:
    """Record a further segment from a checkpoint that is home."""
    run = ctx.ledger.run(run.id)
    name = following.target.name
    segment = _next_segment(run, home, name)
    checkpoint = _checkpoint(home, following.checkpoint)
    handle = {"resume": checkpoint.name if checkpoint else None, "target": name, **following.handle}
    ctx.ledger.add_segment(dataclasses.replace(segment, handle=handle))
    what = f"checkpoint {checkpoint.name}" if checkpoint else "the beginning: no checkpoint is home"
    yield Notice(f"{run.id} goes on as segment {segment.number} on {name} from {what}")


def rerun(ctx: Context, run: Run, on: str | None, detach: bool = False) -> Iterator[Event]:
    """A new run of the same bundle and spec; `parent` names the old one."""
    target = target_of(ctx, on or (run.newest.target if run.newest else "local"))
    yield from _fits(ctx, run, target)
    fresh = new_id(run.name)
    home = Home.create(_beside(run, fresh))
    again = Run(fresh, run.name, records.utc(), str(home.path), run.spec, run.facts, parent=run.id)
    source = run.facts.get("from") or {}
    yield from start(ctx, Start(Fresh(again, home, source.get("checkpoint")), target, detach))


def start(ctx: Context, begin: Start) -> Iterator[Event]:
    """Record a new run with its first segment, place it, follow it."""
    run, home = begin.made.run, begin.made.home
    yield from record(ctx, begin.made, begin.target)
    with home.writer():
        target = yield from _placed(ctx, begin)
        yield from followed(ctx, run, target, home, begin.detach)


def record(
    ctx: Context, made: Fresh, target: Target, handle: Mapping[str, Any] | None = None
) -> Iterator[Event]:
    """The run and its first segment into the ledger, before anything is done about it."""
    run = made.run
    known = {**_first_handle(made, target), **(handle or {})}
    first = Segment(run.id, 0, target.name, known, created_at=records.utc())
    # both at once: a run that a crash left without a segment could be neither finished nor undone
    ctx.ledger.create_run(dataclasses.replace(run, segments=(first,)))
    yield StateChanged(run.id, 0, State.PENDING.value)
    yield Notice(f"run {run.id} on {target.name} → {run.home}")


def _first_handle(made: Fresh, target: Target) -> dict[str, Any]:
    """What a segment must know that begins a run, from another run's checkpoint perhaps."""
    source = made.run.facts.get("from") or {}
    return {"resume": made.checkpoint, "resume_run": source.get("run"), "target": target.name}


def _placed(ctx: Context, begin: Start) -> Generator[Event, None, Target]:
    """On the first target of the ladder that takes it. Each that refuses is a failed segment."""
    run, target = begin.made.run, begin.target
    while True:
        try:
            yield from finish_submission(ctx, ctx.ledger.run(run.id), target)
            return target
        except MOVES_ON as e:
            following = None
            if begin.ladder and begin.need:
                following = yield from begin.ladder.next(begin.need)
            if following is None:
                raise
            yield Notice(f"{target.name}: {e.message}; going on with {following.name}", "warning")
            yield from given_up(ctx, run, target, e)
            target = following
            segment = _next_segment(ctx.ledger.run(run.id), begin.made.home, target.name)
            ctx.ledger.add_segment(dataclasses.replace(segment, handle=_first_handle(begin.made, target)))


def finish_submission(ctx: Context, run: Run, target: Target) -> Iterator[Event]:
    """Place the newest segment, from wherever an earlier try stopped."""
    segment = run.newest
    assert segment is not None
    spec = JobSpec.from_json(run.spec)
    bundle, lock = recorded_bundle(ctx, run), recorded_lock(ctx, run)
    resume_from = _resume_source(ctx, run, segment)
    told = order(run, segment, spec, {"sha256": lock.sha256, "python": lock.python} if lock else {})
    submission = Submission(
        segment=segment,
        spec=spec,
        bundle=bundle,
        order=told,
        lock=lock,
        secrets=gather(ctx.config, spec.secrets) if target.limits.secrets else {},
        resume_from=resume_from,
        image=str(run.facts.get("image", "build")),
        data=recorded_sources(ctx, run),
    )
    yield from place(ctx, run, target, submission)


def followed(ctx: Context, run: Run, target: Target, home: Home, detach: bool) -> Iterator[Event]:
    """After the hand-over: the job needs no laptop; follow it unless told otherwise."""
    if detach:
        yield Result(run.id, State.RUNNING.value, 0, "detached")
        return
    yield from follow.follow(ctx, run, target, home)


def _close_newest(ctx: Context, run: Run) -> Iterator[Event]:
    segment = run.newest
    if segment is None or segment.handle.get("home") or segment.released_at:
        return
    if not segment.handed_over:
        with claimed(run):  # nobody is placing it at this moment
            pass
        ctx.ledger.update_segment(run.id, segment.number, state=State.CANCELLED, reason="superseded")
        return
    try:
        if segment.state.final:
            with claimed(run) as home:
                yield from _quiet(follow.catch_up(ctx, run, home))
        else:
            yield from control.stop(ctx, run)
    except Unreachable as e:
        yield Notice(f"{e.message}; going on without it, it can publish nothing more", "warning")
        ctx.ledger.update_segment(
            run.id, segment.number, state=State.LOST, reason="fenced: unreachable", ended_at=records.utc()
        )


def _quiet(events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        if not isinstance(event, Result):
            yield event


def _next_segment(run: Run, home: Home, target: str) -> Segment:
    number = len(run.segments)
    return Segment(
        run.id,
        number,
        target,
        first_seq=home.last_seq + 1,
        log_base_bytes=home.close_segments(number),
        created_at=records.utc(),
    )


def _checkpoint(home: Home, name: str | None) -> HomeArtifact | None:
    if name is None or name == "last":
        return home.newest_checkpoint()
    found = home.best_checkpoint() if name == "best" else home.checkpoint(name)
    if found is None:
        names = ", ".join(c.name for c in home.checkpoints()) or "none"
        raise RunNotFound(f"no checkpoint {name!r} is home", f"home are: {names}")
    return found


def _resume_source(ctx: Context, run: Run, segment: Segment) -> HomeArtifact | None:
    wanted = segment.handle.get("resume")
    if not wanted:
        return None
    source = run.facts.get("from")
    of = segment.handle.get("resume_run") or (source["run"] if source and segment.number == 0 else run.id)
    return _checkpoint(home_of(ctx.ledger.run(of)), wanted)


def _with_new_limits(ctx: Context, run: Run, request: ResumeRequest) -> Run:
    spec = JobSpec.from_json(run.spec)
    limits = spec.limits
    if request.timeout:
        limits = dataclasses.replace(limits, time_s=spent_s(run) + duration_s(request.timeout))
    if request.max_cost:
        limits = dataclasses.replace(limits, cost=cost_of(request.max_cost))
    if limits is not spec.limits:
        spec = dataclasses.replace(spec, limits=limits)
        run = dataclasses.replace(run, spec=spec.to_json())
        ctx.ledger.update_spec(run.id, run.spec)
    if spent_s(run) >= limits.time_s:
        raise Refused(
            f"{run.id} has used its {limits.time_s:g} s",
            f"launcher resume {run.id} --timeout 1h gives it more",
        )
    return run


def _fits(ctx: Context, run: Run, target: Target) -> Iterator[Event]:
    offer = target.offers(Need(JobSpec.from_json(run.spec), recorded_lock(ctx, run)))[0]
    if not offer.fits:
        raise Refused(f"{target.name}: {offer.why_not}")
    yield from about(ctx, target, offer)


def _beside(run: Run, fresh: str) -> str:
    from pathlib import Path

    return str(Path(run.home).parent / fresh)
