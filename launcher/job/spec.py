"""What a job is: the spec as frozen values with their defaults, and the plain JSON they are recorded as.

Units are in the names (seconds, bytes). Nothing here reads YAML (parse.py) or a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from launcher.job.gpu import Gpu
from launcher.job.record import from_plain, to_plain

Scalar = str | int | float | bool | None

BASE = "ubuntu:22.04"
RETRY_ON = ("preempted", "lost", "time")


@dataclass(frozen=True)
class Files:
    """Which files travel: patterns as in .gitignore, on top of the ignore files of the job's folder."""

    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  # files and folders outside it, relative to it


@dataclass(frozen=True)
class Environment:
    """The interpreter, the packages and the image. Exactly one of base, image and dockerfile is set."""

    python: str | None = None  # None: decided when the job is locked or run
    requirements: str | None = None  # path of the lock, relative to the job's folder
    base: str | None = BASE
    image: str | None = None  # name@sha256:…
    dockerfile: str | None = None
    apt: tuple[str, ...] = ()
    torch: str = "auto"
    index: tuple[str, ...] = ()

    @property
    def needs_docker(self) -> bool:
        return bool(self.image or self.dockerfile or self.apt)

    def canonical(self) -> dict[str, Any]:
        """Every key as plain JSON: part of the bundle, so equal environments give equal digests."""
        plain: dict[str, Any] = to_plain(self)
        return plain


@dataclass(frozen=True)
class Resources:
    """What one machine must have at least; None leaves it to the target."""

    gpu: Gpu | None = None
    count: int = 1
    cpu: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    spot: bool = False
    nodes: int = 1

    @property
    def gpus(self) -> int:
        """How many GPUs: 0 when none was asked for."""
        return self.count if self.gpu else 0


@dataclass(frozen=True)
class Checkpoints:
    every_s: float = 600.0
    keep: Literal["all"] | int = "all"


@dataclass(frozen=True)
class Limits:
    """Bounds of the whole run, over all its segments."""

    time_s: float = 6 * 3600.0
    cost: Decimal | None = None  # None: no paid target is ever used
    idle_s: float = 15 * 60.0
    stall_s: float | None = None


@dataclass(frozen=True)
class Retry:
    max: int = 3
    on: tuple[str, ...] = RETRY_ON


@dataclass(frozen=True)
class JobSpec:
    """All that job.yaml says, with the defaults filled in."""

    name: str
    run: str | tuple[str, ...]  # for sh -c, or argv
    params: Mapping[str, Scalar] = field(default_factory=dict)
    files: Files = Files()
    environment: Environment = Environment()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    checkpoints: Checkpoints = Checkpoints()
    limits: Limits = Limits()
    retry: Retry = Retry()
    targets: tuple[str, ...] = ("local",)
    store: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Every key, as plain JSON: what the ledger and the capsule record."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> JobSpec:
        """A recorded spec; IntegrityError when this version cannot have written it."""
        return from_plain(cls, plain, "spec")


@dataclass(frozen=True)
class RequirementsSource:
    """Where the packages of a job are named, for whoever writes its lock.

    kind: `none`; `lock` (`path` is a lock that is there or will be; job.yaml names it); `requirements` and
    `pyproject` (`path` is the file); `header` (`dependencies` from the script at `path`, PEP 723).
    """

    kind: Literal["none", "lock", "requirements", "pyproject", "header"] = "none"
    path: Path | None = None
    dependencies: tuple[str, ...] = ()
    requires_python: str | None = None


@dataclass(frozen=True)
class LoadedJob:
    """A spec and the folder it is about. `source` is its job.yaml; None when a script had none."""

    spec: JobSpec
    root: Path  # absolute
    source: Path | None
    inferred: bool = False
    requirements_source: RequirementsSource = RequirementsSource()
