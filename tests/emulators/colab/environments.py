"""Makes the Python environments that the emulator and its tests need, once, below `.cache/`."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[3] / ".cache" / "colab"
RUNTIME = ("jupyter_server>=2.14", "ipykernel>=6.29", "websocket-client>=1.8", "uv>=0.9", "pip")


@dataclass(frozen=True)
class System:
    """A machine's own Python, and what it has beside Jupyter: things that must not leak into a job."""

    python: str = sys.executable
    packages: tuple[str, ...] = ()


def runtime_python(system: System = System()) -> Path:
    """The interpreter of an environment with Jupyter's server and kernel."""
    wanted = (*RUNTIME, *system.packages)
    name = "runtime-" + _digest(system.python, wanted)[:8]
    folder = _made(name, wanted, [("venv", "--clear", "--python", system.python, "{folder}")])
    return folder / "bin" / "python"


def packages(name: str, wanted: Sequence[str], python_version: str) -> Path:
    """A folder with packages for a Python that may not be the one that installs them."""
    install = ("pip", "install", "--target", "{folder}", "--python-version", python_version)
    return _made(f"{name}-{python_version}", wanted, [(*install, "--only-binary", ":all:", *wanted)])


def _made(name: str, wanted: Sequence[str], commands: Sequence[Sequence[str]]) -> Path:
    folder, made_of = CACHE / name, CACHE / f"{name}.made-of"
    recipe = _digest(sys.executable, tuple(wanted))
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not made_of.exists() or made_of.read_text() != recipe:
            for command in commands:
                _uv(*(word.format(folder=folder) for word in command))
            if commands[0][0] == "venv":
                _uv("pip", "install", "--compile-bytecode", "--python", str(folder), *wanted)
            made_of.write_text(recipe)
    return folder


def _digest(python: str, wanted: tuple[str, ...]) -> str:
    return hashlib.sha256(repr((python, wanted)).encode()).hexdigest()


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], check=True)
