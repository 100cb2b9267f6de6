"""Networks that fall silent or are cut: noticed soon, gone on by itself, no line lost or doubled, checkpoints whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.hosts.sshsocket import connect
from tests.laptop import Laptop
from tests.runner.steady import assert_numbered, home_of, laptop_at, left_at, read_there, undisturbed
from tests.servers.faultproxy import FaultProxy, Faults
from tests.servers.gpu_server import GPUServer

CUT_S = 21.0
NOTICED_S, BACK_S = 20.0, 10.0
MB = 1 << 20
SILENCE = "time.sleep({seconds}); print('a word after the silence')"


class Follower:
    """A client in the background, and when it said what on stderr."""

    def __init__(self, laptop: Laptop, *words: str) -> None:
        self.laptop = laptop
        self.process = laptop.start(*words)
        self.said: list[tuple[float, str]] = []
        self.out = b""
        self._readers = [threading.Thread(target=read) for read in (self._listen, self._take)]
        for reader in self._readers:
            reader.start()

    def when(self, words: str, after: float = 0.0) -> float:
        """The moment of the first line with these words since then; infinity: never."""
        return next((t for t, line in self.said if t >= after and words in line), float("inf"))

    def count(self, words: str) -> int:
        return sum(words in line for _, line in self.said)

    def end(self, timeout: float = 90) -> int:
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(10)
        return code

    def text(self) -> str:
        return "".join(line for _, line in self.said)

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append((time.monotonic(), line.decode()))

    def _take(self) -> None:
        assert self.process.stdout
        self.out = self.process.stdout.read()


@pytest.fixture(scope="module")
def server(docker_socket: str) -> Iterator[GPUServer]:
    with GPUServer(docker_engine=False) as made:
        yield made


@dataclass
class Cut:
    """What four clients went through at once: a server that nobody could reach for a while."""

    began: float
    restored: float
    chatty: Follower
    pulling: Follower
    quiet: Follower
    asleep: Follower
    pulled_at_cut: int
    unreachable: dict[str, Any]  # a row of `ps` during the cut


@pytest.fixture(scope="module")
def cut(server: GPUServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cut]:
    folder = tmp_path_factory.mktemp("cuts")
    with FaultProxy(server.host, server.port, Faults(rate=3e6)) as slow:
        steps = {"steps": 1550, "pause": 0.02, "every": 775}
        with ThreadPoolExecutor(4) as pool:
            chatty, pulling, quiet, asleep = pool.map(
                lambda made: laptop_at(folder / made[0], server, **made[1]),
                [
                    ("chatty", steps),
                    (
                        "pulling",
                        {"steps": 40, "pause": 0.1, "every": 20, "bytes": 20 * MB, "port": slow.port},
                    ),
                    ("quiet", {}),
                    ("asleep", steps),
                ],
            )
        quiet.job("steady", "import time; " + SILENCE.format(seconds=37))
        undisturbed(chatty, steps=5)  # makes the environment
        laptops = (chatty, pulling, quiet, asleep)
        clients = [Follower(laptop, "run", "steady", "--on", "gpu1") for laptop in laptops]
        try:
            partial = wait_for_partial(pulling)
            yield ordeal(server, slow, clients, partial)
        finally:
            server.restore()
            for client in clients:
                client.laptop.close()


def wait_for_partial(laptop: Laptop) -> Path:
    """The checkpoint on its way, once some of it is here."""

    def partial() -> list[Path]:
        found = laptop.work.glob("runs/steady-*/.launcher/partial/*")
        return [path for path in found if path.stat().st_size > 4 * MB]

    return Path(laptop.wait_for(partial, "4 MB of a checkpoint")[0])


def ordeal(server: GPUServer, slow: FaultProxy, clients: list[Follower], partial: Path) -> Cut:
    chatty, pulling, quiet, asleep = clients
    os.kill(asleep.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    slow.faults.silent.set()  # or what the proxy holds would still arrive
    server.cut_network("drop")
    pulled = partial.stat().st_size
    time.sleep(5)
    slow.faults.silent.clear()  # for connections to come
    time.sleep(NOTICED_S - 5)
    row = chatty.laptop.ok("--json", "ps").json["runs"][0]
    time.sleep(began + CUT_S - time.monotonic())
    server.restore()
    restored = time.monotonic()
    os.kill(asleep.process.pid, signal.SIGCONT)
    for client in clients:
        client.end()
    return Cut(began, restored, chatty, pulling, quiet, asleep, pulled, row)


@pytest.mark.parametrize("name", ["chatty", "pulling", "quiet"])
def test_a_silent_network_is_noticed_and_the_run_is_followed_again_by_itself(cut: Cut, name: str) -> None:
    client: Follower = getattr(cut, name)
    noticed = client.when("trying again", cut.began) - cut.began
    back = client.when("answers again", cut.restored) - cut.restored

    print(f"{name}: noticed after {noticed:.1f} s, back {back:.1f} s after the network")
    assert client.process.returncode == 0, client.text()
    assert noticed <= NOTICED_S
    assert back <= BACK_S
    assert client.laptop.status()["unreachable_since"] is None


def test_the_ledger_says_since_when_nobody_answers(cut: Cut) -> None:
    assert cut.unreachable["state"] == "running"
    assert cut.unreachable["unreachable_since"]


def test_no_line_is_lost_or_doubled(cut: Cut, server: GPUServer) -> None:
    for client in (cut.chatty, cut.asleep, cut.quiet):
        home = home_of(client.laptop)
        assert_numbered(home)
        assert (home / "log.jsonl").read_bytes() == read_there(server, f"runs/{home.name}/0/log.jsonl")
    for client in (cut.chatty, cut.asleep):
        assert client.out.decode() == left_at(home_of(client.laptop)).stdout
        assert client.out.count(b"\n") == 1550


def test_a_checkpoint_on_its_way_is_gone_on_with(cut: Cut, server: GPUServer) -> None:
    home = home_of(cut.pulling.laptop)

    assert 4 * MB < cut.pulled_at_cut < 20 * MB
    for name in ("step-0020.json", "step-0040.json"):
        found = home / "checkpoints" / name
        assert found.stat().st_size > 20 * MB
        there = server.run(f"sha256sum /home/trainer/.launcher/runs/{home.name}/0/out/checkpoints/{name}")
        here = subprocess.run(["sha256sum", found], capture_output=True, text=True, check=True).stdout
        assert here.split()[0] == there.split()[0]


def test_a_laptop_that_slept_while_the_network_was_gone_goes_on(cut: Cut) -> None:
    assert cut.asleep.process.returncode == 0, cut.asleep.text()
    assert cut.asleep.laptop.status()["state"] == "succeeded"


def test_a_network_that_is_back_is_found_within_seconds(server: GPUServer) -> None:
    server.cut_network("drop")
    restorer = threading.Timer(7.5, server.restore)  # just after the system's fourth and last packet but one
    restorer.start()
    began = time.monotonic()
    try:
        connect(server.host, server.port).close()
    finally:
        restorer.join()
    print(f"connected {time.monotonic() - began - 7.5:.1f} s after the network was back")
    assert time.monotonic() - began < 7.5 + 3


def test_twenty_cuts_in_one_run_lose_nothing(server: GPUServer, tmp_path: Path) -> None:
    with FaultProxy(server.host, server.port, Faults(cut_after=400_000)) as bad:
        params = {"steps": 400, "pause": 0.01, "every": 100, "bytes": 2 * MB}
        laptop = laptop_at(tmp_path / "laptop", server, port=bad.port, **params)
        client = Follower(laptop, "run", "steady", "--on", "gpu1")
        try:
            laptop.wait_for(lambda: client.count("trying again") >= 20, "20 cuts", timeout=60)
            bad.faults.cut_after = None
            assert client.end() == 0, client.text()
        finally:
            laptop.close()

    home = home_of(laptop)
    assert (home / "log.jsonl").read_bytes() == read_there(server, f"runs/{home.name}/0/log.jsonl")
    assert client.out.decode() == left_at(home).stdout
    assert_numbered(home)
    assert client.out.count(b"\n") == 400
    assert json.loads((home / "capsule.json").read_bytes())["state"] == "succeeded"
