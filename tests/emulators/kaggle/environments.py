"""Makes the two Python environments once, below `.cache/`: that of the sessions and the official client's."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.emulators.other_python import other_python

CACHE = Path(__file__).parents[3] / ".cache" / "kaggle"
SESSION = ("nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29", "uv>=0.9")
# kaggle 2.2.5 imports six without declaring it, and declares a certifi that is newer than it needs
CLIENT = ("kaggle==2.2.5", "kagglesdk==0.1.38", "six>=1.16")
CLIENT_OVERRIDES = "certifi>=2025.1.31\n"


def session_python() -> Path:
    """The interpreter of a session's Jupyter: another version than this one."""
    return _made("session", SESSION, str(other_python())) / "bin" / "python"


def official_client() -> Path:
    """The `kaggle` command, in an environment of its own."""
    return _made("client", CLIENT, sys.executable) / "bin" / "kaggle"


def _made(name: str, wanted: Sequence[str], python: str) -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    folder, made_of, overrides = CACHE / name, CACHE / f"{name}.made-of", CACHE / "overrides.txt"
    recipe = hashlib.sha256(repr((python, wanted, CLIENT_OVERRIDES, "compiled")).encode()).hexdigest()
    with open(CACHE / "lock", "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not made_of.exists() or made_of.read_text() != recipe:
            overrides.write_text(CLIENT_OVERRIDES)
            _uv("venv", "--clear", "--python", python, str(folder))
            _uv(
                "pip",
                "install",
                "--compile-bytecode",
                "--python",
                str(folder),
                "--override",
                str(overrides),
                *wanted,
            )
            made_of.write_text(recipe)
    return folder


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], check=True)
