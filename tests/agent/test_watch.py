"""Every reason to stop a job: requests, limits, silence, a full disk, a machine that goes away."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent import watch
from tests.agent.segment import SegmentFolder, processes_of

SAVES = "trap 'echo saved; exit {code}' TERM; echo up; while :; do sleep 0.05; done"


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [(0, "succeeded", ""), (75, "cancelled", "cancel"), (3, "cancelled", "cancel")],
)
def test_a_cancelled_job_may_save_and_its_code_stays_its_own(
    segment: SegmentFolder, code: int, state: str, reason: str
) -> None:
    segment.start(SAVES.format(code=code))
    segment.until_said("up")
    segment.stop(grace_s=20)
    end = segment.wait()
    assert (end["state"], end["reason"], end["exit_code"]) == (state, reason, code)
    assert "saved" in segment.said("stdout")
    assert "asked to stop: SIGTERM sent, 20 s to save" in segment.said()


def test_a_later_request_with_less_grace_wins(segment: SegmentFolder) -> None:
    segment.start("trap '' TERM; echo up; while :; do sleep 0.05; done")
    segment.until_said("up")
    segment.stop(grace_s=60)
    segment.until_said("SIGTERM sent", "launcher")
    segment.stop(grace_s=0.3)
    began = time.monotonic()
    assert segment.wait()["exit_code"] == 137
    assert time.monotonic() - began < 10


def test_a_later_request_with_more_grace_does_not(segment: SegmentFolder) -> None:
    segment.start("trap '' TERM; echo up; while :; do sleep 0.05; done")
    segment.until_said("up")
    segment.stop(grace_s=0.5)
    segment.until_said("SIGTERM sent", "launcher")
    segment.stop(grace_s=60)
    assert segment.wait(timeout_s=20)["exit_code"] == 137


def test_a_request_is_seen_at_once(segment: SegmentFolder) -> None:
    segment.start(SAVES.format(code=3))
    segment.until_said("up")
    began = time.monotonic()
    segment.stop()
    segment.until_said("SIGTERM sent", "launcher")
    assert time.monotonic() - began < 1.0


def test_an_unreadable_request_is_a_request(segment: SegmentFolder) -> None:
    segment.start(SAVES.format(code=3), grace_s=7.0)
    segment.until_said("up")
    (segment.path / "control" / "stop").write_text('{"v": 1, "gra')
    assert segment.wait()["state"] == "cancelled"
    assert "7 s to save" in segment.said()


def test_the_time_limit_stops_a_job_and_its_code_stays_its_own(segment: SegmentFolder) -> None:
    end = segment.run(SAVES.format(code=75), time_s=1.0)
    assert (end["state"], end["reason"], end["exit_code"]) == ("timed_out", "time", 75)
    assert "the time limit is reached" in segment.said()


def test_the_time_limit_runs_on_a_clock_that_never_steps_and_counts_sleep() -> None:
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(watch.clock() - uptime_s) < 1.0


def test_a_job_that_shows_no_sign_of_life_is_stopped(segment: SegmentFolder) -> None:
    end = segment.run("echo up; sleep 60", stall_s=1.0)
    assert (end["state"], end["reason"], end["exit_code"]) == ("timed_out", "stall", 143)


@pytest.mark.parametrize(
    "sign",
    [
        "echo x",
        "echo '{}' >> $LAUNCHER_OUT/metrics.jsonl",
        "mkdir -p $LAUNCHER_OUT/checkpoints; cd $LAUNCHER_OUT/checkpoints; echo > a.tmp; mv a.tmp a",
    ],
)
def test_any_sign_of_life_counts(segment: SegmentFolder, sign: str) -> None:
    end = segment.run(f"for i in 1 2 3 4 5 6 7 8; do {sign}; sleep 0.4; done", stall_s=1.5)
    assert end["state"] == "succeeded"


def test_a_working_gpu_is_a_sign_of_life_an_idle_one_is_not(segment: SegmentFolder, tmp_path: Path) -> None:
    smi = fake_smi(tmp_path, "echo 0, Fake GPU, $(cat $0.util), 10, 100")
    Path(f"{smi}.util").write_text("97")
    segment.start("sleep 60", stall_s=1.0, environment=path_with(smi))
    segment.until(lambda: segment.state().get("gpu"), timeout_s=20)
    assert segment.agent is not None
    assert segment.agent.poll() is None
    assert segment.state()["gpu"] == [
        {"index": 0, "name": "Fake GPU", "util": 97, "mem_used": 10, "mem_total": 100}
    ]
    Path(f"{smi}.util").write_text("4")
    assert segment.wait()["reason"] == "stall"


def test_a_stuck_nvidia_smi_delays_nothing(segment: SegmentFolder, tmp_path: Path) -> None:
    smi = fake_smi(tmp_path, "exec sleep 600")
    began = time.monotonic()
    end = segment.run("echo hi; sleep 0.2; echo ho", environment=path_with(smi))
    assert time.monotonic() - began < 5
    assert end["state"] == "succeeded"
    assert segment.said("stdout") == "hi\nho\n"


def test_sigterm_to_the_agent_lets_the_job_save(segment: SegmentFolder) -> None:
    agent = segment.start(SAVES.format(code=75))
    segment.until_said("up")
    agent.send_signal(signal.SIGTERM)
    end = segment.wait()
    assert (end["state"], end["reason"], end["exit_code"]) == ("preempted", "signal", 75)
    assert "saved" in segment.said("stdout")


def test_a_job_that_exits_0_after_sigterm_to_the_agent_has_succeeded(segment: SegmentFolder) -> None:
    agent = segment.start(SAVES.format(code=0))
    segment.until_said("up")
    agent.send_signal(signal.SIGTERM)
    assert segment.wait()["state"] == "succeeded"


def test_a_lost_terminal_means_nothing(segment: SegmentFolder) -> None:
    agent = segment.start("echo up; sleep 1; echo down")
    segment.until_said("up")
    agent.send_signal(signal.SIGHUP)
    assert segment.wait()["state"] == "succeeded"
    assert "down" in segment.said("stdout")


def test_a_log_that_cannot_grow_stops_the_job_and_is_never_a_success(segment: SegmentFolder) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    command = "trap 'echo saved; exit 0' TERM; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"
    end = segment.run(command, preexec=small_files)
    assert (end["state"], end["reason"], end["exit_code"]) == ("failed", "disk-full", 0)
    log = (segment.path / "log.jsonl").read_bytes()
    assert log.endswith(b"\n")
    assert end["log"]["size"] == len(log)
    assert [event["seq"] for event in segment.log()] == list(range(1, end["last_seq"] + 1))
    assert processes_of(segment.path) == []


def test_a_full_disk_still_holds_the_end_and_says_why(small_disk: Path) -> None:
    segment = SegmentFolder(small_disk / "segment")
    try:
        command = f"{sys.executable} -c 'while True: print(\"x\" * 100)'"
        end = segment.run(command, grace_s=2.0)
        assert (end["state"], end["reason"]) == ("failed", "disk-full")
        assert "No space left on device" in segment.log()[-1]["text"]
        assert "bytes of log are lost" in segment.log()[-1]["text"]
        assert end["log"]["size"] == (segment.path / "log.jsonl").stat().st_size
        assert end["last_seq"] == len(segment.log())
    finally:
        segment.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*root, "mount", "-t", "tmpfs", "-o", "size=4m,mode=1777", "none", str(disk)], check=True)
    yield disk
    subprocess.run([*root, "umount", "-l", str(disk)], check=True)


def fake_smi(folder: Path, script: str) -> Path:
    """A program named nvidia-smi that is none."""
    path = folder / "fake" / "nvidia-smi"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def path_with(program: Path) -> dict[str, str]:
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}
