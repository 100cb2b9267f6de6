"""One source of a run's data as it is recorded: where it came from, and the digest of what it held."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.agent import datastore, records
from launcher.errors import IntegrityError, LauncherError
from launcher.ledger.files import private_folder

Entry = tuple[str, int, str]  # path (of a single file: ""), size in bytes, SHA-256
DOWNLOAD = "#sha256="


@dataclass(frozen=True)
class Source:
    """`digest` is None for a download: its size, which is part of it, is known when it has come."""

    key: str
    origin: str  # an absolute path, or https://…#sha256=…
    kept: Path  # where the lists of contents lie: $LAUNCHER_HOME/data
    digest: str | None = None
    files: int | None = None
    size_bytes: int | None = None

    @property
    def sha256(self) -> str | None:
        """Of a download, what its bytes must hash to."""
        return self.origin.rpartition(DOWNLOAD)[2] if "://" in self.origin else None

    def facts(self) -> dict[str, Any]:
        """What is recorded with the run."""
        known = {"digest": self.digest, "files": self.files, "size_bytes": self.size_bytes}
        return {"source": self.origin, **known, **({"sha256": self.sha256} if self.sha256 else {})}

    def path_of(self, inside: str) -> str:
        """A file of a local source on this disk."""
        return os.path.join(self.origin, inside) if inside else self.origin


def recorded(facts: Mapping[str, Any], kept: Path) -> tuple[Source, ...]:
    """The sources of a recorded run."""
    return tuple(
        Source(key, told["source"], kept, told["digest"], told["files"], told["size_bytes"])
        for key, told in sorted(facts.items())
    )


def keep(kept: Path, files: list[Entry]) -> str:
    """Write the list durably under its digest, which is returned."""
    digest: str = records.tree_digest(files)
    try:
        private_folder(kept)
        if not (kept / f"{digest}.json").exists():
            records.write_durably(str(kept / f"{digest}.json"), datastore.encode(files))
    except OSError as error:
        raise LauncherError(
            f"cannot write to {kept}: {error.strerror}", "free some space, or set LAUNCHER_HOME"
        ) from error
    return digest


def contents(source: Source) -> list[Entry]:
    """The recorded list of a local source; IntegrityError when it is gone or damaged."""
    assert source.digest is not None
    try:
        return [
            (path, size, sha)
            for path, size, sha in datastore.load(str(source.kept / f"{source.digest}.json"), source.digest)
        ]
    except datastore.Damaged as error:
        what = f"the list of data {source.key} in {source.kept} cannot be used: {error}"
        raise IntegrityError(what, "start a new run with `launcher run`") from error
