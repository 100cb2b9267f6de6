"""What every verb is given: where things are kept, who answers questions, and what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.config import Config
    from launcher.ledger import Ledger


@dataclass(frozen=True)
class Question:
    """Something only a person can answer; `flag` is what answers it without a terminal.

    `kind` is cost, size or host-key: `-y` answers the first two and never the third.
    """

    kind: str
    text: str
    flag: str


@dataclass(frozen=True)
class Context:
    """`ask` returns the answer, or raises Refused (126) where nobody can give one."""

    config: Config
    ledger: Ledger
    ask: Callable[[Question], bool]


@dataclass(frozen=True)
class RunRequest:
    """The words of `launcher run`, unparsed where the spec is needed to parse them."""

    job: str = "."
    on: Sequence[str] = ()
    params: Sequence[str] = ()  # k=v
    env: Sequence[str] = ()  # K=V, or K to copy from the environment
    name: str | None = None
    out: str | None = None
    detach: bool = False
    spot: bool = False
    timeout: str | None = None
    max_cost: str | None = None
    image: str = "build"  # build | ship
    keep: str | None = None
    source: str | None = None  # --from RUN[:CHECKPOINT]
    args: Sequence[str] = ()
    data: Sequence[str] = ()  # key=source, relative to the current folder


@dataclass(frozen=True)
class ResumeRequest:
    """The words of `launcher resume`."""

    on: str | None = None
    checkpoint: str | None = None
    timeout: str | None = None
    max_cost: str | None = None
    detach: bool = False


@dataclass(frozen=True)
class LogQuery:
    """Which lines of a run's log to show; `since` is a duration (10m) or an ISO time."""

    follow: bool = False
    tail: int | None = None
    since: str | None = None
    grep: str | None = None


@dataclass(frozen=True)
class PlanRow:
    """What would happen on one target."""

    target: str
    fits: bool
    why_not: str = ""
    form: str = ""  # docker | plain
    machine: str = ""
    price: str = "free"
    limits: Mapping[str, str] = field(default_factory=dict)
    travels: Mapping[str, int] = field(default_factory=dict)  # what -> bytes
    notes: Sequence[str] = ()
    setup_s: float | None = None  # before the job's first line, where that is paid for
