"""The locked interpreter, uv and every locked wheel as flat files, for a place without internet or as its cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.environment import EnvironmentPlan
from launcher.lock import Lock
from launcher.notebook.payload import PayloadFile

LISTING, UV, PYTHON = "wheelhouse.json", "uv.bin", "python.bin"


@dataclass(frozen=True)
class Fetched:
    """How far a collection is: file `name` is here; `done` of `total` files."""

    name: str
    done: int
    total: int


def collect(plan: EnvironmentPlan, lock: Lock | None, folder: Path) -> list[PayloadFile]:
    """Fetch what is missing into `folder` (for linux x86_64, from whatever machine this is); all files.

    wheelhouse.json, uv.bin, python.bin and one NAME.whl.bin a wheel; every hash is the lock's. Unreachable
    when an index does not answer, Refused when a locked package has no wheel for that platform.
    """
    raise NotImplementedError


def fetching(plan: EnvironmentPlan, lock: Lock | None, folder: Path) -> Iterator[Fetched]:
    """As `collect`, telling how far it is."""
    raise NotImplementedError
