"""`run` and `plan`: from a job's folder to a run on the first target of the ladder that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.agent import records
from launcher.errors import LauncherError, Refused, SpecError
from launcher.events import Event
from launcher.job.spec import JobSpec, LoadedJob
from launcher.run import Run, Segment, new_id
from launcher.runner import sources
from launcher.runner.context import Context, PlanRow, RunRequest
from launcher.runner.ladder import Ladder
from launcher.runner.load import load_job
from launcher.target import Need, Offer, Target
from launcher.targets.registry import target_of

if TYPE_CHECKING:
    from launcher.runner.pack import Packed
    from launcher.runner.relay import Fresh

# What packs and follows is imported while the first target already connects.


def run(ctx: Context, request: RunRequest) -> Iterator[Event]:
    """Pack, place, follow. Refusals come before anything is created anywhere."""
    loaded = checked(ctx, request)
    ladder = Ladder(ctx, request.on or loaded.spec.targets)
    ladder.warm()
    from launcher.runner.pack import pack
    from launcher.runner.relay import Start, start

    loaded = sources.settled(loaded, request)
    packed = yield from pack(ctx, request, loaded)
    need = Need(packed.spec, packed.lock)
    target = yield from ladder.first(need)
    made = yield from make(ctx, request, loaded, packed)
    yield from start(ctx, Start(made, target, request.detach, ladder, need))


def checked(ctx: Context, request: RunRequest) -> LoadedJob:
    """The job, unless no target of this version can do it."""
    loaded = load_job(ctx, request)
    if later := _not_yet(loaded.spec):
        raise Refused(*later)
    return loaded


def make(
    ctx: Context, request: RunRequest, loaded: LoadedJob, packed: Packed
) -> Generator[Event, None, Fresh]:
    """A new run with its home, not recorded yet."""
    from launcher.runner.relay import Fresh
    from launcher.vault import Home

    data = yield from sources.gather(ctx, loaded, request)
    name = request.name or packed.spec.name
    run_id = new_id(name)
    source = _source(ctx, request.source)
    home = Home.create(Path(request.out or "runs").absolute() / run_id)
    facts = {**packed.facts(), "args": list(request.args), "image": request.image, "data": data, **source}
    fresh = Run(run_id, name, records.utc(), str(home.path), packed.spec.to_json(), facts)
    return Fresh(fresh, home, source["from"]["checkpoint"] if source else None)


def plan(ctx: Context, request: RunRequest) -> list[PlanRow]:
    """What would happen where; changes nothing: without a lock only what needs none is said."""
    from launcher.runner.locks import check_lock
    from launcher.runner.pack import chosen_files

    loaded = load_job(ctx, request)
    later = _not_yet(loaded.spec)
    loaded = sources.settled(loaded, request)
    travels = {"files": chosen_files(loaded).size_bytes}
    data = () if later else sources.listed(ctx, loaded, request)
    also = [f"also travels: {', '.join(loaded.spec.files.also)}"] if loaded.spec.files.also else []
    names = list(request.on) or list(loaded.spec.targets)
    lock, note = check_lock(loaded)
    rows = []
    for name in names:
        if later:
            rows.append(PlanRow(name, False, f"{later[0]}; {later[1]}", travels=travels))
            continue
        try:
            target = target_of(ctx, name)
            offer = target.offers(Need(loaded.spec, lock))[0]
            lacks = target.lacking(data)
        except LauncherError as e:
            rows.append(PlanRow(name, False, e.message + (f"; {e.hint}" if e.hint else "")))
            continue
        notes = [*([note] if note else []), *also, *sources.notes(data, lacks)]
        more = {f"data {key}": size for key, size in lacks.items()}
        rows.append(dataclasses.replace(_row(target, offer, loaded.spec, notes), travels={**travels, **more}))
    return rows


def dry_run(ctx: Context, request: RunRequest) -> dict[str, Any]:
    """What `run` would send, as values; packs, but places nothing."""
    from launcher.runner.order import order
    from launcher.runner.pack import pack

    loaded = sources.settled(load_job(ctx, request), request)
    packed: Packed = sources.result(pack(ctx, request, loaded))
    data = {} if _not_yet(loaded.spec) else sources.result(sources.gather(ctx, loaded, request))
    facts = {**packed.facts(), "args": list(request.args), "data": data}
    example = Run(f"{packed.spec.name}-aaaaaaaa", packed.spec.name, records.utc(), "", {}, facts)
    lock = {"sha256": packed.lock.sha256, "python": packed.lock.python} if packed.lock else {}
    return {
        "facts": facts,
        "spec": packed.spec.to_json(),
        "order": order(example, Segment(example.id, 0, "local"), packed.spec, lock),
        "files": list(packed.paths),
        "targets": list(request.on) or list(packed.spec.targets),
    }


def _not_yet(spec: JobSpec) -> tuple[str, str] | None:
    """(message, hint) about a part of the spec that no target of this version can do."""
    if spec.resources.nodes > 1:
        return f"no target here has {spec.resources.nodes} nodes", "set resources.nodes to 1"
    buckets = [key for key, source in spec.data.items() if source.startswith("s3://")]
    if buckets:
        return f"data {buckets[0]}: s3:// is not in this version", "name a folder here, or https://…#sha256=…"
    if spec.store:
        return "store: is not in this version", "remove it from job.yaml"
    return None


def _source(ctx: Context, text: str | None) -> dict[str, Any]:
    """`--from RUN[:CHECKPOINT]` as recorded facts."""
    if not text:
        return {}
    from launcher.runner.homes import home_of

    name, _, checkpoint = text.partition(":")
    run_ = ctx.ledger.find(name)
    home = home_of(run_)
    found = home.newest_checkpoint() if checkpoint in ("", "last") else home.checkpoint(checkpoint)
    if checkpoint == "best":
        found = home.best_checkpoint()
    if found is None:
        raise SpecError(
            f"--from {text}: {run_.id} has no such checkpoint at home", f"launcher pull {run_.id}"
        )
    return {"from": {"run": run_.id, "checkpoint": found.name, "digest": found.digest}}


def _row(target: Target, offer: Offer, spec: JobSpec, notes: list[str]) -> PlanRow:
    limits = {"time": f"{spec.limits.time_s / 3600:g} h"}
    session_s = target.limits.max_time_s
    if session_s is not None:
        limits["session"] = f"{session_s / 3600:g} h"
    price = "free" if offer.price_per_hour is None else f"{offer.price_per_hour} {offer.currency}/h"
    return PlanRow(
        offer.target,
        offer.fits,
        offer.why_not,
        offer.form,
        offer.what,
        price,
        limits,
        notes=[*_of_the_place(target, offer, spec), *offer.notes, *notes],
        setup_s=offer.setup_s,
    )


def _of_the_place(target: Target, offer: Offer, spec: JobSpec) -> list[str]:
    """What a place that is no machine does otherwise."""
    limits, notes = target.limits, []
    if offer.setup_s is not None:
        paid = " of GPU quota" if spec.resources.gpu else ""
        notes.append(f"set-up about {max(1, round(offer.setup_s / 60))} min{paid}")
    if limits.max_time_s is not None and spec.limits.time_s > limits.max_time_s:
        said = f"its sessions end after {limits.max_time_s / 3600:g} h"
        notes.append(f"{said}: `launcher resume` goes on from the newest checkpoint")
    if not limits.survives_laptop:
        notes.append("needs this laptop: it ends what nobody follows")
    if not limits.live_checkpoints:
        notes.append("checkpoints come home when its session has ended")
    return notes
