"""The program as a user has it: its own process, its own folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Laptop:
    """Folders of its own, and a way to run `launcher` in them."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "LAUNCHER_HOME": str(self.folder / "state"),
            "LAUNCHER_CONFIG": str(self.folder / "config"),
        }

    def __call__(self, *words: str, stdin: str = "", timeout_s: float = 60, **environ: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env={**self.environ, **environ},
            cwd=self.folder,
            timeout=timeout_s,
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def launcher(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)


Script = Callable[[str], Done]


@pytest.fixture
def script(launcher: Laptop) -> Script:
    """Run a piece of Python where `launcher` would run."""

    def run(text: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", text],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=launcher.environ,
            cwd=launcher.folder,
            timeout=60,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run
