"""Brings home what was downloaded: a run's folders anywhere below a folder here, verified like everything else."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from launcher import published
from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError, SpecError
from launcher.events import Event, LogLines, Notice, Result
from launcher.run import RUN_ID, Run, Segment, State, Status
from launcher.runner import settle
from launcher.runner.context import Context
from launcher.runner.follow import note_facts
from launcher.runner.homes import claimed
from launcher.session import Session
from launcher.target import Range
from launcher.targets.disk import DiskFolder
from launcher.targets.registry import target_of
from launcher.vault import Home

MOST_FOLDERS = 50_000
MOST_END = published.MAX_EXIT_BYTES + 1
SESSION_ENDED = "the notebook's session ended"


def bring(ctx: Context, run: Run, folder: str) -> Iterator[Event]:
    """Every segment of the run that lies below `folder`, oldest first. Again: what has come is not taken twice."""
    found = _segments(run, Path(os.path.abspath(os.path.expanduser(folder))))
    with claimed(run) as home:
        for number in sorted(found):
            segment = ctx.ledger.run(run.id).segments[number]
            yield Notice(f"segment {number} of {run.id} is in {found[number]}")
            for event in _brought(ctx, run, segment, _Download(DiskFolder(found[number]), home)):
                if not isinstance(event, LogLines | Result):
                    yield event
            ended = ctx.ledger.run(run.id).segments[number]
            why = f" ({ended.reason})" if ended.reason else ""
            yield Notice(f"segment {number} of {run.id}: {ended.state}{why}")


class _Download:
    """A segment's folder as it was downloaded, and the home that it is to come to."""

    def __init__(self, folder: DiskFolder, home: Home) -> None:
        self.folder, self.home = folder, home

    def check(self, segment: Segment) -> None:
        """Nothing is taken from a folder whose log or manifest was changed after the end."""
        data = b"".join(chunk for _, chunk in self.folder.read([Range(records.EXIT, 0, MOST_END)]))
        if data:
            record = self._end(data, segment)
            self._same(records.LOG, (record.log_size, record.log_sha256))
            self._same(records.MANIFEST, (record.manifest_size, record.manifest_sha256))
        begun, digest = self.home.segment_digest(segment.number)
        if _hashed(self.folder, records.LOG, begun) != (begun, digest):
            raise IntegrityError(
                f"{self.folder.path / records.LOG} does not go on from what is home of this segment",
                "it was changed, or is an older download",
            )

    def _end(self, data: bytes, segment: Segment) -> published.ExitRecord:
        try:
            return published.exit_record(data, segment.run_id, segment.number)
        except IntegrityError as e:
            said = f"{self.folder.path / records.EXIT}: {e.message}"
            raise IntegrityError(said, e.hint or "download it again, into an empty folder") from e

    def lacking(self) -> list[str]:
        """Outputs that the manifest names and that are not in the folder."""
        data = b"".join(chunk for _, chunk in self.folder.read([Range(records.MANIFEST)]))
        named = [published.artifact(line) for line in data.splitlines() if line]
        files = [file for one in named if one and one.kind == "output" for file in one.files]
        return [f.path for f in files if self.folder.size(f"{records.OUT}/{f.path}") != f.size_bytes]

    def _same(self, name: str, told: tuple[int, str]) -> None:
        found = _hashed(self.folder, name)
        if found != told:
            raise IntegrityError(
                f"{self.folder.path / name} ({found[0]} bytes) is not what its exit record names ({told[0]} bytes)",
                "it was changed or is not whole: download it again",
            )


def _brought(ctx: Context, run: Run, segment: Segment, download: _Download) -> Iterator[Event]:
    download.check(segment)
    session = Session(download.folder, download.home, segment)
    try:
        yield from session.catch_up()
    except IntegrityError as e:
        lacking = download.lacking()
        if not lacking:
            raise
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise IntegrityError(
            f"{lacking[0]}{more} is not in {download.folder.path}, or not whole",
            "download it too, then the same command again: what has come is kept",
        ) from e
    note_facts(ctx, run, segment, session)
    if segment.handle.get("home"):
        yield Notice(f"segment {segment.number} was home already")
        return
    ctx.ledger.update_segment(run.id, segment.number, handed_over=True)
    if session.exit:
        yield from settle.proven(ctx, run, segment, session.exit)
        return
    status = _unproven(ctx, segment)
    if status.state.final:
        yield from settle.lost(ctx, run, segment, status)
    else:
        yield Notice(f"segment {segment.number} has not ended: what is there so far is home", "warning")


def _unproven(ctx: Context, segment: Segment) -> Status:
    """How a segment without an exit record ended. Where files can be fetched while it runs, the place is asked."""
    ended = Status(State.PREEMPTED, SESSION_ENDED)
    if segment.state.final:
        return Status(segment.state, segment.reason, segment.exit_code)
    target = target_of(ctx, segment.target)
    if not target.limits.live_checkpoints:
        return ended
    try:
        return target.status(segment)
    except LauncherError:
        return Status(segment.state)


def _segments(run: Run, top: Path) -> dict[int, Path]:
    """The folders `<run>/<n>` at any depth below `top`. SpecError when there is none."""
    if not top.is_dir():
        hint = "unpack it and name the folder" if top.is_file() else "name the folder that you downloaded"
        raise SpecError(f"--from-folder {top} is not a folder", hint)
    known = {str(segment.number) for segment in run.segments}
    found: dict[int, Path] = {}
    others: set[str] = set()
    for place in _folders(top):
        name, parent = place.name, place.parent.name
        if parent == run.id and name in known:
            found[int(name)] = _better(found.get(int(name)), place)
        elif re.fullmatch("[0-9]{1,4}", name) and RUN_ID.match(parent):
            others.add(parent if parent != run.id else f"segment {name}, which this ledger does not know")
    if not found:
        raise SpecError(
            f"nothing of {run.id} is below {top}"
            + (f": it holds {', '.join(sorted(others)[:3])}" if others else ""),
            f"name a folder with {run.id}/{len(run.segments) - 1} in it, as the notebook wrote it",
        )
    return found


def _folders(top: Path) -> Iterator[Path]:
    """`top` and all folders below it; links are not followed."""
    for count, (place, names, _) in enumerate(os.walk(top)):
        if count > MOST_FOLDERS:
            raise SpecError(f"{top} has more than {MOST_FOLDERS} folders", "name the one that you downloaded")
        here = Path(place)
        if here.name.isdigit() and RUN_ID.match(here.parent.name):
            names.clear()  # a segment's own folders are the job's
        yield here


def _better(one: Path | None, other: Path) -> Path:
    """Of two downloads of the same: the one with an end, else the one with more log."""
    return max((one, other), key=_worth) if one else other


def _worth(place: Path) -> tuple[bool, int]:
    folder = DiskFolder(place)
    return folder.size(records.EXIT) is not None, folder.size(records.LOG) or 0


def _hashed(folder: DiskFolder, name: str, length: int | None = None) -> tuple[int, str]:
    """Bytes and SHA-256 of a file, or of its first `length` bytes."""
    digest, size = hashlib.sha256(), 0
    for _, chunk in folder.read([Range(name, 0, length)]):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
