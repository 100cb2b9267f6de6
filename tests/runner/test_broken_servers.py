"""What breaks on the server: the run is called lost or failed, rightly, and a resume ends as if nothing had been."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.laptop import Laptop
from tests.runner.steady import (
    Undisturbed,
    assert_numbered,
    home_of,
    laptop_at,
    left_at,
    read_there,
    undisturbed,
)
from tests.servers.gpu_server import GPUServer

STEPS = {"steps": 300, "pause": 0.07}  # alive for 20 s, also where a command takes some


@dataclass(frozen=True)
class Bed:
    """A server that may be broken, with both kinds of environment made; what a run of the job leaves."""

    server: GPUServer
    wanted: Undisturbed
    make: Callable[[bool], Laptop]


@pytest.fixture(scope="module")
def bed(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    laptops: list[Laptop] = []
    with GPUServer() as server:
        server.load_image(base_image)

        def make(docker: bool) -> Laptop:
            laptops.append(laptop_at(tmp_path_factory.mktemp("broken") / "laptop", server, docker, **STEPS))
            return laptops[-1]

        undisturbed(make(True))
        yield Bed(server, undisturbed(make(False)), make)
        for laptop in laptops:
            laptop.close()


@pytest.fixture(params=["plain", "docker"])
def laptop(request: pytest.FixtureRequest, bed: Bed) -> Laptop:
    return bed.make(request.param == "docker")


def begin(laptop: Laptop, checkpoint: int = 0) -> str:
    """A run in the background that has this checkpoint at home."""
    laptop.ok("run", "steady", "--on", "gpu1", "-d")
    run = str(laptop.status()["id"])
    if checkpoint:
        wait_for_checkpoint(laptop, run, checkpoint)
    return run


def wait_for_checkpoint(laptop: Laptop, run: str, step: int) -> None:
    path = Path(laptop.status(run)["out"]) / "checkpoints" / f"step-{step:04}.json"

    def home() -> bool:
        laptop.ok("pull", run)
        return path.exists()

    laptop.wait_for(home, f"checkpoint {step}")


def assert_resumes(laptop: Laptop, bed: Bed, run: str) -> None:
    done = laptop.ok("resume", run)

    assert "from checkpoint step-" in done.err or "from the beginning" in done.err
    home = home_of(laptop, run)
    found = left_at(home)
    assert replace(found, stdout="") == replace(bed.wanted, stdout="")
    assert found.stdout.endswith(bed.wanted.stdout.splitlines(keepends=True)[-1])
    assert_numbered(home)


def test_containers_killed_at_three_moments_are_lost_and_can_be_resumed(bed: Bed) -> None:
    def killed(checkpoint: int) -> None:
        laptop = bed.make(True)
        run = begin(laptop, checkpoint)
        bed.server.run(f"docker kill {run}-0")

        ended = laptop.launcher("attach", run)

        assert ended.code == 125, ended.err
        status = laptop.status(run)
        assert (status["state"], status["exit_code"]) == ("lost", None)
        assert "137" in status["reason"]
        assert_resumes(laptop, bed, run)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(killed, (0, 5, 30)))


def test_a_killed_agent_is_lost_takes_its_job_along_and_can_be_resumed(bed: Bed) -> None:
    laptop = bed.make(False)
    run = begin(laptop, 5)
    state = json.loads(read_there(bed.server, f"runs/{run}/0/state.json"))
    bed.server.run(f"kill -9 {state['agent_pid']}")

    ended = laptop.launcher("attach", run)

    assert ended.code == 125, ended.err
    assert laptop.status(run)["state"] == "lost"
    assert processes_of(bed.server, run) == []
    assert_resumes(laptop, bed, run)


def test_a_job_that_is_killed_has_failed_with_its_signal(bed: Bed, laptop: Laptop) -> None:
    run = begin(laptop, 5)
    bed.server.run("pkill -9 -f '^python train.py'")

    ended = laptop.launcher("attach", run)

    assert ended.code == 137, ended.err
    status = laptop.status(run)
    assert (status["state"], status["exit_code"]) == ("failed", 137)
    assert_resumes(laptop, bed, run)


def test_a_stopped_engine_gives_the_job_time_to_save_and_a_resume_goes_on(bed: Bed) -> None:
    laptop = bed.make(True)
    run = begin(laptop, 5)
    follower = laptop.start("attach", run)
    time.sleep(0.5)
    bed.server.stop_docker()
    try:
        _, err = follower.communicate(timeout=120)
    finally:
        bed.server.start_docker()

    assert follower.returncode == 124, err.decode()
    assert laptop.status(run)["state"] == "preempted"
    assert_resumes(laptop, bed, run)


def test_an_engine_that_dies_with_its_containers_loses_the_job_before_it_is_back(bed: Bed) -> None:
    laptop = bed.make(True)
    run = begin(laptop, 5)
    follower = laptop.start("attach", run)
    time.sleep(0.5)
    bed.server.run(
        "touch /etc/docker/off; pkill -9 '[d]ockerd|[c]ontainerd'; pkill -9 -f '[a]gent.pyz run'; true"
    )
    try:
        _, err = follower.communicate(timeout=120)
        assert follower.returncode == 125, err.decode()
        assert laptop.status(run)["state"] == "lost", err.decode()
        refused = laptop.launcher("resume", run)
        assert refused.code in (125, 126)
        assert "ocker" in refused.err
    finally:
        bed.server.start_docker()

    assert_resumes(laptop, bed, run)


def test_a_run_whose_engine_was_killed_and_came_back_can_be_resumed(bed: Bed) -> None:
    laptop = bed.make(True)
    run = begin(laptop, 5)
    bed.server.run("pkill -9 -x dockerd")
    ended = laptop.launcher("attach", run)  # a new engine ends the containers that it finds

    assert (ended.code, laptop.status(run)["state"]) in ((124, "preempted"), (125, "lost")), ended.err
    bed.server.start_docker()
    assert_resumes(laptop, bed, run)


def test_a_rebooted_server_loses_its_jobs_and_resumes_go_on(bed: Bed) -> None:
    laptops = [bed.make(docker) for docker in (True, False)]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda laptop: begin(laptop, 5), laptops))
    followers = [laptop.start("attach", run) for laptop, run in zip(laptops, runs, strict=True)]
    time.sleep(0.5)
    began = time.monotonic()
    bed.server.reboot()

    for laptop, run, follower in zip(laptops, runs, followers, strict=True):
        _, err = follower.communicate(timeout=120)
        print(f"lost known {time.monotonic() - began:.1f} s after the power cut")
        assert follower.returncode == 125, err.decode()
        assert "trying again" in err.decode()
        assert laptop.status(run)["state"] == "lost"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: assert_resumes(pair[0], bed, pair[1]), zip(laptops, runs, strict=True)))


def processes_of(server: GPUServer, run: str) -> list[str]:
    """Processes that carry the run's name in their environment."""
    found = server.run(f"grep -lzx LAUNCHER_RUN={run} /proc/[0-9]*/environ 2>/dev/null || true")
    return found.split()
