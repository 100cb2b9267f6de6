"""How many 100-byte lines a second the agent takes from a real job into its log, and how late they are there.

    python -m bench.agent_lines [LINES]

The job is `cat` of a file, so that it costs nothing itself; CPU seconds are the agent's own. Then the delay from
a job's write to the line standing in log.jsonl, heard by inotify.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launcher.agent import inotify
from tests.agent.segment import SegmentFolder

LINES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
SHAPES = {
    "plain": "step %08d loss 0.1234 acc 0.9876 lr 0.0010 12345.6 images/s eta 00:12:34 gpu 98%% mem 12345 MiB\n",
    "unicode": "step %08d │██████████▌     │ loss 0.1234 acc 0.9876 lr 0.0010 12345.6 images/s eta 0:12\n",
    "quotes": '{"step": %08d, "loss": 0.1234, "acc": 0.9876, "lr": 0.0010, "speed": 12345.6, "eta": "12:34"}\n',
}
# Runs the agent and leaves its CPU seconds and its peak memory in a file. (ru_maxrss would be its parent's.)
MEASURED = """
import atexit, json, re, runpy, sys, time
def leave():
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
    json.dump([time.process_time(), peak], open(sys.argv[2] + "/used", "w"))
atexit.register(leave)
runpy.run_module("launcher.agent", run_name="__main__")
"""
DRIP = (
    "import os, time\nfor n in range(300):\n    os.write(1, b'%.6f\\n' % time.time())\n    time.sleep(0.01)\n"
)


def throughput(shape: str, values: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = "".join(SHAPES[shape] % n for n in range(LINES)).encode()
        (Path(folder) / "lines").write_bytes(data)
        segment = SegmentFolder(Path(folder) / "segment")
        began = time.monotonic()
        agent = [sys.executable, "-B", "-c", MEASURED, "run"]
        segment.start(["cat", f"{folder}/lines"], values=values, agent=agent)
        end = segment.wait(600)
        wall = time.monotonic() - began
        cpu, peak = json.loads((segment.path / "used").read_bytes())
        assert end["last_seq"] == LINES + 1
        with (segment.path / "log.jsonl").open("rb") as log:
            assert hashlib.file_digest(log, "sha256").hexdigest() == end["log"]["sha256"]
    name = f"{shape}{', one secret' if values else ''}"
    print(
        f"{name:22} {LINES / wall / 1e3:7.0f} klines/s   {LINES / cpu / 1e3:7.0f} per CPU second   {peak:.0f} MiB"
    )


def delay() -> None:
    with tempfile.TemporaryDirectory() as folder:
        segment = SegmentFolder(Path(folder) / "segment")
        segment.start([sys.executable, "-c", DRIP])
        segment.until(lambda: (segment.path / "log.jsonl").exists())
        watch = inotify.open_watch()
        watch.add(str(segment.path), 0x2)  # IN_MODIFY
        delays: list[float] = []
        with (segment.path / "log.jsonl").open("rb") as log:
            while len(delays) < 300:
                select.select([watch.fd], [], [], 1.0)
                watch.read()
                heard = time.time()
                events = map(json.loads, log.readlines())
                delays += [heard - float(event["text"]) for event in events if event["stream"] == "stdout"]
        segment.wait()
    ordered = sorted(delays)
    print(
        f"delay of a line: median {statistics.median(ordered) * 1e3:.2f} ms, p95 {ordered[285] * 1e3:.2f} ms"
    )


def ceiling() -> None:
    """What one pipe gives to the simplest reader of bytes, for comparison."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join((SHAPES["plain"] % n).encode() for n in range(LINES)))
        file.flush()
        began = time.monotonic()
        with subprocess.Popen(["cat", file.name], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            while os.read(cat.stdout.fileno(), 262144):
                pass
        print(f"{'bytes only, no log':22} {LINES / (time.monotonic() - began) / 1e3:7.0f} klines/s")


if __name__ == "__main__":
    ceiling()
    for shape in SHAPES:
        throughput(shape, {})
    throughput("plain", {"HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz012345"})
    delay()
