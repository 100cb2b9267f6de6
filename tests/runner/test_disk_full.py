"""Full disks, at home and there: one clear line, nothing half-written under a final name, and a way on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laptop import Done, Laptop, records
from tests.runner.steady import ROOT, Undisturbed, home_of, laptop_at, left_at, steady_job, undisturbed
from tests.servers.gpu_server import GPUServer

MB = 1 << 20


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def grow(disk: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", disk], check=True)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop")
    made.ok("target", "add", "gpu1", "local", "--docker", "never")
    yield made
    made.launcher("release", "--all", "--force")
    made.close()


def assert_clear(done: Done, disk: Path) -> None:
    """Ends with 125, one line that names the disk, and a hint."""
    assert done.code == 125, done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    assert str(disk) in errors[0]
    assert "Traceback" not in done.err
    assert "hint: free some space" in done.err


@pytest.mark.parametrize(
    "params",
    [
        {"every": 20, "bytes": 8 * MB},
        {"every": 5, "bytes": MB},
        {"steps": 20_000, "every": 20_000, "bytes": MB},
    ],
    ids=["one-large-checkpoint", "many-checkpoints", "a-long-log"],
)
def test_a_home_that_is_full_says_so_and_attach_finishes_after_room_was_made(
    laptop: Laptop, tmp_path: Path, params: dict[str, int]
) -> None:
    steady_job(laptop, **{"pause": 0, **params})
    wanted = undisturbed(laptop)
    with small_disk(tmp_path / "small disk", 3) as disk:
        full = laptop.launcher("run", "steady", "--on", "gpu1", "--out", str(disk))
        again = laptop.launcher("attach", "last")

        assert_clear(full, disk)
        assert_clear(again, disk)
        home = home_of(laptop)
        assert_only_whole(home, wanted)
        grow(disk, 64)
        laptop.ok("attach", "last")
        assert left_at(home) == wanted
        assert laptop.status()["state"] == "succeeded"


def assert_only_whole(home: Path, wanted: Undisturbed) -> None:
    """What has its final name is complete; the log ends with a whole line."""
    found = {path.name: path for path in home.glob("checkpoints/*")}
    assert set(found) < set(wanted.checkpoints)
    partial = Undisturbed("", {}, "")
    if found:
        (home / "final.json").touch()  # for left_at
        partial = left_at(home)
        (home / "final.json").unlink()
    assert partial.checkpoints.items() <= wanted.checkpoints.items()
    stdout = "".join(line["text"] for line in records(home / "log.jsonl") if line["stream"] == "stdout")
    assert wanted.stdout.startswith(stdout)


def test_a_run_into_a_home_that_is_full_already_starts_nothing(laptop: Laptop, tmp_path: Path) -> None:
    steady_job(laptop)
    with small_disk(tmp_path / "small", 1) as disk:
        fill(disk)
        assert_clear(laptop.launcher("run", "steady", "--on", "gpu1", "--out", str(disk)), disk)
        assert not list(laptop.folder.glob(".launcher/runs/*/0/agent.lock"))


def test_a_ledger_without_room_says_so_and_attach_finishes_after_room_was_made(
    laptop: Laptop, tmp_path: Path
) -> None:
    steady_job(laptop, pause=0.2)
    with small_disk(tmp_path / "state", 2) as disk:
        laptop.env["LAUNCHER_HOME"] = str(disk / "launcher")
        laptop.ok("run", "steady", "--on", "gpu1", "-d", "--name", "early")
        fill(disk)
        assert_clear(laptop.launcher("run", "steady", "--on", "gpu1"), disk)
        ended = laptop.launcher("attach", "early")
        (disk / "filler").unlink()
        laptop.ok("attach", "early")

        assert_clear(ended, disk)
        assert laptop.status("early")["state"] == "succeeded"


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), open(disk / "filler", "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(os.urandom(size))


@pytest.fixture(scope="module")
def server(docker_socket: str) -> Iterator[GPUServer]:
    with GPUServer(docker_engine=False) as made:
        yield made


@pytest.fixture
def small_server(server: GPUServer) -> Iterator[GPUServer]:
    """Its ~/.launcher has room for uv and an environment, and little more."""
    yield from mounted(server, 48)


@pytest.fixture
def tiny_server(server: GPUServer) -> Iterator[GPUServer]:
    """Its ~/.launcher has not even room for uv."""
    yield from mounted(server, 20)


def mounted(server: GPUServer, megabytes: int) -> Iterator[GPUServer]:
    options = f"size={megabytes}m,uid=$(id -u trainer),gid=$(id -g trainer),mode=700"
    server.run(f"mkdir -p {ROOT} && mount -t tmpfs -o {options} tmpfs {ROOT}")
    yield server
    server.run(f"umount -l {ROOT}")


FILLS = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
print("before")
try:
    with open(out / "endless", "wb", buffering=0) as file:
        while True:
            file.write(bytes(100_000))
except OSError as error:
    print(error)
os.write(1, b"x" * 99 + b"\\n" if False else (b"y" * 99 + b"\\n") * 40_000)
"""


def test_a_server_too_small_for_the_environment_says_so_and_attach_finishes(
    tiny_server: GPUServer, tmp_path: Path
) -> None:
    laptop = laptop_at(tmp_path / "laptop", tiny_server)
    try:
        done = laptop.launcher("run", "steady", "--on", "gpu1")

        assert done.code == 125
        assert len([line for line in done.err.splitlines() if line.startswith("error: gpu1")]) == 1
        assert "No space left" in done.err
        assert laptop.status()["state"] not in ("succeeded", "running")
        tiny_server.run(f"mount -o remount,size=200m {ROOT}")
        laptop.ok("attach", "last")
        assert laptop.status()["state"] == "succeeded"
    finally:
        laptop.close()


def test_a_job_that_fills_its_disk_until_the_log_is_lost_has_failed(
    small_server: GPUServer, tmp_path: Path
) -> None:
    laptop = laptop_at(tmp_path / "laptop", small_server)
    laptop.job("steady", FILLS)
    try:
        done = laptop.launcher("run", "steady", "--on", "gpu1")

        status = laptop.status()
        assert (status["state"], status["reason"]) == ("failed", "disk-full"), done.err
        assert done.code != 0
        assert "before" in done.out
        home = home_of(laptop)
        assert records(home / "log.jsonl")[-1]["seq"] == len(records(home / "log.jsonl"))
        laptop.ok("release", "last", "--force")
    finally:
        laptop.close()


def test_a_checkpoint_that_does_not_fit_there_leaves_the_one_before(
    small_server: GPUServer, tmp_path: Path
) -> None:
    laptop = laptop_at(tmp_path / "laptop", small_server, every=10, bytes=5 * MB, steps=40)
    try:
        done = laptop.launcher("run", "steady", "--on", "gpu1")

        status = laptop.status()
        assert status["state"] == "failed", done.err
        assert done.code == 1
        found = left_names(home_of(laptop))
        assert found
        assert found[0] == "step-0010.json"
        assert "step-0040.json" not in found
    finally:
        laptop.close()


def left_names(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("checkpoints/*"))
