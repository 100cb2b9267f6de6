"""Writes a lock with uv: universal, hash-locked requirements and the exact interpreter.

`torch: auto` takes what the index gives, whatever GPU this machine has: the job runs elsewhere, and a GPU
here says nothing about the one there. Any other value is uv's torch backend.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import interpreters, tools
from launcher.agent import records
from launcher.errors import LauncherError, SpecError, Unreachable
from launcher.lock import FORMAT, Interpreter, Lock, parse_lock
from launcher.sources import LockPlan, read

HEAVY_BYTES = 50_000_000
NETWORK_WORDS = (
    "dns error",
    "tcp connect",
    "timed out",
    "error sending request",
    "Connection",
    "certificate",
)


@dataclass(frozen=True)
class LockSettings:
    """`downloads_json` is UV_PYTHON_DOWNLOADS_JSON_URL; without `upgrade` versions stay while they can."""

    cache: Path
    downloads_json: str | None = None
    upgrade: bool = False


def write_lock(plan: LockPlan, settings: LockSettings) -> bytes:
    """Resolves, replaces the lock atomically, and returns what it now holds."""
    if plan.source is None:
        raise SpecError(
            f"{plan.path} stands alone: there is nothing to make it from",
            f"write {plan.path.with_suffix('').name}.in beside it, one package a line",
        )
    old = _old(plan, settings)
    tables = interpreters.tables(settings.downloads_json, settings.cache)
    version, downloads = interpreters.choose(plan.python, old.python if old else None, tables)
    with tempfile.TemporaryDirectory(prefix="launcher-lock-") as folder:
        target = Path(folder) / "requirements.txt"
        if old:
            target.write_bytes(read(plan.path))  # uv keeps the versions that stand in its output file
        _uv(plan, compile_command(plan, target, settings.upgrade))
        sizes = Path(folder) / "pylock.toml"
        _uv(plan, [*compile_command(plan, sizes, False), "-c", str(target)])
        data = _header(plan, version, downloads, heavy_in(read(sizes))) + read(target)
    _checked(plan, data)
    try:
        records.write_durably(str(plan.path), data, 0o644)
    except OSError as error:
        raise LauncherError(f"cannot write {plan.path}: {error.strerror}") from error
    return data


def compile_command(plan: LockPlan, target: Path, upgrade: bool) -> list[str]:
    """The argv of uv that writes the pins into `target`."""
    argv = [tools.installed_uv(), "pip", "compile", str(plan.source), "--output-file", str(target), "--quiet"]
    argv += ["--universal", "--generate-hashes", "--no-header", "--python-version", plan.python]
    argv += ["--python", sys.executable, "--no-python-downloads"]
    if plan.torch != "auto":
        argv += ["--torch-backend", plan.torch]
    for url in plan.index:
        argv += ["--index", url]
    return [*argv, "--upgrade"] if upgrade else argv


def heavy_in(pylock: bytes) -> list[str]:
    """The packages of a pylock.toml that have a wheel for Linux of more than 50 MB."""
    packages: list[dict[str, Any]] = tomllib.loads(pylock.decode()).get("packages", [])
    return sorted(
        package["name"]
        for package in packages
        if any(
            wheel.get("size", 0) > HEAVY_BYTES and re.search(r"linux|any\.whl", str(wheel.get("url", "")))
            for wheel in package.get("wheels", [])
        )
    )


def _old(plan: LockPlan, settings: LockSettings) -> Lock | None:
    """The lock so far; None when it is missing, damaged, or to be forgotten."""
    if settings.upgrade or not plan.path.exists():
        return None
    try:
        return parse_lock(read(plan.path))
    except SpecError:
        return None


def _uv(plan: LockPlan, argv: Sequence[str]) -> None:
    done = subprocess.run(
        argv, capture_output=True, cwd=plan.path.parent, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace")
    line = one_line(said)
    if any(word in said for word in NETWORK_WORDS):
        raise Unreachable(f"a package index did not answer: {line}", "check the network, then try again")
    raise SpecError(f"{plan.source.name if plan.source else plan.path.name} cannot be locked: {line}")


def one_line(said: str) -> str:
    """What uv said, as one line without its drawing."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", said)
    text = re.sub(r"(?m)^\s*(error|cause|warning):\s*|[×│├╰─▶^]+", " ", text)
    return " ".join(text.split())[:400]


def _header(plan: LockPlan, version: str, downloads: Sequence[Interpreter], heavy: Sequence[str]) -> bytes:
    lines = [
        f"# launcher-lock: {FORMAT}",
        f"# python: cpython {version}",
        *(f"# interpreter: {one.system} {one.arch} {one.url} sha256:{one.sha256}" for one in downloads),
        f"# torch: {plan.torch}",
        *([f"# heavy: {' '.join(heavy)}"] if heavy else []),
        f"# source: sha256:{plan.digest}",
        f"# Made by `launcher lock` from {os.path.basename(str(plan.source))}; change that, not this.",
    ]
    return ("\n".join(lines) + "\n").encode()


def _checked(plan: LockPlan, data: bytes) -> None:
    try:
        parse_lock(data)
    except SpecError as error:
        raise SpecError(
            f"{plan.source.name if plan.source else ''} cannot be locked: {error.message}",
            "packages must come from an index or a URL; local code belongs into the job's folder",
        ) from error
