"""The laptop dies, or is interrupted, at any point before the hand-over: `attach` goes on, `release` undoes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.machine import PREFIX
from tests.emulators.colab.settings import Settings
from tests.laptop import Laptop, kill
from tests.targets.colab.bed import assert_whole, emptied, laptop_at, waiting_job

SAVE_POINTS = ("runtime", "upload bundle", "environment", "start")


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab(Settings(max_sessions=3)) as emulator:
        yield emulator


@pytest.fixture
def laptop(colab: Colab, tmp_path: Path) -> Iterator[Laptop]:
    made = laptop_at(tmp_path / "laptop", colab)
    try:
        with emptied(colab):
            yield made
    finally:
        made.close()


@pytest.mark.parametrize("point", SAVE_POINTS)
def test_a_laptop_that_dies_at_a_save_point_goes_on_with_attach(
    colab: Colab, laptop: Laptop, point: str
) -> None:
    colab.faults.lost_assign_answers = 1  # which is asked for again, and adopted
    client = laptop.start("--json", "run", str(waiting_job(laptop, waits=False)), "--on", "colab")
    _until_phase(client, point)
    kill(client)
    laptop.ok("attach", "last")
    home = _home(laptop)
    assert colab.faults.lost_assign_answers == 0
    assert_whole(home)
    assert (home / "starts.txt").read_text() == "started\n"
    assert len(laptop.status()["segments"]) == 1
    assert colab.endpoints == []


def test_a_laptop_that_dies_before_the_hand_over_leaves_what_release_undoes(
    colab: Colab, laptop: Laptop
) -> None:
    client = laptop.start("--json", "run", str(waiting_job(laptop)), "--on", "colab")
    _until_phase(client, "environment")
    kill(client)
    assert "may still cost" in laptop.ok("ps", "-a").err
    laptop.ok("release", "last")
    assert colab.endpoints == []
    assert "may still cost" not in laptop.ok("ps", "-a").err


def test_a_runtime_that_comes_after_the_laptop_died_is_handed_back_too(colab: Colab, laptop: Laptop) -> None:
    before = _machines()
    client = laptop.start("run", str(waiting_job(laptop)), "--on", "colab")
    laptop.wait_for(lambda: _machines() - before, "a machine that starts")
    assert colab.endpoints == []
    kill(client)
    laptop.ok("release", "last")
    laptop.wait_for(lambda: not _machines() - before, "its end", timeout=30)
    assert "may still cost" not in laptop.ok("ps", "-a").err


def test_a_runtime_that_is_taken_before_the_job_has_started_is_no_room(colab: Colab, laptop: Laptop) -> None:
    client = laptop.start("--json", "run", str(waiting_job(laptop)), "--on", "colab")
    _until_phase(client, "upload agent")
    colab.reclaim()
    out, err = client.communicate(timeout=120)
    assert client.returncode == 125, err.decode()
    (error,) = [told["error"] for told in map(json.loads, out.splitlines()) if "error" in told]
    assert error["message"] == "Colab took the runtime back before the job had started"
    assert "may still cost" not in laptop.ok("ps", "-a").err
    laptop.ok("release", "last")


def _until_phase(client: subprocess.Popen[bytes], wanted: str) -> None:
    assert client.stdout is not None
    for line in client.stdout:
        told = json.loads(line)
        if told.get("type") == "progress" and told.get("phase") == wanted:
            return
    raise AssertionError(f"{wanted} never came: {client.communicate()[1].decode()}")


def _machines() -> set[Path]:
    """The disks of all runtimes here, also of those that are starting."""
    return set(Path(tempfile.gettempdir()).glob(f"{PREFIX}{os.getpid()}-*"))


def _home(laptop: Laptop) -> Path:
    return Path(laptop.status()["out"])
