"""Stopping, going on, pulling and touching a run through the program."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.conftest import Job, Laptop

MakeJob = Callable[..., Job]
SAVES = """
import os, sys, time
out = os.environ["LAUNCHER_OUT"]
os.makedirs(out + "/checkpoints", exist_ok=True)
begin = int(open(os.environ["LAUNCHER_RESUME"]).read()) if "LAUNCHER_RESUME" in os.environ else 0
print("from", begin, flush=True)
for step in range(begin + 1, 4):
    path = f"{out}/checkpoints/step-{step}"
    open(path + ".tmp", "w").write(str(step))
    os.rename(path + ".tmp", path)
    print("step", step, flush=True)
    if step == 2 and not begin:
        time.sleep(600)
open(out + "/final", "w").write("done")
"""


@contextmanager
def detached(made: Job, name: str) -> Iterator[Laptop]:
    """The run goes on while the test works, and is gone after it."""
    assert made.run("-d", "--name", name).code == 0
    try:
        yield made.laptop
    finally:
        made.laptop("release", name, "--force")


def until(laptop: Laptop, name: str, text: str) -> None:
    end = time.monotonic() + 30
    while text not in laptop("logs", name).out:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_cancelled_run_goes_on_from_its_newest_checkpoint(job: MakeJob) -> None:
    with detached(job(SAVES), "relay") as laptop:
        until(laptop, "relay", "step 2")
        assert laptop("cancel", "relay", "--grace", "5s").code == 0
        assert laptop("wait", "relay").code == 143
        resumed = laptop("resume", "relay")
        assert (resumed.code, resumed.out) == (0, "from 2\nstep 3\n")
        again = laptop("resume", "relay")
        assert again.code == 126
        assert "rerun" in again.err
        segments = laptop("status", "relay", "--json").json["segments"]
        assert [segment["state"] for segment in segments] == ["cancelled", "succeeded"]
        assert "SEGMENT" in laptop("status", "relay").out


def test_a_run_that_lives_is_not_released_without_force(job: MakeJob) -> None:
    with detached(job(SAVES), "living") as laptop:
        assert laptop("release", "living").code == 126
        assert laptop("release", "living", "--force").code == 0
        assert laptop("release", "living").code == 0
        assert laptop("release").code == 2
        assert laptop("release", "living", "--all").code == 2


def test_a_rerun_is_a_new_run_of_the_same(job: MakeJob) -> None:
    made = job("print('same')")
    first = last_of(made.run("--json").out)
    (made.folder / "job.py").write_text("print('changed')")
    again = made.laptop("rerun", first, "--json")
    texts = [value.get("text") for value in map(json.loads, again.out.splitlines())]
    assert "same\n" in texts
    status = made.laptop("status", last_of(again.out), "--json").json
    assert status["parent"] == first
    assert made.laptop("diff", first, status["id"]).code == 0


def test_another_run_can_start_from_a_checkpoint(job: MakeJob) -> None:
    made = job(SAVES.replace("time.sleep(600)", "pass"))
    first = last_of(made.run("--json").out)
    assert made.run("--from", f"{first}:step-1").out == "from 1\nstep 2\nstep 3\n"
    assert made.run("--from", f"{first}:nosuch").code == 2
    assert made.run("--from", "nosuch").code == 2


def test_pull_makes_a_verified_copy_elsewhere(job: MakeJob, tmp_path: Path) -> None:
    made = job(SAVES.replace("time.sleep(600)", "pass"))
    run_id = last_of(made.run("--json").out)
    done = made.laptop("pull", run_id, "--checkpoints", "last", "--out", str(tmp_path / "copy"))
    assert done.code == 0, done.err
    assert sorted(p.name for p in (tmp_path / "copy" / "checkpoints").iterdir()) == ["step-3"]
    assert (tmp_path / "copy" / "final").read_text() == "done"
    assert made.laptop("pull", run_id).code == 0


def test_what_happened_is_told_in_order(job: MakeJob) -> None:
    made = job("print(1)")
    run_id = last_of(made.run("--json").out)
    rows = made.laptop("events", run_id, "--json").json["events"]
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert len(made.laptop("events", run_id).out.splitlines()) == len(rows)


def test_a_command_runs_beside_a_live_job_and_its_code_comes_back(job: MakeJob) -> None:
    with detached(job(SAVES), "touched") as laptop:
        until(laptop, "touched", "step 2")
        done = laptop("exec", "touched", "--", "sh", "-c", "ls; echo bad >&2; exit 7")
        assert (done.code, done.out, done.err) == (7, "job.py\n", "bad\n")
        assert laptop("exec", "touched").code == 2
    assert laptop("exec", "touched", "ls").code == 126


def test_a_port_of_a_live_job_becomes_one_of_this_machine(job: MakeJob) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        remote = probe.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        local = probe.getsockname()[1]
    serve = f"from http.server import *; HTTPServer(('127.0.0.1', {remote}), SimpleHTTPRequestHandler).serve_forever()"
    with detached(job(serve), "served") as laptop:
        words = [sys.executable, "-m", "launcher", "forward", "served", f"{local}:{remote}"]
        with subprocess.Popen(
            words, env=laptop.environ, cwd=laptop.folder, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            assert b"http://127.0.0.1" in process.stderr.readline()
            body = urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=10).read()
            process.terminate()
            assert process.wait(timeout=10) == 0
        assert b"job.py" in body


def last_of(out: str) -> str:
    return str(json.loads(out.splitlines()[-1])["run"])
