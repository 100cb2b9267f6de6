"""What a run is: runs, segments, their states, and how states advance (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

NONCE_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
RUN_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,40}-[a-z2-7]{8}$")


class State(StrEnum):
    """Where a segment is; the last six are final and absorb."""

    PENDING = "pending"
    PROVISIONING = "provisioning"
    BUILDING = "building"
    SYNCING = "syncing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    PREEMPTED = "preempted"
    LOST = "lost"

    @property
    def final(self) -> bool:
        return self in FINAL


FINAL = frozenset(
    {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.PREEMPTED, State.LOST}
)
ORDER = list(State)
REFUSED = "refused: "  # how the reason of a segment begins that was refused before it cost anything


def advance(old: State, new: State) -> State:
    """The state after hearing `new`: never backwards, never out of a final state."""
    if old.final:
        return old
    if new.final:
        return new
    return new if ORDER.index(new) > ORDER.index(old) else old


@dataclass(frozen=True)
class Status:
    """What one look at a segment said. `exit_code` is the job's own, or None."""

    state: State
    reason: str = ""
    exit_code: int | None = None
    unreachable: bool = False


@dataclass(frozen=True)
class File:
    """One file of an artifact: path relative to $LAUNCHER_OUT, bytes, hex SHA-256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """Something the agent published: `number` is its publication number within the segment."""

    number: int
    kind: str  # checkpoint | output
    name: str
    files: Sequence[File]
    digest: str
    size_bytes: int
    time: str = ""
    folder: bool = False


@dataclass(frozen=True)
class Segment:
    """One stay of a run on one place. `handle` is what the target needs to find it again."""

    run_id: str
    number: int
    target: str
    handle: Mapping[str, Any] = field(default_factory=dict)
    state: State = State.PENDING
    reason: str = ""
    exit_code: int | None = None
    first_seq: int = 1
    log_base_bytes: int = 0  # size of the home log when this segment began
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    released_at: str | None = None
    unreachable_since: str | None = None
    handed_over: bool = False


@dataclass(frozen=True)
class Resource:
    """Something of ours that exists somewhere; without `released_at` it may still cost."""

    kind: str  # folder, container, image, machine, volume, key …
    id: str
    nonce: str
    paid: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One execution of a job. `spec` and `facts` are plain JSON, recorded once and used by every later command."""

    id: str
    name: str
    created_at: str
    home: str  # absolute
    spec: Mapping[str, Any]
    facts: Mapping[str, Any]  # job_digest, bundle_digest, lock_digest, bundle_bytes, source, args
    segments: Sequence[Segment] = ()
    parent: str | None = None

    @property
    def nonce(self) -> str:
        return self.id[-8:]

    @property
    def newest(self) -> Segment | None:
        return self.segments[-1] if self.segments else None

    @property
    def state(self) -> State:
        return self.newest.state if self.newest else State.PENDING


def new_id(name: str) -> str:
    """`<name>-<8 of a-z2-7>`: 40 random bits."""
    import secrets  # here, because it brings OpenSSL, which `ps` need not pay for

    return name + "-" + "".join(secrets.choice(NONCE_ALPHABET) for _ in range(8))


def process_exit_code(state: State, exit_code: int | None, reason: str = "") -> int:
    """What `run`, `attach`, `wait` end with, for a run in a final state (design: exit codes)."""
    if state is State.SUCCEEDED:
        return 0
    if state in (State.TIMED_OUT, State.PREEMPTED):
        return 124
    if state is State.FAILED and exit_code is None:
        return 126 if reason.startswith(REFUSED) else 125
    if state is State.FAILED:
        return exit_code or 125
    if state is State.CANCELLED:
        return 137 if exit_code is None else exit_code
    return 125


def missing(wanted: Sequence[Artifact], home: Mapping[str, str]) -> list[Artifact]:
    """Of `wanted`, what is not home yet: `home` maps an artifact's name to the digest that is there."""
    newest = {artifact.name: artifact for artifact in wanted}
    return [a for a in newest.values() if home.get(a.name) != a.digest]
