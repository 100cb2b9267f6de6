"""Bringing what a segment published home: checked, received, verified, then named; old checkpoints let go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.run import Artifact, File
from launcher.vault import disk
from launcher.vault.appender import Appender
from launcher.vault.check import checked, root_of
from launcher.vault.index import HomeArtifact, HomeFile, Index, line_dropped, line_home
from launcher.vault.keep import Keep, let_go
from launcher.vault.metrics import Metrics
from launcher.vault.names import Names
from launcher.vault.place import Shelf
from launcher.vault.receive import Inbox, Reader

BATCH_FILES, BATCH_BYTES = 1000, 16 << 20  # small files share the syncs of the index and of their folders


@dataclass
class Publisher:
    """What the one writer of a run's home publishes with.

    The index says it first, then the name appears: a line whose file is not there counts for nothing, and a
    file without a line would be fetched again. `lines` appends to the index.
    """

    home: Path
    index: Index
    names: Names
    shelf: Shelf
    inbox: Inbox
    lines: Appender
    metrics: Metrics
    keep: Keep

    def publish(self, artifacts: Sequence[Artifact], segment: int, reader: Reader) -> None:
        """All of `artifacts` home. What fails raises; what came right before it is home."""
        self.index.load()
        if segment < self.index.closed:
            said = f"segment {segment} is over: a later one has begun, and takes its place"
            raise IntegrityError(said, "what it publishes now stays on its machine")
        new = [checked(a) for a in artifacts if (segment, a.number) > self.index.known((a.kind, a.name))]
        new = [artifact for artifact in new if not self._renew(artifact, segment)]
        now, later = _without_shared_content(new)
        self._receive(now, segment, reader)
        if later:
            self.publish(later, segment, reader)

    def path_of(self, artifact: Artifact) -> Path:
        """Where it is at home, or will be."""
        if _is_metrics(artifact):
            return self.home / records.METRICS
        return self.home / self.names.place(root_of(artifact), ours=artifact.kind == "checkpoint")

    def _receive(self, artifacts: Sequence[Artifact], segment: int, reader: Reader) -> None:
        waiting = _Waiting(artifacts)
        files = {file.sha256: file for artifact in artifacts for file in artifact.files}
        adopted = {sha256 for sha256, file in files.items() if self._adopt(file)}
        ready = waiting.complete(adopted)
        arrived_bytes = 0
        try:
            wanted = [file for sha256, file in files.items() if sha256 not in adopted]
            for file in self.inbox.receive(wanted, reader):
                ready += waiting.complete({file.sha256})
                arrived_bytes += file.size_bytes
                if ready and (len(ready) >= BATCH_FILES or arrived_bytes >= BATCH_BYTES):
                    ready, batch, arrived_bytes = [], ready, 0
                    self._place(batch, segment)
        finally:
            self._place(ready, segment)

    def _adopt(self, file: File) -> bool:
        """What another name at home has already needs no transfer."""
        if file.size_bytes and self.inbox.size(file) < file.size_bytes:
            source = self.index.with_content(file.sha256)
            return source is not None and self.inbox.adopt(file, source)
        return False

    def _renew(self, artifact: Artifact, segment: int) -> bool:
        """Published anew with the same bytes: only its place in the order is new."""
        old = self.index.standing((artifact.kind, artifact.name))
        if old is None or old.digest != artifact.digest or old.folder != artifact.folder:
            return False
        self._note([replace(old, segment=segment, number=artifact.number, time=artifact.time)])
        return True

    def _place(self, artifacts: Sequence[Artifact], segment: int) -> None:
        """Verified artifacts under their final names, then what `keep` no longer wants away."""
        if not artifacts:
            return
        self.inbox.settle()
        staged = [self._stage(artifact, segment) for artifact in artifacts]
        ours = {file.at for artifact in self.index.ever() for file in artifact.files}
        self._note(staged)
        parents = set()
        for artifact in staged:
            if artifact.folder:
                self.shelf.place_folder(artifact, ours)
            elif artifact.files:
                parents.add(self.shelf.place_file(artifact, ours))
        self.shelf.sync(parents)
        if any(artifact.kind == "checkpoint" for artifact in staged):
            self.let_go()

    def _stage(self, artifact: Artifact, segment: int) -> HomeArtifact:
        """What the index will say of it; folders and metrics are made ready on the way."""
        found = HomeArtifact(
            segment=segment,
            number=artifact.number,
            kind=artifact.kind,
            name=artifact.name,
            digest=artifact.digest,
            size_bytes=sum(file.size_bytes for file in artifact.files),
            time=artifact.time,
            folder=artifact.folder,
            path=self.path_of(artifact),
            files=()
            if _is_metrics(artifact)
            else [self._home_file(artifact, file) for file in artifact.files],
        )
        if _is_metrics(artifact):
            self.metrics.replace(self.inbox.take(artifact.files[0]), segment)
        return self.shelf.stage_folder(found) if artifact.folder else found

    def _home_file(self, artifact: Artifact, file: File) -> HomeFile:
        at = self.names.place(file.path, ours=artifact.kind == "checkpoint")
        with disk.trouble(self.home / at):
            found = os.stat(file.sha256, dir_fd=self.inbox.fd, follow_symlinks=False)
        return HomeFile(file.path, at, file.size_bytes, file.sha256, found.st_mtime_ns)

    def let_go(self) -> None:
        """Take away the checkpoints that `keep` no longer wants."""
        gone = let_go(self.index.artifacts("checkpoint"), self.keep)
        if gone:
            self.lines.append(b"".join(map(line_dropped, gone)))
            self.lines.sync()
            self.index.load()
        for artifact in gone:
            self.shelf.remove(artifact)

    def _note(self, artifacts: Sequence[HomeArtifact]) -> None:
        self.lines.append(b"".join(line_home(artifact, self.home) for artifact in artifacts))
        self.lines.sync()
        self.index.load()


def _without_shared_content(artifacts: Sequence[Artifact]) -> tuple[list[Artifact], list[Artifact]]:
    """Those that share no content with one before; and the others, which can then be copied at home."""
    seen: set[str] = set()
    first: list[Artifact] = []
    others: list[Artifact] = []
    for artifact in artifacts:
        content = {file.sha256 for file in artifact.files}
        (others if content & seen else first).append(artifact)
        seen |= content
    return first, others


class _Waiting:
    """Which artifacts still wait for which contents."""

    def __init__(self, artifacts: Sequence[Artifact]) -> None:
        self._artifacts = artifacts
        self._missing = {i: {file.sha256 for file in a.files} for i, a in enumerate(artifacts)}
        self._wanted_by: dict[str, list[int]] = {}
        for i, contents in self._missing.items():
            for sha256 in contents:
                self._wanted_by.setdefault(sha256, []).append(i)
        self._empty = [i for i, contents in self._missing.items() if not contents]

    def complete(self, came: set[str]) -> list[Artifact]:
        """The artifacts that have all their files now that `came` came."""
        done, self._empty = self._empty, []
        for sha256 in came:
            for i in self._wanted_by.pop(sha256, ()):
                self._missing[i].discard(sha256)
                if not self._missing[i]:
                    done.append(i)
        return [self._artifacts[i] for i in sorted(done)]


def _is_metrics(artifact: Artifact) -> bool:
    return artifact.kind == "output" and artifact.name == records.METRICS
