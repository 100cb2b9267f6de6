"""Resuming: what is refused, and that a run never has two lives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laptop import Laptop

SLOW = """
import os, pathlib, signal, sys, time
out = pathlib.Path(os.environ["LAUNCHER_OUT"]) / "checkpoints"
out.mkdir()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(os.environ["SAYS"])))
part = out / "one.txt.tmp"
part.write_text(os.environ.get("LAUNCHER_RESUME", "fresh"))
part.rename(out / "one.txt")
print("ready")
time.sleep(float(os.environ.get("REST", "60")))
"""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop")
    made.ok("target", "add", "here", "local", "--docker", "never")
    yield made
    made.launcher("release", "--all", "--force")
    made.close()


def started(laptop: Laptop, says: int) -> str:
    laptop.ok(
        "run", str(laptop.job("slow", SLOW)), "--on", "here", "-d", "-e", f"SAYS={says}", "-e", "REST=60"
    )
    laptop.wait_for(lambda: "ready" in laptop.ok("logs", "last").out, "the job to be ready")
    run: str = laptop.status()["id"]
    return run


def test_a_succeeded_run_is_not_resumed(laptop: Laptop) -> None:
    laptop.ok("run", str(laptop.job("done", "print('done')")), "--on", "here")
    refused = laptop.launcher("resume", "last")
    assert refused.code == 126
    assert "launcher rerun" in refused.err


def test_a_living_segment_is_stopped_first(laptop: Laptop) -> None:
    run = started(laptop, says=75)
    laptop.ok("resume", run, "-d")
    states = [segment["state"] for segment in laptop.status(run)["segments"]]
    assert states == ["cancelled", "running"]


def test_a_job_that_finishes_when_asked_to_stop_is_not_resumed(laptop: Laptop) -> None:
    run = started(laptop, says=0)
    done = laptop.ok("resume", run)
    assert "there is nothing to resume" in done.err
    assert [segment["state"] for segment in laptop.status(run)["segments"]] == ["succeeded"]


def test_a_rerun_of_a_run_that_began_from_a_checkpoint_begins_from_it_too(laptop: Laptop) -> None:
    laptop.ok("run", str(laptop.job("slow", SLOW)), "--on", "here", "-e", "SAYS=0", "-e", "REST=0")
    first = laptop.status()["id"]
    laptop.ok(
        "run", str(laptop.work / "slow"), "--on", "here", "-e", "SAYS=0", "-e", "REST=0", "--from", first
    )
    second = laptop.status()["id"]
    laptop.ok("rerun", second)
    third = laptop.status()["id"]

    texts = [
        (laptop.work / "runs" / run / "checkpoints/one.txt").read_text() for run in (first, second, third)
    ]
    assert texts[0] == "fresh"
    assert all(text.endswith("resume/one.txt") for text in texts[1:])
    assert json.loads((laptop.work / "runs" / third / "capsule.json").read_text())["parent"] == second


def test_a_checkpoint_that_is_not_home_is_named_with_those_that_are(laptop: Laptop) -> None:
    run = started(laptop, says=75)
    laptop.ok("cancel", run)
    laptop.launcher("attach", run)
    refused = laptop.launcher("resume", run, "--checkpoint", "two.txt")
    assert refused.code == 2
    assert "one.txt" in refused.err
