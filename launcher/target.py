"""The seam: a target is a way to get a folder on a machine; then all doors are alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from launcher.run import Resource as Resource  # part of the seam, stored by the ledger below it
from launcher.run import Segment, State, Status


@dataclass(frozen=True)
class Limits:
    """What a door can and cannot do, as data: checked before anything is submitted."""

    own_image: bool = True
    live: bool = True
    survives_laptop: bool = True
    secrets: bool = True  # their values are sent from here; False: the place has its own
    cancel: bool = True
    nodes: int = 1
    max_time_s: float | None = None  # the place ends a segment after so long
    gpus: bool = True
    way_in: bool = True  # exec, ssh, forward
    live_checkpoints: bool = True  # they come home while the job runs, not only at the segment's end


@dataclass(frozen=True)
class Finding:
    """One line of `check`: ok, or what is wrong and how to mend it."""

    what: str
    ok: bool
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Offer:
    """A place that would do: price of the whole machine per hour (None: free), or why not."""

    target: str
    what: str
    price_per_hour: str | None = None
    currency: str = ""
    fits: bool = True
    why_not: str = ""
    form: str = ""  # docker | plain
    notes: Sequence[str] = ()
    setup_s: float | None = None  # what the place needs before the job's first line, where that is paid for


@dataclass(frozen=True)
class Quota:
    """Free hours of an account, or its balance: `used` and `total` in `unit` (hours, compute units)."""

    target: str
    what: str  # GPU, TPU, compute units …
    unit: str
    used: float | None = None
    total: float | None = None
    left: float | None = None
    refreshes_at: str = ""  # ISO 8601, UTC
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Need:
    """What a place must offer for a job: a JobSpec, and its Lock if there is one."""

    spec: Any
    lock: Any = None


@dataclass(frozen=True)
class Step:
    """A save point of `submit` or `release`, and what the progress bar shows."""

    state: State
    phase: str = ""
    detail: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    handle: Mapping[str, Any] | None = None
    resource: Resource | None = None
    released: Resource | None = None
    handed_over: bool = False
    notice: str = ""  # a line that the user should see even without a terminal


@dataclass(frozen=True)
class Range:
    """Bytes [offset, offset+length) of a file in the segment's folder; length None = to the end."""

    path: str
    offset: int = 0
    length: int | None = None


class Folder(Protocol):
    """A segment's folder where it lies: a disk, behind SSH, a bucket, a notebook server.

    Raises Unreachable when there is no answer, RemoteError(code "missing") when the folder is gone.
    """

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        """Chunks as (index into `wanted`, bytes), in order; a missing file yields nothing. One round trip."""

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        """(path below `path`, size, time of change) of the regular files at any depth whose last name fits a
        pattern; none when there is no such folder. The names are the other side's words."""

    def follow(self, offsets: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Blocks; yields (path, bytes) as the files grow, each from its offset; (“”, b"") at least every 5 s as a
        heartbeat; `records.SAID` is what the place said before the agent, for the screen only; ends when
        exit.json exists and everything was sent, or when no agent lives there."""

    def put(self, path: str, data: bytes) -> None:
        """Write a small file (control/stop) whole."""


class Target(Protocol):
    """A way to get a place for one segment. Keeps nothing: `submit` yields what must be remembered."""

    name: str
    limits: Limits

    def warm(self) -> None: ...
    def check(self) -> Iterator[Finding]: ...
    def offers(self, need: Need) -> list[Offer]: ...
    def submit(self, order: Submission) -> Iterator[Step]: ...
    def status(self, segment: Segment) -> Status: ...
    def open(self, segment: Segment) -> AbstractContextManager[Folder]: ...
    def cancel(self, segment: Segment, grace_s: float) -> None: ...
    def release(self, segment: Segment) -> Iterator[Step]: ...
    def owned(self) -> list[Resource]: ...
    def quota(self) -> list[Quota]: ...
    def lacking(self, data: Sequence[Any]) -> Mapping[str, int]: ...  # key -> bytes that would travel


@dataclass(frozen=True)
class Submission:
    """All that a place needs to run one segment; `secrets` never reaches a disk of ours."""

    segment: Segment
    spec: Any  # job.spec.JobSpec
    bundle: Any  # bundle.Bundle
    order: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    lock: Any = None  # lock.Lock, or None: standard library only
    resume_from: Any = None  # vault.HomeArtifact, or None
    image: str = "build"  # build | ship
    data: Sequence[Any] = ()  # of data.source.Source, by key
