"""What is home: a line for each publication in a hidden file, believed as far as the disk agrees."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.vault.disk import HIDDEN

INDEX = "index.jsonl"
Key = tuple[str, str]  # (kind, name)
Order = tuple[int, int]  # (segment, publication number)


@dataclass(frozen=True)
class HomeFile:
    """A file of an artifact: its path in $LAUNCHER_OUT, its path at home, and what it was when it came."""

    path: str
    at: str
    size_bytes: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True)
class HomeArtifact:
    """A checkpoint or output that is home, verified. Order is (segment, number), never name or time."""

    segment: int
    number: int
    kind: str  # checkpoint | output
    name: str
    digest: str
    size_bytes: int
    time: str
    folder: bool
    path: Path
    files: Sequence[HomeFile]

    @property
    def order(self) -> Order:
        return self.segment, self.number

    @property
    def key(self) -> Key:
        return self.kind, self.name

    @property
    def best(self) -> bool:
        """Named `best` or `best.*`: kept whatever else goes, and never what a run resumes from by itself."""
        return is_best(self.kind, self.name)


def is_best(kind: str, name: str) -> bool:
    return kind == "checkpoint" and (name == "best" or name.startswith("best."))


class Index:
    """The index of the run's folder `home`; `load` takes in what has been added since."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._seen = 0  # bytes of the index that are taken in
        self._versions: dict[Key, list[HomeArtifact]] = {}
        self._contents: dict[str, list[HomeFile]] = {}
        self._dropped: set[tuple[Order, Key]] = set()
        self._read_again: dict[tuple[tuple[str, int], ...], bool] = {}
        self.closed = 0  # segments below are fenced off

    def load(self) -> Index:
        """As it is now on the disk; a line that a crash has torn does not count."""
        try:
            with (self._home / HIDDEN / INDEX).open("rb") as file:
                file.seek(self._seen)
                data = file.read()
        except FileNotFoundError:
            return self
        complete = data[: data.rfind(b"\n") + 1]
        self._seen += len(complete)
        for line in complete.split(b"\n")[:-1]:
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue
        return self

    def artifacts(self, kind: str = "") -> list[HomeArtifact]:
        """The version of each name that stands on the disk as it came, in the order of publication."""
        keys = [key for key in self._versions if kind in ("", key[0])]
        standing = [found for key in keys if (found := self.standing(key))]
        return sorted(standing, key=lambda artifact: artifact.order)

    def standing(self, key: Key) -> HomeArtifact | None:
        """The newest that stands as it came; else the newest, if its bytes do (copied or touched since)."""
        versions = [a for a in self._versions.get(key, []) if (a.order, key) not in self._dropped]
        exact = next((artifact for artifact in reversed(versions) if self._stands(artifact)), None)
        if exact or not versions or not self._same_bytes(versions[-1]):
            return exact
        return versions[-1]

    def known(self, key: Key) -> Order:
        """Which version of a name was home last, even if `keep` has let it go since; (-1, -1) for none."""
        standing = self.standing(key)
        orders = [standing.order] if standing else []
        orders += [a.order for a in self._versions.get(key, []) if (a.order, key) in self._dropped]
        return max(orders, default=(-1, -1))

    def let_go(self) -> list[HomeArtifact]:
        """What was let go and stands nevertheless: a crash came between."""
        here = {artifact.path for artifact in self.artifacts()}
        everything = [artifact for versions in self._versions.values() for artifact in versions]
        dropped = [a for a in everything if (a.order, a.key) in self._dropped and a.path not in here]
        return [artifact for artifact in dropped if self._stands(artifact)]

    def ever(self) -> list[HomeArtifact]:
        """All versions that ever came."""
        return [artifact for versions in self._versions.values() for artifact in versions]

    def with_content(self, sha256: str) -> Path | None:
        """A file at home with this content, as far as its size and time tell."""
        files = reversed(self._contents.get(sha256, []))
        return next((self._home / file.at for file in files if self._as_it_came(file)), None)

    def _stands(self, artifact: HomeArtifact) -> bool:
        return all(self._as_it_came(file) for file in artifact.files)

    def _as_it_came(self, file: HomeFile) -> bool:
        return _size_and_time(self._home / file.at) == (file.size_bytes, file.mtime_ns)

    def _same_bytes(self, artifact: HomeArtifact) -> bool:
        """Read all of it, once for each state that it is found in."""
        found = [(file, _size_and_time(self._home / file.at)) for file in artifact.files]
        if any(size != file.size_bytes for file, (size, _) in found):
            return False
        state = tuple((file.at, mtime_ns) for file, (_, mtime_ns) in found)
        if state not in self._read_again:
            same = all(sha256_of(self._home / file.at) == file.sha256 for file in artifact.files)
            self._read_again[state] = same
        return self._read_again[state]

    def _take(self, value: Mapping[str, Any]) -> None:
        if value["t"] == "home":
            artifact = _artifact(value, self._home)
            self._versions.setdefault(artifact.key, []).append(artifact)
            for file in artifact.files:
                self._contents.setdefault(file.sha256, []).append(file)
        elif value["t"] == "dropped":
            order, key = (value["segment"], value["number"]), (value["kind"], value["name"])
            self._dropped.add((order, key))
        elif value["t"] == "closed":
            self.closed = max(self.closed, value["below"])


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """The digest of a file, or of a folder as a checkpoint, from its bytes."""
    if not path.is_dir():
        return sha256_of(path)
    files = sorted(below for below in path.rglob("*") if below.is_file())
    return str(
        records.tree_digest([(str(f.relative_to(path)), f.stat().st_size, sha256_of(f)) for f in files])
    )


def line_home(artifact: HomeArtifact, home: Path) -> bytes:
    at = os.path.relpath(artifact.path, home)
    files = [asdict(file) for file in artifact.files]
    return _line({"t": "home", **_plain(artifact), "path": at, "files": files})


def line_dropped(artifact: HomeArtifact) -> bytes:
    segment, number = artifact.order
    value = {
        "t": "dropped",
        "segment": segment,
        "number": number,
        "kind": artifact.kind,
        "name": artifact.name,
    }
    return _line(value)


def line_closed(below: int) -> bytes:
    return _line({"t": "closed", "below": below})


def _plain(artifact: HomeArtifact) -> dict[str, Any]:
    return {field.name: getattr(artifact, field.name) for field in fields(artifact)}


def _artifact(value: Mapping[str, Any], home: Path) -> HomeArtifact:
    names = (field.name for field in fields(HomeArtifact))
    known = {name: value[name] for name in names}
    files = tuple(HomeFile(**file) for file in value["files"])
    return HomeArtifact(**{**known, "path": home / value["path"], "files": files})


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and modification time of a regular file; (-1, -1) for anything else."""
    try:
        found = path.lstat()
    except OSError:
        return -1, -1
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (-1, -1)


def _line(value: Mapping[str, Any]) -> bytes:
    return bytes(records.line(dict(value)))
