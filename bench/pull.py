"""Results home, hashed, durable, under their names, against the tools that only copy: a whole `launcher pull`.

1 GiB against `scp`, 5,000 files of 4 KiB against `tar | ssh`; the peers neither hash nor sync. On loopback and, for the
big file, at 50 ms of round trip.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.laptop import Laptop
from tests.servers import base_image, engine
from tests.servers.faultproxy import FaultProxy, Faults
from tests.servers.gpu_server import GPUServer

MIB = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
JOB = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
with (out / "big.bin").open("wb") as file:
    for _ in range(%d):
        file.write(os.urandom(1 << 20))
"""
MANY = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUT"]) / "many"
out.mkdir()
for n in range(5000):
    (out / f"{n:05}.bin").write_bytes(os.urandom(4096))
"""


def main() -> None:
    with engine.running(), base_image.named_like_the_default(), GPUServer() as server:
        with FaultProxy(server.host, server.port, Faults(rtt_s=0.05)) as wan:
            measure(f"{MIB} MiB, loopback", server, server.port, JOB % MIB, 0.8)
            measure(f"{MIB} MiB, 50 ms", server, wan.port, JOB % MIB, 2.0)
        measure("5,000 files, loopback", server, server.port, MANY, 0.6)


def measure(name: str, server: GPUServer, port: int, job: str, aim: float) -> None:
    laptop = Laptop(Path(tempfile.mkdtemp(prefix="bench-")) / "laptop")
    laptop.ok(
        *("target", "add", "gpu1", f"ssh://{server.user}@127.0.0.1:{port}", "--docker", "never"),
        *("--host-key", server.fingerprint, "--key", server.key_path),
    )
    laptop.ok("run", str(laptop.job("files", job)), "--on", "gpu1", "-d")
    run = laptop.status()["id"]
    laptop.wait_for(lambda: laptop.status()["state"] == "succeeded", "the files")
    there = f"/home/{server.user}/.launcher/runs/{run}/0/out"
    theirs = timed(peer(server, port, there, laptop.folder / "peer"))
    start = time.monotonic()
    laptop.ok("pull", run, timeout=600)
    ours = time.monotonic() - start
    print(
        f"{name:22} peer {theirs:.2f} s  launcher {ours:.2f} s  {theirs / ours:.2f} x its speed (aim >= {aim})",
        flush=True,
    )
    laptop.launcher("release", run, "--force")
    laptop.close()
    shutil.rmtree(laptop.folder.parent)


def peer(server: GPUServer, port: int, there: str, here: Path) -> str:
    here.mkdir()
    options = (
        f"-i {server.key_path} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    address = f"{server.user}@127.0.0.1"
    if "big" in server.run(f"ls {there}"):
        return f"scp -q -P {port} {options} {address}:{there}/big.bin {here}/"
    return f"ssh -p {port} {options} {address} 'tar -C {there} -c .' | tar -C {here} -x"


def timed(command: str) -> float:
    start = time.monotonic()
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
