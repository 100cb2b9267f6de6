"""From a job's folder to what travels: overrides applied, lock fresh, files packed once under their digest."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.bundle import LOCK, Bundle, Contents, job_digest, member, stored
from launcher.bundle import pack as pack_files
from launcher.errors import Refused
from launcher.events import Event, Notice, Progress
from launcher.files import Choice, choose
from launcher.job.also import check_also
from launcher.job.command import render
from launcher.job.spec import JobSpec, LoadedJob
from launcher.job.units import show_size
from launcher.lock import Lock, parse_lock
from launcher.run import Run
from launcher.runner.context import Context, Question, RunRequest
from launcher.runner.locks import fresh_lock


@dataclass(frozen=True)
class Packed:
    """A job ready to be placed."""

    spec: JobSpec
    bundle: Bundle
    lock: Lock | None
    paths: tuple[str, ...]
    command: str | tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What identifies the job; recorded with the run."""
        run = self.command if isinstance(self.command, str) else list(self.command)
        spec = self.spec
        return {
            "bundle_digest": self.bundle.digest,
            "bundle_bytes": self.bundle.size_bytes,
            "lock_digest": self.lock.sha256 if self.lock else None,
            "job_digest": job_digest(self.bundle.digest, run, spec.params, spec.env),
        }


def pack(ctx: Context, request: RunRequest, loaded: LoadedJob) -> Generator[Event, None, Packed]:
    """Lock if needed, choose and pack the files; returns Packed."""
    spec = loaded.spec
    command = render(spec.run, spec.params, tuple(request.args))
    lock_bytes = yield from fresh_lock(ctx, loaded)
    lock = parse_lock(lock_bytes) if lock_bytes is not None else None
    choice = chosen_files(loaded)
    for path in choice.keys:
        yield Notice(f"left out {path}: it looks like a key", "warning")
    large = sum(f.size_bytes for f in choice.large)
    if large:
        names = ", ".join(f"{f.path} ({show_size(f.size_bytes)})" for f in choice.large[:3])
        if not ctx.ask(Question("size", f"send large files: {names}?", "-y, or files.exclude in job.yaml")):
            raise Refused("large files were not to be sent", "exclude them with files.exclude in job.yaml")
    contents = Contents(loaded.root, choice, lock_bytes, spec.environment.canonical())
    bundle = pack_files(contents, ctx.config.home / "bundles")
    yield Progress("pack", f"{len(choice.files)} files, {show_size(bundle.size_bytes)}", 1, 1, finished=True)
    return Packed(spec, bundle, lock, tuple(f.path for f in choice.files), command)


def chosen_files(loaded: LoadedJob) -> Choice:
    """Which files travel."""
    check_also(loaded)
    return choose(loaded.root, loaded.spec.files, _local_data(loaded))


def recorded_bundle(ctx: Context, run: Run) -> Bundle:
    """The bundle of a recorded run, verified; never today's folder."""
    return stored(ctx.config.home / "bundles", str(run.facts["bundle_digest"]))


def recorded_lock(ctx: Context, run: Run) -> Lock | None:
    """The lock within the recorded bundle."""
    if not run.facts.get("lock_digest"):
        return None
    data = member(recorded_bundle(ctx, run).path, LOCK)
    return parse_lock(data) if data is not None else None


def _local_data(loaded: LoadedJob) -> list[Path]:
    return [loaded.root / source for source in loaded.spec.data.values() if "://" not in source]
