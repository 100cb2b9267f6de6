"""Verified files get their names: at once or not at all, an older version replaced without a gap."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.errors import LauncherError
from launcher.vault import disk, swap
from launcher.vault.index import HomeArtifact, HomeFile


class Shelf:
    """The run's folder `root`, and two hidden ones in it: verified files by SHA-256, and a staging place."""

    def __init__(self, root: int, verified: int, staging: int, path: Path) -> None:
        self.root, self._verified, self._staging, self._path = root, verified, staging, path

    def place_file(self, artifact: HomeArtifact, ours: Collection[str]) -> tuple[str, ...]:
        """The one verified file of `artifact` under its final name; returns the folder, which wants a sync.
        `ours`: the paths that may be replaced."""
        (file,) = artifact.files
        parent, name = _split(file.at)
        with disk.trouble(self._path / file.at), self._parent(parent, ours) as fd:
            if disk.kind_of(fd, name) == "folder":
                staged = _staged(artifact)
                disk.remove_tree(self._staging, staged)
                os.rename(file.sha256, staged, src_dir_fd=self._verified, dst_dir_fd=self._staging)
                self._install(staged, (fd, name), file.at, ours)
            else:
                os.rename(file.sha256, name, src_dir_fd=self._verified, dst_dir_fd=fd)
        return parent

    def sync(self, parents: Iterable[tuple[str, ...]]) -> None:
        """Make the new names in these folders durable."""
        with disk.trouble(self._path):
            for parent in parents:
                with disk.folder(self.root, parent) as fd:
                    os.fsync(fd)

    def stage_folder(self, artifact: HomeArtifact) -> HomeArtifact:
        """All verified files of a folder as they will lie at home, but hidden; durable when this returns."""
        with disk.trouble(self._path):
            staged = _staged(artifact)
            disk.remove_tree(self._staging, staged)
            os.mkdir(staged, 0o700, dir_fd=self._staging)
            base = os.path.relpath(artifact.path, self._path)
            files: list[HomeFile] = []
            linked: set[str] = set()
            for file in artifact.files:
                parent, name = _split(file.at[len(base) + 1 :])
                with disk.folder(self._staging, (staged, *parent), create=True) as fd:
                    self._bring(file, fd, name, again=file.sha256 in linked)
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                linked.add(file.sha256)
                files.append(replace(file, mtime_ns=found.st_mtime_ns))
            self._sync_tree(staged)
            return replace(artifact, files=tuple(files))

    def place_folder(self, artifact: HomeArtifact, ours: Collection[str]) -> None:
        """The staged folder of `artifact` under its final name."""
        at = os.path.relpath(artifact.path, self._path)
        parent, name = _split(at)
        with disk.trouble(artifact.path), self._parent(parent, ours) as fd:
            if disk.kind_of(fd, name):
                self._install(_staged(artifact), (fd, name), at, ours)
            else:
                os.rename(_staged(artifact), name, src_dir_fd=self._staging, dst_dir_fd=fd)
                os.fsync(fd)
        self._forget_verified(artifact.files)

    def remove(self, artifact: HomeArtifact) -> None:
        """Take a checkpoint away, never half of it."""
        at = os.path.relpath(artifact.path, self._path)
        parent, name = _split(at)
        with disk.trouble(artifact.path), contextlib.suppress(FileNotFoundError):
            with disk.folder(self.root, parent) as fd:
                gone = f"{_staged(artifact)}.gone"
                disk.remove_tree(self._staging, gone)
                os.rename(name, gone, src_dir_fd=fd, dst_dir_fd=self._staging)
                os.fsync(fd)
                disk.remove_tree(self._staging, gone)

    def recover(self, artifacts: Sequence[HomeArtifact]) -> None:
        """Finish what a crash left between two renames, and clear the staging place."""
        with disk.trouble(self._path):
            left = set(os.listdir(self._staging))
            for artifact in artifacts:
                if _staged(artifact) in left and not artifact.path.exists():
                    parent, name = _split(os.path.relpath(artifact.path, self._path))
                    with disk.folder(self.root, parent, create=True) as fd:
                        os.rename(_staged(artifact), name, src_dir_fd=self._staging, dst_dir_fd=fd)
                        os.fsync(fd)
            for name in os.listdir(self._staging):
                disk.remove_tree(self._staging, name)

    def _bring(self, file: HomeFile, fd: int, name: str, again: bool) -> None:
        """Link a verified file into place, so that it is still there should this be interrupted.
        Content that a folder has twice is copied: files at home never share their bytes."""
        if not again:
            try:
                os.link(file.sha256, name, src_dir_fd=self._verified, dst_dir_fd=fd, follow_symlinks=False)
                return
            except OSError as e:
                if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                    raise
        disk.copy(self._verified, file.sha256, fd, name)

    def _install(self, staged: str, place: swap.Place, at: str, ours: Collection[str]) -> None:
        """What stands at `place` goes, if all that it could be is ours."""
        if disk.kind_of(*place) == "folder" and not any(path.startswith(at + "/") for path in ours):
            hint = "move it away: it was not brought home by launcher"
            raise LauncherError(f"the folder {self._path / at} is in the way", hint)
        swap.replace((self._staging, staged), place)
        os.fsync(place[0])
        disk.remove_tree(self._staging, staged)

    @contextlib.contextmanager
    def _parent(self, parts: Sequence[str], ours: Collection[str]) -> Iterator[int]:
        """The open folder `parts`, made if need be; a file of ours that stands in its way goes."""
        for depth in range(1, len(parts) + 1):
            at = "/".join(parts[:depth])
            if at in ours:
                with disk.folder(self.root, parts[: depth - 1], create=True) as fd:
                    if disk.kind_of(fd, parts[depth - 1]) == "file":
                        os.unlink(parts[depth - 1], dir_fd=fd)
        with disk.folder(self.root, parts, create=True) as fd:
            yield fd

    def _sync_tree(self, name: str) -> None:
        with disk.folder(self._staging, (name,)) as fd:
            for _, _, _, below in os.fwalk(dir_fd=fd):
                os.fsync(below)

    def _forget_verified(self, files: Sequence[HomeFile]) -> None:
        for sha256 in {file.sha256 for file in files}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(sha256, dir_fd=self._verified)


def _staged(artifact: HomeArtifact) -> str:
    return f"{artifact.segment}.{artifact.number}"


def _split(at: str) -> tuple[tuple[str, ...], str]:
    *parent, name = at.split("/")
    return tuple(parent), name
