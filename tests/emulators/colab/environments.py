"""Makes the Python environments that the emulator and its tests need, once, below `.cache/`."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(__file__).parents[3] / ".cache" / "colab"
RUNTIME = ("jupyter_server>=2.14", "ipykernel>=6.29", "websocket-client>=1.8", "uv>=0.9", "pip")


def runtime_python() -> Path:
    """The interpreter of the environment with Jupyter's server and kernel."""
    folder = _made("runtime", RUNTIME, [("venv", "--clear", "--python", sys.executable, "{folder}")])
    return folder / "bin" / "python"


def packages(name: str, wanted: Sequence[str], python_version: str) -> Path:
    """A folder with packages for a Python that may not be the one that installs them."""
    install = ("pip", "install", "--target", "{folder}", "--python-version", python_version)
    return _made(f"{name}-{python_version}", wanted, [(*install, "--only-binary", ":all:", *wanted)])


def _made(name: str, wanted: Sequence[str], commands: Sequence[Sequence[str]]) -> Path:
    folder, made_of = CACHE / name, CACHE / f"{name}.made-of"
    recipe = hashlib.sha256(repr((sys.executable, wanted)).encode()).hexdigest()
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not made_of.exists() or made_of.read_text() != recipe:
            for command in commands:
                _uv(*(word.format(folder=folder) for word in command))
            if commands[0][0] == "venv":
                _uv("pip", "install", "--python", str(folder), *wanted)
            made_of.write_text(recipe)
    return folder


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], check=True)
