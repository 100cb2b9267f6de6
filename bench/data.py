"""Data to a machine, hashed on both sides, durable and shared, against the tools that only copy.

    python -m bench.data [MIB]        (default 512)

5,000 files of 4 KiB and one big file to a real sshd on loopback: the first time against `rsync -a` and `tar | ssh`,
the second time, when nothing has changed, against rsync that finds the same. Ours is all that `launcher run` does for
it: connect, hash here, send, hash there, sync, build the tree. The peers neither hash nor sync.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.programs import need
from tests.servers.sshd import SSHD

MIB = int(sys.argv[1]) if len(sys.argv) > 1 else 512
ROUNDS = 3
FILES, FILE_BYTES = 5000, 4096
OURS = """
import os, sys
from pathlib import Path
from launcher.data.source import Source, keep
from launcher.data.take import take
from launcher.hosts.ssh import SSHAddress, SSHHost
from launcher.runner.sources import result
from launcher.targets.data import bring
host, user, port, key, host_key, source, kept = sys.argv[1:]
files = result(take(Path(source), Path(kept)))
digest = keep(Path(kept), files)
one = Source("train", source, Path(kept), digest, len(files), sum(size for _, size, _ in files))
result(bring(SSHHost(SSHAddress(host, user, int(port), key, host_key)).steward(), [one]))
os._exit(0)
"""


def main() -> None:
    need(rsync="rsync")
    with tempfile.TemporaryDirectory(prefix="bench-data-") as folder, SSHD() as server:
        work = Path(folder)
        many, big = work / "many", work / "big"
        many.mkdir()
        big.mkdir()
        for number in range(FILES):
            (many / f"{number:05}").write_bytes(os.urandom(FILE_BYTES))
        with (big / "one").open("wb") as file:
            for _ in range(MIB):
                file.write(os.urandom(1 << 20))
        time.sleep(2)  # of files just written stat is not believed
        ours(server, many, work / "warm-up")  # stores the agent there, once for this machine
        print(f"{'':34} {'ours':>8} {'rsync':>8} {'ratio':>6} {'tar|ssh':>8} {'ratio':>6}   aim: ratio >=")
        compare(server, f"{FILES:,} files of {FILE_BYTES} bytes", many, (0.7, 0.4))
        compare(server, f"one file of {MIB} MiB", big, (0.7, 0.4))


def compare(server: SSHD, what: str, source: Path, aims: tuple[float, float]) -> None:
    """Seconds of all, in turns; the best of each: the machine is never quite idle."""
    first: dict[str, list[float]] = {"ours": [], "rsync": [], "tar": []}
    second: dict[str, list[float]] = {"ours": [], "rsync": []}
    there = server.folder / "there"
    for _ in range(ROUNDS):
        with fresh(server) as kept:
            for times in (first, second):
                times["ours"].append(timed(ours, server, source, kept))
        for times in (first, second):
            times["rsync"].append(timed(rsync, server, source, there))
        shutil.rmtree(there)
        first["tar"].append(timed(tar, server, source, there))
        shutil.rmtree(there)
    row(f"{what}, first time", first, aims[0])
    row(f"{what}, unchanged", second, aims[1])


def row(what: str, times: dict[str, list[float]], aim: float) -> None:
    best = {name: min(seconds) for name, seconds in times.items()}
    tail = f"{best['tar']:7.2f}s {best['tar'] / best['ours']:6.2f}" if "tar" in best else " " * 15
    print(
        f"{what:34} {best['ours']:7.2f}s {best['rsync']:7.2f}s {best['rsync'] / best['ours']:6.2f} {tail}   {aim}",
        flush=True,
    )


@contextmanager
def fresh(server: SSHD) -> Iterator[Path]:
    """Nothing of it is there, and nothing is known of it here."""
    kept = Path(tempfile.mkdtemp(prefix="bench-kept-"))
    root = server.home / ".launcher" / "data"
    unlock(root)
    try:
        yield kept
    finally:
        shutil.rmtree(kept)
        unlock(root)


def unlock(root: Path) -> None:
    for folder in [root, *root.glob("trees/*")]:
        if folder.is_dir():
            folder.chmod(0o700)
    shutil.rmtree(root, ignore_errors=True)


def ours(server: SSHD, source: Path, kept: Path) -> None:
    address = [server.host, server.user, str(server.port), str(server.key_path), server.fingerprint()]
    run([sys.executable, "-c", OURS, *address, str(source), str(kept)])


def rsync(server: SSHD, source: Path, there: Path) -> None:
    words = server.ssh_command()
    run(["rsync", "-a", "-e", " ".join(words[:-1]), f"{source}/", f"{words[-1]}:{there}/"])


def tar(server: SSHD, source: Path, there: Path) -> None:
    words = " ".join(server.ssh_command())
    run(
        [
            "bash",
            "-o",
            "pipefail",
            "-c",
            f"tar -C {source} -c . | {words} 'mkdir {there} && tar -C {there} -x'",
        ]
    )


def timed(act: Callable[..., object], *args: object) -> float:
    start = time.perf_counter()
    act(*args)
    return time.perf_counter() - start


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
