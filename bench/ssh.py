"""SSH against OpenSSH's own programs: connect and run, a command more, one big file, many small ones.

    python -m bench.ssh [MIB]        (default 1024)

A real sshd on loopback, files in memory, every row alternating with its peer; "far" is a proxy of 50 ms a round
trip. Both ends share this machine's cores: read the ratios, not the seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from launcher.hosts.ssh import SSHAddress, SSHHost
from tests.servers.sshd import SSHD

MIB = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
SMALL_FILES, SMALL_BYTES = 5000, 4096
RTT_S = 0.05
FIRST_COMMAND = """
import os, sys
from launcher.hosts.ssh import SSHAddress, SSHHost
host, user, port, key, host_key = sys.argv[1:]
steward = SSHHost(SSHAddress(host, user, int(port), key, host_key)).steward()
assert steward.call("run_script", argv=["true"]) == {"code": 0}
os._exit(0)
"""


def main() -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder, SSHD() as server:
        bench = Bench(server, Path(folder))
        print(f"{'':44} {'ours':>9} {'theirs':>9} {'ratio':>6}   aim")
        bench.first_command()
        bench.further_command()
        bench.small_files()
        bench.big_file()
        with far_away(server) as port:
            far = Bench(server, Path(folder), ("127.0.0.1", port))
            far.further_command("at 50 ms", rounds=10)
            far.big_file("at 50 ms", rounds=2)


class Bench:
    """One way to the server: its own address, or a proxy's."""

    def __init__(self, server: SSHD, folder: Path, address: tuple[str, int] | None = None) -> None:
        host, port = address or (server.host, server.port)
        self._folder = folder
        self._server = server
        self._address = SSHAddress(host, server.user, port, str(server.key_path), server.fingerprint())
        options = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i", str(server.key_path)]
        self._ssh = ["ssh", *options, "-p", str(port), f"{server.user}@{host}"]
        self._scp = ["scp", "-q", *options, "-P", str(port)]
        self._there = f"{server.user}@{host}:"

    def first_command(self) -> None:
        a = self._address
        words = [a.host, str(a.user), str(a.port), str(a.key), str(a.host_key)]
        ours = [sys.executable, "-c", FIRST_COMMAND, *words]
        run(ours)  # stores the agent there, once for this machine
        times = compare(lambda: run(ours), lambda: run([*self._ssh, "true"]), rounds=15)
        report("connect and run `true`, a whole process", times, "<= 1.1")

    def further_command(self, where: str = "", rounds: int = 50) -> None:
        with self._host() as host:
            steward = host.steward()
            for what, act in {
                "a question more": lambda: steward.call("have", files=[["x", None]]),
                "a command more": lambda: steward.call("run_script", argv=["true"]),
            }.items():
                act()
                seconds = statistics.median(timed(act) for _ in range(rounds))
                aim = "<= 2 round trips" if where else "<= 3 ms"
                print(f"{f'{what} {where}':44} {seconds * 1e3:7.2f}ms {'':>9} {'':>6}   {aim}")

    def big_file(self, where: str = "", rounds: int = 7) -> None:
        source, home = self._folder / "big", self._folder / "home"
        wanted = write_random(source, MIB)

        def ours() -> None:
            with self._host() as host:
                assert fetch(host, source, home) == wanted

        def theirs() -> None:
            run([*self._scp, self._there + str(source), str(home)])

        times = compare(ours, theirs, rounds)
        aim = ">= 2" if where else ">= 0.8"
        report(f"{MIB} MiB home and hashed, scp not hashed {where}", times, aim, speed=True)
        source.unlink()
        home.unlink()

    def small_files(self) -> None:
        source, home = self._folder / "many", self._folder / "many-home"
        source.mkdir()
        for number in range(SMALL_FILES):
            (source / f"{number:05}").write_bytes(os.urandom(SMALL_BYTES))

        def ours() -> None:
            fresh(home)
            with self._host() as host:
                fetch_all(host, source, home)

        def theirs() -> None:
            fresh(home)
            run_shell(f"{' '.join(self._ssh)} tar -C {source} -c . | tar -C {home} -x")

        times = compare(ours, theirs, rounds=5)
        report(
            f"{SMALL_FILES} files of {SMALL_BYTES} bytes, hashed; tar | ssh not", times, ">= 0.6", speed=True
        )
        shutil.rmtree(source)

    @contextlib.contextmanager
    def _host(self) -> Iterator[SSHHost]:
        host = SSHHost(self._address)
        yield host
        host.close()


def fetch(host: SSHHost, source: Path, home: Path) -> str:
    """Bring one file home; its SHA-256."""
    digest = hashlib.sha256()
    with home.open("wb") as file:
        for _, data in host.steward().stream("read", ranges=[[str(source), 0, None]]):
            file.write(data)
            digest.update(data)
    return digest.hexdigest()


def fetch_all(host: SSHHost, source: Path, home: Path) -> None:
    entries = host.steward().call("list", path=str(source))["entries"]
    names = [entry[0] for entry in entries]
    ranges = [[f"{source}/{name}", 0, None] for name in names]
    seen = 0
    for header, data in host.steward().stream("read", ranges=ranges):
        hashlib.sha256(data).hexdigest()
        (home / names[header["i"]]).write_bytes(data)
        seen += 1
    assert seen == SMALL_FILES


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of both, taken in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            times[which].append(timed((ours, theirs)[which]))
    return times


def report(what: str, times: tuple[list[float], list[float]], aim: str, speed: bool = False) -> None:
    ours, theirs = map(statistics.median, times)
    ratio = theirs / ours if speed else ours / theirs
    print(f"{what:44} {ours:8.3f}s {theirs:8.3f}s {ratio:6.2f}   {aim}", flush=True)


def timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def write_random(path: Path, mib: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(mib):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def run_shell(command: str) -> None:
    subprocess.run(["sh", "-c", command], check=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def far_away(server: SSHD) -> Iterator[int]:
    """The port of a proxy, in a process of its own, behind which the server is 50 ms away."""
    command = [sys.executable, "-m", "tests.servers.faultproxy", f"{server.host}:{server.port}"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "--rtt", str(RTT_S)], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


if __name__ == "__main__":
    main()
