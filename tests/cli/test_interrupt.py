"""Ctrl-C detaches and never kills; a second one asks; without a terminal SIGTERM detaches."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.cli.conftest import Job, Laptop
from tests.cli.terminal import Terminal, at_terminal

MakeJob = Callable[..., Job]
TICKS = """
import sys, time
for i in range(600):
    print("tick", i, flush=True)
    time.sleep(0.1)
"""


@contextmanager
def ended(laptop: Laptop, name: str) -> Iterator[None]:
    try:
        yield
    finally:
        laptop("release", name, "--force")


def test_the_first_ctrl_c_detaches_and_the_job_goes_on(job: MakeJob) -> None:
    made = job(TICKS)
    with ended(made.laptop, "first"):
        terminal = at_terminal(made.laptop, "run", str(made.folder), "--name", "first")
        terminal.until("tick 3")
        terminal.type("\x03")
        terminal.until("detached")
        assert terminal.end() == 130
        status = made.laptop("status", "first", "--json").json
        assert status["state"] == "running"
        assert f"launcher attach {status['id']}" in terminal.said
        assert f"launcher cancel {status['id']}" in terminal.said


def test_a_second_ctrl_c_asks_whether_to_cancel(job: MakeJob) -> None:
    made = job(TICKS)
    with ended(made.laptop, "second"):
        terminal = at_terminal(made.laptop, "run", str(made.folder), "--name", "second")
        terminal.until("tick 3")
        terminal.type("\x03")
        terminal.until("detached")
        terminal.type("\x03")
        terminal.until("cancel second-")
        assert made.laptop("status", "second", "--json").json["state"] == "running"
        terminal.type("y\n")
        assert terminal.end() == 130
        assert made.laptop("wait", "second").code == 143
        assert made.laptop("status", "second", "--json").json["state"] == "cancelled"


def test_no_to_the_question_lets_the_job_go_on(job: MakeJob) -> None:
    made = job(TICKS)
    with ended(made.laptop, "third"):
        terminal = at_terminal(made.laptop, "run", str(made.folder), "--name", "third")
        terminal.until("tick 3")
        terminal.type("\x03")
        time.sleep(0.3)
        terminal.type("\x03")
        terminal.until("[y/N]")
        terminal.type("n\n")
        assert terminal.end() == 130
        assert made.laptop("status", "third", "--json").json["state"] == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_without_a_terminal_a_signal_detaches(job: MakeJob, number: signal.Signals) -> None:
    made = job(TICKS)
    with ended(made.laptop, "signalled"):
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "--json", "run", str(made.folder), "--name", "signalled"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=made.laptop.environ,
            cwd=made.laptop.folder,
        )
        assert process.stdout is not None
        out = b""
        while b"tick 3" not in out:
            line = process.stdout.readline()
            assert line, process.communicate()
            out += line
        process.send_signal(number)
        rest, err = process.communicate(timeout=120)
        result = json.loads(rest.splitlines()[-1])
        assert process.returncode == 130
        assert (result["type"], result["exit_code"], result["reason"]) == ("result", 130, "detached")
        assert b"launcher attach signalled-" in err
        assert made.laptop("status", "signalled", "--json").json["state"] == "running"


def test_a_reader_that_leaves_detaches(job: MakeJob) -> None:
    made = job(TICKS)
    with ended(made.laptop, "unread"):
        line = f"{sys.executable} -m launcher run {made.folder} --name unread | head -n 1"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            env=made.laptop.environ,
            cwd=made.laptop.folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (130, "tick 0\n")
        assert "Traceback" not in done.stderr
        assert made.laptop("status", "unread", "--json").json["state"] == "running"


def test_following_can_be_taken_up_where_it_was_left(job: MakeJob) -> None:
    made = job(TICKS.replace("600", "25"))
    terminal = at_terminal(made.laptop, "run", str(made.folder), "--name", "taken-up")
    terminal.until("tick 3")
    terminal.type("\x03")
    assert terminal.end() == 130
    rest = made.laptop("attach", "taken-up")
    assert rest.code == 0
    assert rest.out.endswith("tick 24\n")
    whole = made.laptop("logs", "taken-up").out
    assert whole == "".join(f"tick {i}\n" for i in range(25))


def test_ctrl_c_before_the_start_leaves_a_run_that_can_be_finished(launcher: Laptop) -> None:
    terminal = interrupted_early(launcher)
    assert terminal.end() == 130
    run_id = launcher("ps", "-q").out.strip()
    assert f"interrupted before {run_id} had started" in terminal.said
    assert f"launcher attach {run_id}" in terminal.said
    assert f"launcher release {run_id}" in terminal.said
    finished = launcher("attach", run_id)
    assert (finished.code, finished.out) == (0, "hello\n")
    launcher("release", run_id)


def test_ctrl_c_before_the_start_leaves_a_run_that_can_be_undone(launcher: Laptop) -> None:
    terminal = interrupted_early(launcher)
    assert terminal.end() == 130
    done = launcher("release", "last", "--json")
    assert done.code == 0, done.err
    status = launcher("status", "last", "--json").json
    assert (status["state"], bool(status["released_at"])) == ("cancelled", True)
    assert launcher("ps", "-q").out == ""


def test_ctrl_c_before_there_is_a_run_says_that_nothing_was_started(launcher: Laptop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"ssh://127.0.0.1:{silent.getsockname()[1]}"
        (launcher.folder / "job.py").write_text("print('hello')")
        terminal = at_terminal(launcher, "run", "job.py", "--on", address)
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.5)
            terminal.type("\x03")
            terminal.until("nothing was started")
        assert terminal.end() == 130
    assert launcher("ps", "-aq").out == ""


def interrupted_early(laptop: Laptop) -> Terminal:
    """`run`, interrupted while the first environment is made."""
    laptop("target", "add", "local", "local", "--docker", "never")
    (laptop.folder / "job.py").write_text("print('hello')")
    terminal = at_terminal(laptop, "run", "job.py")
    terminal.until("upload uv")
    terminal.type("\x03")
    return terminal
