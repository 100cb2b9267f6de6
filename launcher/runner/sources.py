"""The data of a job: what its sources hold now, for a new run; what was recorded of them, for all later ones."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.data.source import Entry, Source, keep, recorded
from launcher.data.take import Told, take
from launcher.errors import SpecError
from launcher.events import Event, Progress
from launcher.job import yaml
from launcher.job.spec import LoadedJob
from launcher.job.units import show_size
from launcher.run import Run
from launcher.runner.context import Context, RunRequest


def settled(loaded: LoadedJob, request: RunRequest) -> LoadedJob:
    """The job with its local sources as absolute paths. SpecError, with its line, for one that is not there."""
    data = {
        key: origin if "://" in origin else os.path.abspath(loaded.root / os.path.expanduser(origin))
        for key, origin in loaded.spec.data.items()
    }
    for key, origin in data.items():
        if "://" not in origin and not os.path.exists(origin):
            raise _placed(
                loaded, request, key, SpecError(f"{origin} does not exist", "write a file or folder")
            )
    return dataclasses.replace(loaded, spec=dataclasses.replace(loaded.spec, data=data))


def gather(ctx: Context, loaded: LoadedJob, request: RunRequest) -> Generator[Event, None, dict[str, Any]]:
    """What each source holds now, kept durably; the facts to record."""
    facts = {}
    for key, origin in loaded.spec.data.items():
        source = Source(key, origin, _kept(ctx))
        if not source.sha256:
            files = yield from _taken(source, loaded, request)
            source = _known(source, files, keep(source.kept, files))
            yield Progress(f"hash data {key}", brief(source), 1, 1, finished=True)
        facts[key] = source.facts()
    return facts


def listed(ctx: Context, loaded: LoadedJob, request: RunRequest) -> tuple[Source, ...]:
    """As `gather`, for a plan."""
    facts: dict[str, Any] = result(gather(ctx, loaded, request))
    return recorded(facts, _kept(ctx))


def recorded_sources(ctx: Context, run: Run) -> tuple[Source, ...]:
    """The sources as the run was made from them; never today's."""
    return recorded(run.facts.get("data") or {}, _kept(ctx))


def data_of(run: Run) -> dict[str, dict[str, Any]]:
    """key -> source, digest, files, size_bytes: what is known of a download is known since it came."""
    later = run.newest.handle.get("data", {}) if run.newest else {}
    return {key: {**told, **later.get(key, {})} for key, told in (run.facts.get("data") or {}).items()}


def notes(data: Sequence[Source], lacks: Mapping[str, int]) -> list[str]:
    """A line about each source for a plan."""
    lines = []
    for source in data:
        if source.sha256:
            lines.append(
                f"data {source.key}: {source.origin.partition('#')[0]}, fetched there if it is not yet"
            )
            continue
        missing = lacks.get(source.key, 0)
        there = f"{show_size(missing)} of it is not there yet" if missing else "all of it is there"
        lines.append(f"data {source.key}: {brief(source)}; {there}")
    return lines


def brief(source: Source) -> str:
    """`5,000 files, 20MB`"""
    files = source.files or 0
    return f"{files:,} file{'' if files == 1 else 's'}, {show_size(source.size_bytes or 0)}"


def result(steps: Generator[Any, None, Any]) -> Any:
    """The value of a generator whose steps nobody wants to see."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _taken(source: Source, loaded: LoadedJob, request: RunRequest) -> Generator[Event, None, list[Entry]]:
    hashing: Generator[Told, None, list[Entry]] = take(Path(source.origin), source.kept)
    while True:
        try:
            done, total = next(hashing)
        except StopIteration as end:
            files: list[Entry] = end.value
            return files
        except SpecError as error:
            raise _placed(loaded, request, source.key, error) from error
        yield Progress(f"hash data {source.key}", "", done, total + 1)


def _known(source: Source, files: Sequence[Entry], digest: str) -> Source:
    size = sum(size for _, size, _ in files)
    return dataclasses.replace(source, digest=digest, files=len(files), size_bytes=size)


def _placed(loaded: LoadedJob, request: RunRequest, key: str, error: SpecError) -> SpecError:
    """The error with the line of job.yaml that names the source, or the option that does."""
    if any(text.partition("=")[0] == key for text in request.data):
        return SpecError(f"--data {key}: {error.message}", error.hint)
    try:
        assert loaded.source is not None
        node = yaml.read(loaded.source.read_bytes(), str(loaded.source)).value["data"].value[key]
    except (AssertionError, OSError, SpecError, KeyError, TypeError, AttributeError):
        return SpecError(f"data {key}: {error.message}", error.hint)
    found: SpecError = node.error(error.message, error.hint)
    return found


def _kept(ctx: Context) -> Path:
    return ctx.config.home / "data"
