"""Several clients of one run: one brings it home, the others show the same lines and take over when it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laptop import Laptop, kill
from tests.runner.steady import assert_numbered, home_of, left_at, steady_job

WAITS = """
import os, pathlib, time
go = pathlib.Path(os.environ["GO"])
while not go.exists():
    time.sleep(0.02)
"""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop")
    made.ok("target", "add", "gpu1", "local", "--docker", "never")
    yield made
    made.launcher("release", "--all", "--force")
    made.close()


def begin(laptop: Laptop, script: str) -> str:
    """A job that prints when `go` says so, and whose clients can all be there before."""
    go = laptop.folder / "go"
    laptop.job("shown", WAITS + script, env={"GO": str(go)})
    laptop.ok("run", "shown", "--on", "gpu1", "-d")
    return str(laptop.status()["id"])


def go(laptop: Laptop) -> None:
    time.sleep(1.5)  # until all clients follow
    (laptop.folder / "go").touch()


def test_four_clients_at_once_all_show_every_line(laptop: Laptop) -> None:
    run = begin(laptop, "for i in range(2000): print('line', i, flush=i % 50 == 0)")
    clients = [laptop.start("attach", run) for _ in range(4)]
    go(laptop)

    wanted = "".join(f"line {i}\n" for i in range(2000))
    for client in clients:
        out, err = client.communicate(timeout=120)
        assert client.returncode == 0, err.decode()
        assert out.decode() == wanted
    home = home_of(laptop, run)
    assert_numbered(home)
    there = laptop.folder / ".launcher/runs" / run / "0" / "log.jsonl"
    assert (home / "log.jsonl").read_bytes() == there.read_bytes()


def test_when_the_first_is_killed_the_second_takes_over_without_losing_a_line(laptop: Laptop) -> None:
    run = begin(laptop, "for i in range(300): print('line', i); time.sleep(0.01)")
    first = laptop.start("attach", run)
    laptop.wait_for(lambda: (home_of(laptop, run) / "log.jsonl").exists(), "the first line at home")
    second = laptop.start("attach", run)
    go(laptop)
    laptop.wait_for(lambda: b"line 100" in (home_of(laptop, run) / "log.jsonl").read_bytes(), "a third")
    kill(first)

    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err.decode()
    assert "another launcher process follows this run" in err.decode()
    assert out.decode() == "".join(f"line {i}\n" for i in range(300))
    assert_numbered(home_of(laptop, run))


def test_an_onlooker_that_is_far_behind_shows_all_before_it_takes_over(laptop: Laptop) -> None:
    run = begin(laptop, "for i in range(150_000): print('line', i, 'x' * 60)")
    first = laptop.start("attach", run, stdout=(laptop.folder / "first").open("wb"))
    laptop.wait_for(lambda: (home_of(laptop, run) / "log.jsonl").exists(), "the first line at home")
    second = laptop.start("attach", run, stdout=(laptop.folder / "second").open("wb"))
    go(laptop)
    for client in (first, second):
        client.communicate(timeout=120)
        assert client.returncode == 0

    wanted = "".join(f"line {i} {'x' * 60}\n" for i in range(150_000)).encode()
    assert (laptop.folder / "first").read_bytes() == wanted
    assert (laptop.folder / "second").read_bytes() == wanted


def test_eight_commands_at_once_leave_one_run_whole(laptop: Laptop) -> None:
    steady_job(laptop)
    laptop.ok("run", "steady", "--on", "gpu1", "-d")
    words = ["attach", "status", "logs", "pull", "wait", "attach", "ps", "logs"]
    clients = [laptop.start(word, *([] if word == "ps" else ["last"])) for word in words]

    for word, client in zip(words, clients, strict=True):
        _, err = client.communicate(timeout=120)
        assert client.returncode == 0, f"{word}: {err.decode()}"
    assert_numbered(home_of(laptop))
    assert left_at(home_of(laptop)).stdout.count("\n") == 20
