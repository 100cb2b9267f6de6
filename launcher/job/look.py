"""What is in a folder that is to become a job: script, settings, packages, data. Runs nothing."""

from __future__ import annotations

import ast
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from launcher.errors import SpecError
from launcher.job.header import choose_python, project, script_header
from launcher.job.infer import LOCK, slug

LARGE_BYTES = 50_000_000
MAX_FILES = 100_000  # of one folder; more is large whatever they weigh
MAX_SCRIPT_BYTES = 1 << 20
FIRST_FILES = 100
MAX_NUMBER = 1e15  # a default beyond it is no setting that someone tunes
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
LIKELY = ("train", "main", "run", "finetune", "fine_tune", "job")
SOURCES = ("requirements.in", "requirements.txt", "pyproject.toml")
SKIPPED = frozenset(("runs", "node_modules", "__pycache__", "build", "dist"))


@dataclass(frozen=True)
class Found:
    """What `init` bases its text on."""

    name: str
    script: str | None = None
    others: tuple[str, ...] = ()  # further scripts that could be meant
    params: tuple[tuple[str, int | float], ...] = ()  # of its argparse options, with their defaults
    lock: str | None = None
    lock_source: str | None = None  # what the lock is written from, when there is none yet
    python: str | None = None
    torch: bool = False
    saves: str | None = None  # the call that saves, such as torch.save
    knows_out: bool = False  # mentions LAUNCHER_OUT
    knows_resume: bool = False
    large: tuple[str, ...] = ()  # folders with more than 50 MB
    classes: tuple[str, ...] = ()  # folders with pictures in them, where there are several: labelled pictures
    folder: str = "."  # absolute


def look(folder: Path) -> Found:
    """Reads file names, sizes, and the one script that is likely meant."""
    scripts = sorted(
        (p for p in folder.glob("*.py") if p.is_file() and p.name.isprintable()), key=_likelihood
    )
    text = _text(scripts[0]) if scripts else ""
    lock, source, python = _packages(folder, scripts[0] if scripts else None, text)
    saves = re.search(
        r"\b(torch\.save|save_pretrained|save_file|save_checkpoint|save_model|pickle\.dump)\b", text
    )
    return Found(
        name=slug(folder.resolve().name),
        folder=str(folder.resolve()),
        script=scripts[0].name if scripts else None,
        others=tuple(p.name for p in scripts[1:4]),
        params=tuple(_options(text)),
        lock=lock,
        lock_source=source,
        python=python,
        torch=re.search(r"(?m)^\s*(import|from)\s+(torch|transformers|lightning|pytorch_lightning)\b", text)
        is not None,
        saves=saves[1] if saves else None,
        knows_out="LAUNCHER_OUT" in text,
        knows_resume="LAUNCHER_RESUME" in text,
        large=tuple(sorted(_large(folder))),
        classes=_classes(folder),
    )


def _likelihood(script: Path) -> tuple[int, str]:
    stem = script.stem.lower()
    known = LIKELY.index(stem) if stem in LIKELY else len(LIKELY) + ("train" not in stem)
    unlikely = stem.startswith(("test_", "_")) or stem.endswith("_test") or stem in ("conftest", "setup")
    return known + 100 * unlikely, script.name


def _packages(folder: Path, script: Path | None, text: str) -> tuple[str | None, str | None, str | None]:
    """(lock, what it is written from or None when it is there, python)."""
    try:
        header = script_header(text, script.name) if script else None
        wanted = header or project(_text(folder / "pyproject.toml"), "pyproject.toml")
        requires = wanted.requires_python if wanted else None
        python = choose_python(requires, sys.version_info.minor) if requires else None
    except SpecError:  # a damaged file is `check`'s to report; here it only cannot help
        header, wanted, python = None, None, None
    if script and header and header.dependencies:
        lock = f"{script.stem}.lock"
        return lock, None if (folder / lock).is_file() else script.name, python
    if (folder / LOCK).is_file():
        return LOCK, None, python
    found = [
        s
        for s in SOURCES
        if (folder / s).is_file() and (s != "pyproject.toml" or (wanted and wanted.dependencies))
    ]
    return (LOCK, found[0], python) if found else (None, None, python)


def _options(text: str) -> Iterator[tuple[str, int | float]]:
    """`add_argument("--epochs", type=int, default=5)` -> ("epochs", 5), for numbers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bad escape in the user's script is not ours to tell
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "add_argument":
            continue
        flags = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        default = next((k.value for k in node.keywords if k.arg == "default"), None)
        value = default.value if isinstance(default, ast.Constant) else None
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        names = [f[2:] for f in flags if re.fullmatch(r"--[A-Za-z_][A-Za-z0-9_-]*", f)]
        if names and math.isfinite(number) and abs(number) < MAX_NUMBER:
            yield names[0], number


def _large(folder: Path) -> Iterator[str]:
    yield from (entry.name for entry in _folders(folder) if _weighs(entry.path))


def _classes(folder: Path) -> tuple[str, ...]:
    """The folders of a data set with a folder for each class."""
    found = tuple(sorted(entry.name for entry in _folders(folder) if _has_pictures(entry.path)))
    return found if len(found) > 1 else ()


def _folders(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Those that may hold data: neither hidden, nor made by a tool."""
    with os.scandir(folder) as entries:
        for entry in entries:
            skipped = entry.name.startswith(".") or entry.name in SKIPPED or not entry.name.isprintable()
            if (
                not skipped
                and entry.is_dir(follow_symlinks=False)
                and not os.path.exists(os.path.join(entry, "pyvenv.cfg"))
            ):
                yield entry


def _has_pictures(folder: str) -> bool:
    """Whether there is one among its first files."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith(PICTURES) for entry in islice(entries, FIRST_FILES))
    except OSError:
        return False


def _weighs(folder: str) -> bool:
    """Whether it holds more than LARGE_BYTES; stops as soon as that is sure."""
    size = count = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            count += 1
            try:
                size += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
            if size > LARGE_BYTES or count > MAX_FILES:
                return True
    return False


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:MAX_SCRIPT_BYTES].decode("utf-8-sig", "replace")
    except OSError:
        return ""
