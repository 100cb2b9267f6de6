"""The program as a user has it: its own process, its own folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """A laptop that is its own machine, without Docker; one for all tests, since its environment takes seconds."""
    laptop = Laptop(tmp_path_factory.mktemp("laptop"))
    assert laptop("target", "add", "local", "local", "--docker", "never").code == 0
    yield laptop
    laptop("release", "--all", "--force")


@dataclass(frozen=True)
class Job:
    """A job's folder on a laptop."""

    laptop: Laptop
    folder: Path

    def run(self, *words: str, **environ: str) -> Done:
        return self.laptop("run", str(self.folder), *words, **environ)


@pytest.fixture
def job(machine: Laptop, tmp_path: Path) -> Callable[..., Job]:
    """Makes a job of a piece of Python."""

    def make(script: str, **spec: object) -> Job:
        folder = tmp_path / "job"
        folder.mkdir()
        (folder / "job.py").write_text(script)
        value = {"name": "test", "run": "python job.py", "retry": {"max": 0}, **spec}
        (folder / "job.yaml").write_text(json.dumps(value))
        return Job(machine, folder)

    return make


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
