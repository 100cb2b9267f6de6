"""Inner loops in CPU seconds against the least that anyone could do, in turns in one process.

Showing a block of log lines against parsing the same lines with `json`; the digest of torch's 12,000 lines of RECORD
against hashing the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launcher.agent import fingerprint, records
from launcher.render.loglines import show
from launcher.render.sink import Sink

ROUNDS = 5
LINES = 100_000


def main() -> None:
    text = "epoch 3 step 300 loss 0.4123 acc 0.91 lr 0.001 and more to make 80 bytes\n"
    block = b"".join(records.log_line(n, records.utc(0), 0, 0, "stdout", text) for n in range(1, LINES + 1))
    report("show 100,000 lines / json.loads", lambda: shown(block), lambda: parsed(block))
    with tempfile.TemporaryDirectory() as folder:
        info = Path(folder) / "torch-2.14.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: torch\nVersion: 2.14.1\n")
        record = "".join(f"torch/include/deep/header_{n}.h,sha256={n:043d},{n}\n" for n in range(12_000))
        (info / "RECORD").write_text(record)
        report(
            "digest of 12,000 RECORD lines / sort and hash them",
            lambda: fingerprint.packages([folder]),
            lambda: hashlib.sha256("".join(sorted(record.splitlines(True))).encode()).hexdigest(),
        )


def report(what: str, ours: Callable[[], object], least: Callable[[], object]) -> None:
    pairs = [(cpu_s(ours), cpu_s(least)) for _ in range(ROUNDS)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{what}: {a * 1e3:.1f} ms / {b * 1e3:.1f} ms = {a / b:.2f}", flush=True)


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def shown(block: bytes) -> None:
    with open("/dev/null", "wb") as out:
        show(block, Sink(out), Sink(out))


def parsed(block: bytes) -> None:
    for line in block.split(b"\n"):
        if line:
            json.loads(line)


if __name__ == "__main__":
    main()
