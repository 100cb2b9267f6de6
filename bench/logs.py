"""A million lines followed end to end over SSH, and the latency that following adds; nothing lost, memory flat."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.laptop import Laptop
from tests.servers import base_image, engine
from tests.servers.gpu_server import GPUServer

LINES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
FLOOD = """
import sys
line = "x" * 92
sys.stdout.writelines(f"{n:07} {line}\\n" for n in range(%d))
"""
DRIP = """
import time
for n in range(100):
    print(time.time(), flush=True)
    time.sleep(0.02)
"""


def main() -> None:
    with engine.running(), base_image.named_like_the_default(), GPUServer() as server:
        laptop = Laptop(Path(tempfile.mkdtemp(prefix="bench-")) / "laptop")
        laptop.ok(
            *("target", "add", "gpu1", server.address, "--host-key", server.fingerprint),
            *("--key", server.key_path, "--docker", "never"),
        )
        latency(laptop)
        throughput(laptop)
        laptop.launcher("release", "--all", "--force")
        laptop.close()


def latency(laptop: Laptop) -> None:
    """The clocks are one: the server is a container of this machine."""
    process = laptop.start("run", str(laptop.job("drip", DRIP)), "--on", "gpu1", stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    late = [time.time() - float(line) for line in process.stdout]
    process.wait()
    ordered = sorted(late)
    print(
        f"added latency: median {statistics.median(late) * 1e3:.1f} ms, p95 {ordered[94] * 1e3:.1f} ms (aim <= 5)"
    )


def throughput(laptop: Laptop) -> None:
    job = laptop.job("flood", FLOOD % LINES)
    with open(os.devnull, "wb") as nothing:
        start = time.monotonic()
        process = laptop.start("run", str(job), "--on", "gpu1", stdout=nothing, stderr=subprocess.DEVNULL)
        peak = watch_memory(process)
    seconds = time.monotonic() - start
    home = laptop.work / "runs" / laptop.status()["id"]
    with (home / "log.jsonl").open("rb") as file:
        count = sum(1 for line in file if json.loads(line)["stream"] == "stdout")
    assert process.returncode == 0
    assert count == LINES, (count, LINES)
    print(f"{LINES} lines in {seconds:.1f} s: {LINES / seconds:,.0f} lines/s (aim >= 150,000), none lost")
    print(f"peak memory of the client: {peak / 2**20:.0f} MiB (aim <= 100)")


def watch_memory(process: subprocess.Popen[bytes]) -> int:
    peak = 0
    while process.poll() is None:
        try:
            text = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, *(int(x.split()[1]) << 10 for x in text.splitlines() if x.startswith("VmHWM")))
        except (OSError, ValueError, TypeError):
            pass
        time.sleep(0.05)
    return peak or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


if __name__ == "__main__":
    main()
