"""Runs the programs that the test bed is made of, and installs those that are missing."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

CACHE_FOLDER = str(pathlib.Path(__file__).resolve().parents[2] / ".cache")
TIMEOUT_S = 900


class ProgramFailed(Exception):
    """A program of the test bed ended with an error; the message holds what it said."""


def need(**packages: str) -> None:
    """Install what is missing: each keyword is a program, its value Debian's package."""
    wanted = sorted({package for program, package in packages.items() if find(program) is None})
    if not wanted:
        return
    if os.geteuid() != 0 or find("apt-get") is None:
        raise ProgramFailed(f"the tests need more programs: apt-get install {' '.join(wanted)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    output(["apt-get", "update", "-q"], environment=environment)
    output(["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted], environment=environment)


def find(program: str) -> str | None:
    """Where a program is; Debian's own folders first: a newer Docker client is slower with an old engine."""
    return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", ""))


def output(
    argv: Sequence[str],
    *,
    data: bytes | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a program to its end and return its stdout; ProgramFailed with what it said otherwise."""
    name = find(argv[0])
    if name is None:
        raise ProgramFailed(f"{argv[0]} is not installed")
    done = subprocess.run(
        [name, *argv[1:]], input=data, capture_output=True, env=environment, timeout=TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace")[-2000:]
        raise ProgramFailed(f"{' '.join(argv)} ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def docker(*arguments: str, data: bytes | None = None) -> str:
    """`docker ARGUMENTS` on this machine's engine."""
    return output(["docker", *arguments], data=data).strip()
