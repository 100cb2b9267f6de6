"""Warm `launcher run` of a changed file, Enter to the job's first line at home, against what an expert would type:

    tar -c . | ssh host 'docker build -q -t IMAGE - && docker run --rm IMAGE'      (cold ssh)

On loopback and with 50 ms of round trip; both do the same work in the same run, in turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.laptop import Laptop
from tests.servers import base_image, engine
from tests.servers.faultproxy import FaultProxy, Faults
from tests.servers.gpu_server import GPUServer

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7


def main() -> None:
    with engine.running(), base_image.named_like_the_default() as image, GPUServer() as server:
        server.load_image(image)
        with FaultProxy(server.host, server.port, Faults(rtt_s=0.05)) as wan:
            for name, port in (("loopback", server.port), ("50 ms", wan.port)):
                measure(name, server, port)


def measure(name: str, server: GPUServer, port: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    laptop = Laptop(folder / "laptop")
    address = f"ssh://{server.user}@127.0.0.1:{port}"
    laptop.ok(
        *("target", "add", "gpu1", address, "--host-key", server.fingerprint, "--key", server.key_path),
        *("--docker", "always"),
    )
    job = laptop.job("warm", "print('first line', flush=True)\n")
    (job / "Dockerfile").write_text(
        'FROM ubuntu:22.04\nWORKDIR /work\nCOPY . .\nCMD ["python3", "-u", "train.py"]\n'
    )
    ssh = [*server.ssh_command()]
    ssh[ssh.index("-p") + 1] = str(port)
    ssh += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    theirs, ours = [], []
    for round_ in range(ROUNDS + 1):
        (job / "train.py").write_text(f"# {round_}\nprint('first line', flush=True)\n")
        for measured in (theirs, ours) if round_ % 2 else (ours, theirs):
            seconds = expert(ssh, job) if measured is theirs else launcher(laptop, job)
            if round_:  # the first is not warm
                measured.append(seconds)
    a, b = statistics.median(theirs), statistics.median(ours)
    print(f"{name:9} expert {a:.3f} s  launcher {b:.3f} s  ratio {b / a:.2f} (aim <= 1.3)", flush=True)
    laptop.launcher("release", "--all", "--force")
    laptop.close()


def expert(ssh: list[str], job: Path) -> float:
    remote = "docker build -q -t warm-expert - >/dev/null && docker run --rm warm-expert"
    start = time.monotonic()
    tar = subprocess.Popen(["tar", "-C", str(job), "-c", "."], stdout=subprocess.PIPE)
    run = subprocess.Popen([*ssh, remote], stdin=tar.stdout, stdout=subprocess.PIPE)
    return first_line(run, start)


def launcher(laptop: Laptop, job: Path) -> float:
    start = time.monotonic()
    return first_line(laptop.start("run", str(job), "--on", "gpu1", stderr=subprocess.DEVNULL), start)


def first_line(process: subprocess.Popen[bytes], start: float) -> float:
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.monotonic() - start
    assert line == b"first line\n", line
    process.communicate()
    return seconds


if __name__ == "__main__":
    main()
