"""What a published thing must be before a byte of it is asked for (pure)."""

from __future__ import annotations

import re

from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.run import Artifact, File
from launcher.vault.names import parts_of

HEX = re.compile(r"[0-9a-f]{64}")
MAX_FILES = 100_000
MAX_BYTES = 1 << 53


def checked(artifact: Artifact) -> Artifact:
    """`artifact`, if all it says of itself fits together. IntegrityError otherwise."""
    shown = f"{artifact.kind} {str(artifact.name)[:80]!r}"
    if problem := _problem(artifact):
        raise IntegrityError(f"{shown}: {problem}", "is this server yours?")
    return artifact


def root_of(artifact: Artifact) -> str:
    """Where in $LAUNCHER_OUT it lies."""
    inside = artifact.kind == "checkpoint"
    return f"{records.CHECKPOINTS}/{artifact.name}" if inside else artifact.name


def _problem(artifact: Artifact) -> str:
    parts = parts_of(artifact.name)
    if artifact.kind not in ("checkpoint", "output") or not _count(artifact.number):
        return "neither a checkpoint nor an output, or without a number"
    if artifact.kind == "checkpoint" and len(parts) != 1:
        return "a checkpoint lies directly under checkpoints/"
    if artifact.kind == "output" and (
        (len(parts) > 1 and parts[0] == records.CHECKPOINTS) or artifact.folder
    ):
        return "an output is a file outside of checkpoints/"
    if len(artifact.files) > MAX_FILES or (not artifact.folder and len(artifact.files) != 1):
        return f"{len(artifact.files)} files"
    return next(filter(None, map(_file_problem, artifact.files)), "") or _tree_problem(artifact)


def _file_problem(file: File) -> str:
    parts_of(file.path)
    if not _count(file.size_bytes) or not isinstance(file.sha256, str) or not HEX.fullmatch(file.sha256):
        return f"no size or no SHA-256 of {file.path[:80]!r}"
    return ""


def _tree_problem(artifact: Artifact) -> str:
    root, paths = root_of(artifact), {file.path for file in artifact.files}
    if len(paths) != len(artifact.files):
        return "a file is named twice"
    if not artifact.folder:
        same = artifact.files[0].sha256 == artifact.digest
        return "" if paths == {root} and same else "its file is another"
    if not all(path.startswith(root + "/") for path in paths):
        return "a file lies elsewhere"
    parents = {"/".join(parts_of(path)[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    if parents & paths:
        return "a file is a folder, too"
    below = [(file.path[len(root) + 1 :], file.size_bytes, file.sha256) for file in artifact.files]
    return "" if records.tree_digest(below) == artifact.digest else "its digest is not that of its files"


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_BYTES
