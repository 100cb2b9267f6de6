"""What the heartbeat reads and writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from launcher.agent import proc, samples
from tests.agent.segment import SegmentFolder


def test_gpus_are_read_and_what_the_driver_does_not_know_is_none() -> None:
    text = "0, NVIDIA H100 80GB HBM3, 98, 70123, 81559\n1, Tesla T4, [N/A], 3, 15360\nNVIDIA-SMI has failed\n"
    assert samples.parse_gpus(text) == [
        {"index": 0, "name": "NVIDIA H100 80GB HBM3", "util": 98, "mem_used": 70123, "mem_total": 81559},
        {"index": 1, "name": "Tesla T4", "util": None, "mem_used": 3, "mem_total": 15360},
    ]


def test_a_state_is_replaced_whole_and_never_seen_half(tmp_path: Path) -> None:
    heartbeat = samples.Heartbeat(str(tmp_path), {"v": 1}, lambda: {"last_seq": 5})
    heartbeat.write()
    for _ in range(300):
        heartbeat.write()
        assert json.loads((tmp_path / "state.json").read_bytes())["last_seq"] == 5
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_stops_no_heartbeat(tmp_path: Path) -> None:
    samples.Heartbeat(str(tmp_path / "gone"), {}, dict).set(phase="running")


def test_memory_and_processor_time_of_all_descendants_are_counted() -> None:
    code = "x = bytearray(50_000_000)\nimport time\nwhile time.process_time() < 0.5: pass\ntime.sleep(60)"
    child = subprocess.Popen(["sh", "-c", f"{sys.executable} -c '{code}' & wait"])
    try:
        resident = measured(child.pid, lambda usage: usage[0] > 0.3)[1]
        assert resident > 50_000_000
        assert len(proc.descendants(os.getpid())) >= 2
        assert child.pid in proc.children(os.getpid())
    finally:
        subprocess.run(["pkill", "-P", str(child.pid)], check=True)
        child.wait()


def measured(pid: int, enough: Any) -> tuple[float, int]:
    give_up = time.monotonic() + 20
    while not enough(usage := proc.usage(proc.descendants(pid))):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return usage  # type: ignore[no-any-return]


def test_the_heartbeat_goes_on_while_the_job_runs(segment: SegmentFolder) -> None:
    segment.start("echo up; x=$(head -c 20000000 /dev/zero | tr '\\\\0' x); sleep 30")
    segment.until_said("up")
    first = segment.until(lambda: segment.state()["phase"] == "running" and segment.state()["heartbeat_at"])
    state = segment.until(lambda: segment.state()["heartbeat_at"] > first and segment.state())
    assert state["last_seq"] == 2
    assert state["log_bytes"] == (segment.path / "log.jsonl").stat().st_size
    assert state["rss_bytes"] > 0
    assert state["disk_free_bytes"] > 0
