"""`run` and `plan`: from a job's folder to a run on the first target of the ladder that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.agent import records
from launcher.errors import LauncherError, Refused, SpecError, TargetError
from launcher.events import Event, Notice
from launcher.job.spec import JobSpec
from launcher.run import Run, Segment, new_id
from launcher.runner import sources
from launcher.runner.context import Context, PlanRow, RunRequest
from launcher.runner.load import load_job
from launcher.target import Need, Offer, Target
from launcher.targets.registry import target_of

if TYPE_CHECKING:
    from launcher.runner.pack import Packed

# What packs and follows is imported while the first target already connects.


def run(ctx: Context, request: RunRequest) -> Iterator[Event]:
    """Pack, place, follow. Refusals come before anything is created anywhere."""
    loaded = load_job(ctx, request)
    targets = _ladder(ctx, request, loaded.spec)
    targets[0].warm()
    from launcher.runner.pack import pack
    from launcher.runner.relay import start
    from launcher.vault import Home

    loaded = sources.settled(loaded, request)
    packed = yield from pack(ctx, request, loaded)
    target = yield from _choose(targets, Need(packed.spec, packed.lock))
    data = yield from sources.gather(ctx, loaded, request)
    name = request.name or packed.spec.name
    run_id = new_id(name)
    source = _source(ctx, request.source)
    home = Home.create(Path(request.out or "runs").absolute() / run_id)
    facts = {**packed.facts(), "args": list(request.args), "image": request.image, "data": data, **source}
    fresh = Run(run_id, name, records.utc(), str(home.path), packed.spec.to_json(), facts)
    yield from start(ctx, fresh, target, home, request.detach, _resume_name(source))


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
            rows.append(PlanRow(name, False, e.message))
            continue
        notes = [*([note] if note else []), *also, *sources.notes(data, lacks)]
        more = {f"data {key}": size for key, size in lacks.items()}
        rows.append(dataclasses.replace(_row(offer, loaded.spec, notes), travels={**travels, **more}))
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


def _ladder(ctx: Context, request: RunRequest, spec: JobSpec) -> list[Target]:
    if later := _not_yet(spec):
        raise Refused(*later)
    return [target_of(ctx, name) for name in (request.on or spec.targets)]


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


def _choose(targets: Sequence[Target], need: Need) -> Generator[Event, None, Target]:
    """The first of the ladder that fits. One target alone says its own reason."""
    why: list[str] = []
    for target in targets:
        try:
            offer = target.offers(need)[0]
        except TargetError as e:
            if len(targets) == 1:
                raise
            why.append(f"{target.name}: {e.message}")
            continue
        if offer.fits:
            for line in why:
                yield Notice(f"skipped {line}", "warning")
            return target
        why.append(f"{target.name}: {offer.why_not}")
    raise Refused("; ".join(why))


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


def _resume_name(source: dict[str, Any]) -> str | None:
    return source["from"]["checkpoint"] if source else None


def _row(offer: Offer, spec: JobSpec, notes: list[str]) -> PlanRow:
    limits = {"time": f"{spec.limits.time_s / 3600:g} h"}
    price = "free" if offer.price_per_hour is None else f"{offer.price_per_hour} {offer.currency}/h"
    return PlanRow(
        offer.target,
        offer.fits,
        offer.why_not,
        offer.form,
        offer.what,
        price,
        limits,
        notes=[*offer.notes, *notes],
    )
