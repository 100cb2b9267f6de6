"""Hashes that need not be taken again: of each file of a source, and what stat said when it was hashed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.agent import records
from launcher.data.walk import Found
from launcher.ledger.files import private_folder

VERSION = 1
RACY_NS = 2 * 10**9  # a write so soon before the hash may have left the same times as one just behind it


@dataclass(frozen=True)
class Seen:
    """`hashed_at_ns`: when reading began."""

    identity: tuple[int, ...]
    sha256: str
    hashed_at_ns: int

    @property
    def settled(self) -> bool:
        """Whether a later write cannot hide behind the same times."""
        return max(self.identity[1], self.identity[2]) < self.hashed_at_ns - RACY_NS


def load(kept: Path, source: str) -> dict[str, Seen]:
    """What is known of the files of a source, by their paths in it; nothing if the cache cannot be read."""
    try:
        value = json.loads(_file(kept, source).read_bytes())
        if value["v"] != VERSION:
            return {}
        return {
            path: Seen(tuple(line[:4]), str(line[4]), int(line[5])) for path, line in value["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return {}


def save(kept: Path, source: str, known: Mapping[str, Seen]) -> None:
    """Best effort: without it the next run only takes longer."""
    files = {path: [*one.identity, one.sha256, one.hashed_at_ns] for path, one in known.items()}
    with contextlib.suppress(OSError):
        private_folder(kept)
        private_folder(kept / "seen")
        records.write_durably(str(_file(kept, source)), records.canonical({"v": VERSION, "files": files}))


def still(known: Mapping[str, Seen], found: Iterable[Found]) -> dict[str, str]:
    """path -> hash of the files that stat says are as they were, and that cannot have changed unseen."""
    return {
        file.path: known[file.path].sha256
        for file in found
        if file.path in known and known[file.path].identity == file.identity and known[file.path].settled
    }


def _file(kept: Path, source: str) -> Path:
    return kept / "seen" / f"{hashlib.sha256(os.fsencode(source)).hexdigest()[:32]}.json"
