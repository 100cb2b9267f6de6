"""A built environment as a few uncompressed archives: a notebook unpacks it faster than it unpacks wheels.

Only a Linux machine can make one, with the script that builds every environment. Nothing in it depends on where
it was made: the listing says which texts and links hold that place's name, and the notebook writes its own there.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import environment, tools
from launcher.environment import EnvironmentPlan, VenvPaths
from launcher.notebook.payload import ARCH, PayloadFile

PARTS = 4  # unpacked side by side
MAX_TEXT_BYTES = 4 << 20


@dataclass(frozen=True)
class Frozen:
    """The archives, and what wheelhouse.json says of them."""

    files: tuple[PayloadFile, ...]
    told: dict[str, Any]


def can_be_made(plan: EnvironmentPlan) -> bool:
    """Here, and as exactly what would be built there."""
    here = platform.system() == "Linux" and platform.machine() == ARCH
    return here and "python.json" in plan.files


def freeze(plan: EnvironmentPlan, folder: Path) -> Frozen | None:
    """Build it and pack it into `folder`; None where the locked interpreter cannot be had."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as root:
        if not _built(plan, root):
            return None
        found = _found(Path(root))
        texts = [path for path, kind in found if kind == "file" and _holds(Path(root, path), root)]
        links = [path for path, kind in found if kind == "link" and root in os.readlink(Path(root, path))]
        parts = _parts(Path(root), [path for path, _ in found])
        files = tuple(_pack(Path(root), paths, folder / f"frozen-{n}.bin") for n, paths in enumerate(parts))
        told = {"root": root, "texts": texts, "links": links, "parts": [file.name for file in files]}
        return Frozen(files, told)


def _built(plan: EnvironmentPlan, root: str) -> bool:
    uv = tools.uv_binary("linux", ARCH)
    script = environment.venv_script(plan, VenvPaths(root, str(uv.path)))
    done = subprocess.run(["sh", "-s"], input=script.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        return False
    return bool(json.loads(done.stdout.splitlines()[-1])["interpreter"] == "managed")


def _found(root: Path) -> list[tuple[str, str]]:
    """(path, kind) of all below the environment and its interpreter, in order."""
    found = []
    for top in ("envs", "python"):
        for folder, names, files in os.walk(root / top):
            names.sort()
            below = os.path.relpath(folder, root)
            for name in [*names, *files]:
                path = os.path.join(below, name)
                if os.path.islink(root / path):
                    found.append((path, "link"))
                elif name in files and not name.endswith((".lock", ".tmp")):
                    found.append((path, "file"))
    return sorted(found)


def _holds(path: Path, root: str) -> bool:
    return path.stat().st_size <= MAX_TEXT_BYTES and root.encode() in path.read_bytes()


def _parts(root: Path, paths: Sequence[str]) -> list[list[str]]:
    """Neighbours stay together; about as many bytes in each."""
    sizes = [os.lstat(root / path).st_size + 4096 for path in paths]
    share, taken = sum(sizes) / PARTS, 0
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for path, size in zip(paths, sizes, strict=True):
        parts[min(PARTS - 1, int(taken / share))].append(path)
        taken += size
    return [part for part in parts if part]


def _pack(root: Path, paths: Sequence[str], path: Path) -> PayloadFile:
    with tarfile.open(path, "w") as archive:
        for info, at in _members(root, paths):
            if info.isreg():
                with at.open("rb") as source:
                    archive.addfile(info, source)
            else:
                archive.addfile(info)
    with path.open("rb") as file:
        return PayloadFile(
            path.name, path, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
        )


def _members(root: Path, paths: Sequence[str]) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """The same whoever packs them, and whenever. Each folder is named before what is in it: several tars that
    unpack side by side would else take one another's new folders for trouble."""
    known = {""}
    for path in paths:
        for folder in _new_folders(path, known):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            yield info, root / folder
        at = root / path
        info = tarfile.TarInfo(path)
        if at.is_symlink():
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(at)
        else:
            info.size, info.mode = at.stat().st_size, 0o755 if os.access(at, os.X_OK) else 0o644
        yield info, at


def _new_folders(path: str, known: set[str]) -> list[str]:
    """The folders above `path` that are not known yet, the outermost first; now they are."""
    found = []
    while (path := os.path.dirname(path)) not in known:
        known.add(path)
        found.append(path)
    return found[::-1]
