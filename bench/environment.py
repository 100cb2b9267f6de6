"""How long an environment takes, as ratios: the first time to `uv pip sync`, and the second time.

    python bench/environment.py [LOCK] [ROUNDS]     (default: jobs/finetune/requirements.lock, with torch; 3)

Every round makes new virtual environments from uv's warm cache, with the lock's interpreter already there; uv and
launcher take turns. A first round fills the cache and does not count. Trust the ratios.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from launcher.environment import EnvironmentPlan, VenvPaths, env_path, plan, venv_script
from launcher.job.spec import Environment
from launcher.lock import Interpreter, parse_lock
from launcher.tools import installed_uv
from tests.servers import interpreter

LOCK = Path(__file__).parents[1] / "jobs" / "finetune" / "requirements.lock"
FIRST_LIMIT, SECOND_LIMIT_S = 1.3, 2.0


def main(path: Path, rounds: int) -> int:
    """Measure, print, and say whether the limits hold."""
    with interpreter.serving() as served, tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        machine = os.uname().machine
        there = (Interpreter("linux", machine, served.url, served.sha256),)
        lock = replace(parse_lock(path.read_bytes()), python=served.version, interpreters=there)
        made = plan(Environment(), lock, machine)
        uv, first, second = measure(path, made, Path(folder), rounds)  # on the disk of uv's cache, as in life
    ratio = statistics.median(ours / theirs for ours, theirs in zip(first, uv, strict=True))
    again = statistics.median(second)
    print(f"{len(made.locked or ())} packages, {rounds} rounds, medians")
    print(f"uv venv, uv pip sync    {statistics.median(uv):8.2f} s")
    print(
        f"launcher, first time    {statistics.median(first):8.2f} s   {ratio:.2f} x   (limit {FIRST_LIMIT})"
    )
    print(f"launcher, second time   {again:8.3f} s            (limit {SECOND_LIMIT_S:.0f} s)")
    return 0 if ratio <= FIRST_LIMIT and again <= SECOND_LIMIT_S else 1


def measure(
    lock: Path, made: EnvironmentPlan, folder: Path, rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of uv alone, of launcher's first time and of its second, in every round that counts."""
    script = venv_script(made, VenvPaths(str(folder / "root"), installed_uv()))
    env = Path(env_path(made, str(folder / "root")))
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    _by_us(script)  # brings the interpreter
    python = os.path.realpath(env / "bin" / "python")
    for number in range(rounds + 1):
        shutil.rmtree(env, ignore_errors=True)
        works: list[Callable[[], None]] = [
            lambda: _by_uv(lock, python, folder / "uv"),
            lambda: _by_us(script),
        ]
        order = [0, 1] if number % 2 else [1, 0]
        seconds = {which: _seconds(works[which]) for which in order}
        if number:
            for times, value in zip(found, (seconds[0], seconds[1], _seconds(works[1])), strict=True):
                times.append(value)
        shutil.rmtree(folder / "uv")
    return found


def _by_uv(lock: Path, python: str, env: Path) -> None:
    uv = installed_uv()
    for argv in (
        [uv, "venv", "--python", python, str(env)],
        [uv, "pip", "sync", "--require-hashes", "--python", str(env / "bin" / "python"), str(lock)],
    ):
        subprocess.run(argv, check=True, capture_output=True)


def _by_us(script: str) -> None:
    subprocess.run(["sh"], input=script.encode(), check=True, capture_output=True)


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    arguments = sys.argv[1:]
    raise SystemExit(
        main(Path(arguments[0]) if arguments else LOCK, int(arguments[1]) if arguments[1:] else 3)
    )
