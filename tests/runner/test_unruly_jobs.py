"""Jobs that behave badly: end at once, ignore SIGTERM, leave children, print anything, take too long."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.laptop import Laptop, records
from tests.runner.steady import agents_there, assert_numbered, home_of, laptop_at, read_there
from tests.servers.gpu_server import GPUServer

EVIL = "\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[31mred\x1b[0m\x9b2J\u202egnp.exe\x00\n"
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for command in ("trap '' TERM; while true; do sleep 1; done", "setsid sh -c 'trap \\"\\" TERM; sleep 1000' & wait"):
    subprocess.Popen(["setsid", "sh", "-c", command])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
print("ready")
time.sleep(1000)
"""


@pytest.fixture(params=["plain", "docker"])
def laptop(request: pytest.FixtureRequest, shared_gpu_server: GPUServer, tmp_path: Path) -> Iterator[Laptop]:
    made = laptop_at(tmp_path / "laptop", shared_gpu_server, docker=request.param == "docker")
    yield made
    made.launcher("release", "--all", "--force")
    made.close()


def processes_of(server: GPUServer, run: str) -> list[str]:
    """The command lines of all processes that carry the run's name in their environment."""
    script = "for f in $(grep -lz '^LAUNCHER_RUN=%s$' /proc/[0-9]*/environ 2>/dev/null); do"
    script += " tr '\\0' ' ' < $(dirname $f)/cmdline; echo; done"
    return server.run(script % run).split("\n")[:-1]


def log_exact(laptop: Laptop, server: GPUServer) -> bytes:
    """The bytes of the job's stdout as the log has them, which is the same here and there."""
    home = home_of(laptop)
    assert (home / "log.jsonl").read_bytes() == read_there(server, f"runs/{home.name}/0/log.jsonl")
    assert_numbered(home)
    lines = [line for line in records(home / "log.jsonl") if line["stream"] == "stdout"]
    return b"".join(base64.b64decode(x["b64"]) if "b64" in x else x["text"].encode() for x in lines)


BRIEF = {
    "shell": ("true", 0, ""),
    "argv": (["true"], 0, ""),
    "code": ("exit 3", 3, ""),
    "no-argv": (["no-such-program"], 127, "command-not-found"),
    "no-shell": ("no-such-program", 127, "command-not-found"),
}


def test_jobs_that_end_at_once_end_so(laptop: Laptop) -> None:
    def run(name: str) -> None:
        command, code, reason = BRIEF[name]
        laptop.job(name, "", run=command)

        done = laptop.launcher("run", name, "--on", "gpu1")

        assert done.code == code, f"{name}: {done.err}"
        status = laptop.status(name)
        assert status["state"] == ("succeeded" if code == 0 else "failed")
        assert (status["reason"], status["exit_code"]) == (reason, code)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, BRIEF))


def test_a_job_that_ignores_sigterm_is_killed_with_all_its_descendants(
    laptop: Laptop, shared_gpu_server: GPUServer
) -> None:
    laptop.job("stubborn", STUBBORN)
    laptop.ok("run", "stubborn", "--on", "gpu1", "-d")
    run = laptop.status()["id"]
    laptop.wait_for(lambda: "ready" in laptop.ok("logs", run).out, "the job")
    alive = processes_of(shared_gpu_server, run)

    laptop.ok("cancel", run, "--grace", "2s")
    ended = laptop.launcher("attach", run)

    assert len(alive) >= 6, alive
    assert ended.code == 137, ended.err
    status = laptop.status(run)
    assert (status["state"], status["exit_code"]) == ("cancelled", 137)
    assert processes_of(shared_gpu_server, run) == []
    assert [line for line in agents_there(shared_gpu_server) if run in line] == []


def test_the_time_limit_ends_a_job(laptop: Laptop) -> None:
    laptop.job("slow", "import time\nprint('begun')\ntime.sleep(1000)")

    done = laptop.launcher("run", "slow", "--on", "gpu1", "--timeout", "3s", timeout=120)

    assert done.code == 124, done.err
    status = laptop.status()
    assert (status["state"], status["reason"], status["exit_code"]) == ("timed_out", "time", 143)


def test_any_bytes_reach_the_log_exactly_and_the_terminal_tamed(
    laptop: Laptop, shared_gpu_server: GPUServer
) -> None:
    text = EVIL.encode("utf-8", "surrogateescape")
    printed = bytes(range(256)) * 20 + b"\n" + text + b"no end of line"
    job = laptop.job(
        "odd", "import pathlib, sys; sys.stdout.buffer.write(pathlib.Path('bytes').read_bytes())"
    )
    (job / "bytes").write_bytes(printed)

    shown = laptop.ok("run", "odd", "--on", "gpu1")

    assert log_exact(laptop, shared_gpu_server) == printed
    for harm in ("\x1b]", "\x1b[2J", "\x07", "\x00", "\x9b", "\u202e"):
        assert harm not in shown.out, repr(harm)
    assert "red\\u202egnp.exe^@\n" in shown.out


def test_a_line_of_a_hundred_megabytes_is_no_trouble(shared_gpu_server: GPUServer, tmp_path: Path) -> None:
    laptop = laptop_at(tmp_path / "laptop", shared_gpu_server)
    size = 100_000_000
    laptop.job("wide", "", run=f"head -c {size} /dev/zero | tr '\\0' x; echo")
    out = laptop.folder / "out"
    client = laptop.start("run", "wide", "--on", "gpu1", stdout=out.open("wb"))
    try:
        peak = 0
        while client.poll() is None:
            peak = max(peak, resident(client.pid))
        assert client.wait() == 0

        print(f"peak resident: {peak / 1e6:.0f} MB")
        assert peak < 250e6
        assert out.stat().st_size == size + 1
        digest = hashlib.sha256()
        home = home_of(laptop)
        with (home / "log.jsonl").open("rb") as lines:
            for line in map(json.loads, lines):
                if line["stream"] == "stdout":
                    digest.update(line["text"].encode())
        assert digest.hexdigest() == hashlib.sha256(b"x" * size + b"\n").hexdigest()
        laptop.ok("release", "last")
    finally:
        laptop.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 when it has gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * 4096 if len(fields) > 1 else 0
