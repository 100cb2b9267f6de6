"""`launcher tensorboard`: the real one shows what runs wrote, live, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.tensorboard import scalars
from launcher.tensorboard.server import commands
from tests.laptop import Laptop
from tests.servers.gpu_server import GPUServer
from tests.targets.conftest import add_target

JOB = """
import json, os, pathlib, sys, time
import scalars

out = pathlib.Path(os.environ["LAUNCHER_OUT"])
params = json.loads(os.environ["LAUNCHER_PARAMS"])
gate = pathlib.Path(params["gate"]) if params["gate"] else None

def wait(name):
    while gate and not (gate / name).exists():
        time.sleep(0.05)

def write(step):
    if params["kind"] == "metrics":
        with open(out / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\\n")
    elif params["kind"] == "events":
        path = out / "tb" / "events.out.tfevents.1.host"
        path.parent.mkdir(exist_ok=True)
        with open(path, "ab") as file:
            file.write(b"" if file.tell() else scalars.file_header(time.time()))
            file.write(scalars.event(step, {"loss": 1 / (step + 1)}, time.time()))

wait("first")
first = int(open(os.environ["LAUNCHER_RESUME"]).read()) if "LAUNCHER_RESUME" in os.environ else 0
for step in range(first, first + 3):
    write(step)
(out / "checkpoints").mkdir()
(out / "checkpoints" / "c.tmp").write_text(str(first + 2))
(out / "checkpoints" / "c.tmp").rename(out / "checkpoints" / "c")
wait("second")
for step in range(first + 3, first + 5):
    write(step)
wait("third")
sys.exit(params["end"])
"""
PARAMS = {"kind": "metrics", "gate": "", "end": 0}


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop", {"TMPDIR": str(tmp_path / "tmp")})
    (tmp_path / "tmp").mkdir()
    made.ok("target", "add", "here", "local", "--docker", "never")
    yield made
    made.launcher("release", "--all", "--force")
    made.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What the job waits for: it goes on when a file of that name is here."""
    (tmp_path / "gate").mkdir()
    return tmp_path / "gate"


def run(laptop: Laptop, *words: str, **params: Any) -> str:
    folder = laptop.job("curves", JOB, params=PARAMS)
    shutil.copy(scalars.__file__, folder / "scalars.py")
    pairs = [word for key, value in params.items() for word in ("-p", f"{key}={value}")]
    on = () if "--on" in words else ("--on", "here")
    done = laptop.launcher("--json", "run", str(folder), *on, *pairs, *words)
    assert done.objects[-1]["type"] == "result", done.out + done.err
    return str(done.objects[-1]["run"])


class Board:
    """A `launcher tensorboard` that answers."""

    def __init__(self, laptop: Laptop, *words: str) -> None:
        self.process = laptop.start("--json", "tensorboard", *words)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read().decode()
        self.answer = json.loads(line)
        self.heard = ""
        self.laptop = laptop

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.answer["url"] + path, timeout=30) as answer:
            return json.load(answer)

    def steps(self, run: str, tag: str = "loss") -> list[int]:
        """The steps that are shown of a tag; none when it is not."""
        if tag not in self.get("data/plugin/scalars/tags").get(run, {}):
            return []
        points = self.get(f"data/plugin/scalars/scalars?run={run.replace('/', '%2F')}&tag={tag}")
        return [int(step) for _, step, _ in points]

    def shows(self, run: str, steps: list[int]) -> None:
        self.laptop.wait_for(lambda: self.steps(run) == steps, f"{run} with {steps}")

    def says(self, text: str) -> None:
        """Waits until it has said so."""
        assert self.process.stderr
        while text not in self.heard:
            said = self.process.stderr.read1(65536)  # type: ignore[attr-defined]
            assert said, self.heard
            self.heard += said.decode()

    def end(self, number: int = signal.SIGINT) -> str:
        """Ends it; what it had said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=120)
        assert self.process.returncode in (0, -number), said.decode()
        return self.heard + said.decode()


@pytest.fixture
def board(laptop: Laptop, tmp_path: Path) -> Iterator[Callable[..., Board]]:
    """Starts boards; at the end neither a process nor a file of them may be left."""
    started: list[Board] = []

    def start(*words: str) -> Board:
        started.append(Board(laptop, *words))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()
    laptop.wait_for(lambda: not processes_of(tmp_path / "tmp"), "no process to be left", 20)
    assert list((tmp_path / "tmp").glob("launcher-tensorboard-*")) == []


def processes_of(folder: Path) -> list[str]:
    """Command lines of what works in a scratch folder there."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(f"{folder}/launcher-tensorboard-".encode()) for word in words):
            found.append(str(words))
    return found


def test_ended_runs_are_shown_from_home_each_under_its_id(
    laptop: Laptop, board: Callable[..., Board]
) -> None:
    metrics, events = run(laptop), run(laptop, kind="events")
    laptop.ok("release", metrics, events)
    shown = board(metrics, events, metrics)
    assert (shown.answer["schema"], shown.answer["runs"]) == (1, [metrics, events])
    assert shown.answer["url"].startswith("http://127.0.0.1:")
    shown.shows(metrics, [0, 1, 2, 3, 4])
    shown.shows(f"{events}/tb", [0, 1, 2, 3, 4])
    assert sorted(shown.get("data/runs")) == sorted([metrics, f"{events}/tb"])


@pytest.mark.parametrize("kind", ["metrics", "events"])
def test_a_living_run_grows(laptop: Laptop, board: Callable[..., Board], gate: Path, kind: str) -> None:
    run_id = run(laptop, "-d", kind=kind, gate=gate)
    shown = board(run_id)
    assert shown.get("data/runs") == []
    name = run_id if kind == "metrics" else f"{run_id}/tb"
    (gate / "first").touch()
    shown.shows(name, [0, 1, 2])
    (gate / "second").touch()
    shown.shows(name, [0, 1, 2, 3, 4])
    (gate / "third").touch()
    shown.says(f"{run_id} has ended (succeeded)")
    assert f"{run_id} has nothing to show yet" in shown.heard


@pytest.mark.parametrize("docker", ["never", "always"])
def test_a_living_run_on_a_server_grows(
    laptop: Laptop, board: Callable[..., Board], shared_gpu_server: GPUServer, docker: str
) -> None:
    add_target(laptop, shared_gpu_server, docker=docker)
    run_id = run(laptop, "--on", "gpu1", "-d", kind="events", gate=".")
    shown = board(run_id)
    laptop.ok("exec", run_id, "--", "touch", "first")
    shown.shows(f"{run_id}/tb", [0, 1, 2])
    laptop.ok("exec", run_id, "--", "touch", "second", "third")
    shown.shows(f"{run_id}/tb", [0, 1, 2, 3, 4])


def test_an_unreachable_run_is_shown_from_home_until_it_answers(
    laptop: Laptop, board: Callable[..., Board], new_gpu_server: Callable[..., GPUServer]
) -> None:
    server = new_gpu_server(docker_engine=False)
    add_target(laptop, server, docker="never")
    there = server.run("mktemp -d && chmod 777 /tmp/tmp.*").strip()
    run_id = run(laptop, "--on", "gpu1", "-d", gate=there)
    server.run(f"touch {there}/first")
    home = Path(laptop.status(run_id)["out"])
    laptop.wait_for(
        lambda: laptop.ok("pull", run_id) and (home / "metrics.jsonl").exists(), "metrics to be home"
    )
    server.cut_network("reject")
    shown = board(run_id)
    shown.shows(run_id, [0, 1, 2])
    server.restore()
    server.run(f"touch {there}/second {there}/third")
    shown.shows(run_id, [0, 1, 2, 3, 4])
    shown.says("gpu1 answers again")
    assert "showing what is here" in shown.heard


def test_segments_are_joined_and_a_resume_is_followed(
    laptop: Laptop, board: Callable[..., Board], gate: Path
) -> None:
    (gate / "first").touch()
    run_id = run(laptop, "-d", gate=gate)
    shown = board(run_id)
    shown.shows(run_id, [0, 1, 2])
    laptop.launcher("cancel", run_id)
    laptop.launcher("wait", run_id)
    laptop.ok("resume", run_id, "-d")
    shown.shows(run_id, [0, 1, 2, 3, 4])  # the second segment begins at step 2 again
    again = board(run_id)
    again.shows(run_id, [0, 1, 2, 3, 4])


def test_a_run_that_ended_with_nothing_to_show_is_2(laptop: Laptop, tmp_path: Path) -> None:
    run_id = run(laptop, kind="none")
    done = laptop.launcher("tensorboard", run_id)
    assert (done.code, done.out) == (2, "")
    assert f"error: {run_id}: neither event files nor metrics.jsonl" in done.err
    assert "$LAUNCHER_OUT" in done.err
    assert list((tmp_path / "tmp").glob("launcher-tensorboard-*")) == []


def test_of_several_runs_the_one_with_nothing_to_show_is_named(
    laptop: Laptop, board: Callable[..., Board]
) -> None:
    nothing, metrics = run(laptop, kind="none"), run(laptop)
    shown = board(nothing, metrics)
    shown.shows(metrics, [0, 1, 2, 3, 4])
    assert f"{nothing}: neither event files nor metrics.jsonl are home" in shown.end()


def test_an_ended_run_that_was_never_brought_home_is_read_where_it_lies(
    laptop: Laptop, board: Callable[..., Board], gate: Path
) -> None:
    run_id = run(laptop, "-d", gate=gate)
    for name in ("first", "second", "third"):
        (gate / name).touch()
    laptop.wait_for(lambda: laptop.status(run_id)["state"] == "succeeded", "the end")
    board(run_id).shows(run_id, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(laptop: Laptop, board: Callable[..., Board], number: int) -> None:
    board(run(laptop)).end(number)  # the fixture looks


def test_a_port_that_is_taken_is_refused_and_a_free_one_is_used(
    laptop: Laptop, board: Callable[..., Board]
) -> None:
    run_id = run(laptop)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = laptop.launcher("tensorboard", run_id, "--port", str(port))
    assert (done.code, done.out) == (126, "")
    assert f"port {port}" in done.err
    assert board(run_id, "--port", str(port)).answer["url"] == f"http://127.0.0.1:{port}/"


def test_without_a_tensorboard_and_without_an_index_it_says_what_to_do(
    laptop: Laptop, tmp_path: Path
) -> None:
    run_id = run(laptop)
    laptop.env |= {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty")}
    done = laptop.launcher("tensorboard", run_id)
    assert (done.code, done.out) == (125, "")
    assert "error: TensorBoard could not be started: error: " in done.err
    assert "pip install tensorboard" in done.err
    assert list((tmp_path / "tmp").glob("launcher-tensorboard-*")) == []


def test_a_folder_named_tensorboard_is_not_taken_for_the_program(
    laptop: Laptop, board: Callable[..., Board]
) -> None:
    (laptop.work / "tensorboard").mkdir()
    run_id = run(laptop)
    board(run_id).shows(run_id, [0, 1, 2, 3, 4])


def test_the_installed_one_is_tried_first_and_then_what_uv_has(tmp_path: Path) -> None:
    first, *others = commands(tmp_path, 6006, installed=True)
    assert first[:3] == [sys.executable, "-m", "tensorboard.main"]
    assert others == commands(tmp_path, 6006, installed=False)
    assert ["--offline" in argv for argv in others] == [True, False]
    for argv in (first, *others):
        assert argv[argv.index("--host") + 1] == "127.0.0.1"


def test_help_needs_neither_a_network_nor_tensorboard(laptop: Laptop) -> None:
    assert "Ctrl-C" in laptop.ok("tensorboard", "--help").out
    listed = subprocess.run([*laptop.command, "--help"], env=laptop.env, capture_output=True, check=True)
    assert b"tensorboard" in listed.stdout
