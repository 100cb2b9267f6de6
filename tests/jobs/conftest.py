"""An interpreter with a job's locked packages, made once below the checkout and kept."""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def finetune_python() -> Path:
    return environment(ROOT / "jobs/finetune/requirements.lock", python="3.11")


def environment(lock: Path, python: str) -> Path:
    """The first time torch travels (3 GB); from uv's cache it takes 12 s."""
    cache = ROOT / ".cache" / "jobs"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / lock.parent.name
    made_of, digest = folder / "made-of", hashlib.sha256(lock.read_bytes()).hexdigest()
    with open(cache / "lock", "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not made_of.exists() or made_of.read_text() != digest:
            uv("venv", "--clear", "--python", python, str(folder))
            uv("pip", "sync", "--python", str(folder), "--require-hashes", str(lock))
            made_of.write_text(digest)
    return folder / "bin" / "python"


def uv(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *args], check=True)
