"""Runs the programs that the test bed is made of, and installs those that are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

CACHE_FOLDER = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), ".cache"
)


class ProgramFailed(Exception):
    """A program of the test bed ended with an error; the message holds what it said."""


def need(**packages: str) -> None:
    """Each keyword is a program, its value Debian's package: `need(dockerd="docker.io")` installs it when missing."""
    wanted = sorted({package for program, package in packages.items() if find(program) is None})
    if not wanted:
        return
    if os.geteuid() != 0 or find("apt-get") is None:
        raise ProgramFailed(
            f"these tests need {', '.join(wanted)}: install them (apt-get install {' '.join(wanted)})"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    output(["apt-get", "update", "-q"], environment=environment)
    output(["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted], environment=environment)


def find(program: str) -> str | None:
    """Where a program is; Debian's own folders come first, since a newer Docker client is slower with an older engine."""
    return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", ""))


def output(
    argv: Sequence[str],
    *,
    data: bytes | None = None,
    environment: dict[str, str] | None = None,
    timeout_s: float = 900,
) -> str:
    """Run a program to its end and return its stdout; ProgramFailed with what it said otherwise."""
    name = find(argv[0])
    if name is None:
        raise ProgramFailed(f"{argv[0]} is not installed")
    done = subprocess.run(
        [name, *argv[1:]], input=data, capture_output=True, env=environment, timeout=timeout_s, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace")[-2000:]
        raise ProgramFailed(f"{' '.join(argv)} ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def docker(*arguments: str, data: bytes | None = None) -> str:
    """`docker ARGUMENTS` on this machine's engine."""
    return output(["docker", *arguments], data=data).strip()
