"""kill -9 of the client, anywhere: whatever was begun is finished once, or never came into being."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.laptop import Laptop, kill
from tests.runner.steady import (
    ROOT,
    Undisturbed,
    agents_there,
    assert_whole,
    containers_there,
    folders_there,
    known_to,
    laptop_at,
    undisturbed,
)
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import need

AT_ONCE = 4
RUN = ("run", "steady", "--on", "gpu1")
CALLS = "fsync,fdatasync,rename,renameat,renameat2,linkat,unlinkat,mkdirat,ftruncate,connect,sendto"
WAY_ON = re.compile("launcher attach steady-|nothing was started|interrupted")
INTERRUPTS = {"plain": 6, "docker": 2}
SPREAD = {"plain": 10, "docker": 4}  # points, evenly chosen; LAUNCHER_TEST_POINTS=1000 takes all


@dataclass(frozen=True)
class Bed:
    """A server, and laptops made as copies of one that knows it."""

    server: GPUServer
    form: str
    template: Path
    wanted: Undisturbed
    folder: Path
    recorded: list[Point] = field(default_factory=list)

    def laptop(self) -> Laptop:
        made = Laptop(Path(tempfile.mkdtemp(dir=self.folder)) / "laptop")
        shutil.copytree(self.template / "config", made.folder / "config")
        shutil.copytree(self.template / "work" / "steady", made.work / "steady")
        return made


@pytest.fixture(scope="module", params=["plain", "docker"])
def bed(
    request: pytest.FixtureRequest, shared_gpu_server: GPUServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp(f"kills-{request.param}")
    first = laptop_at(folder / "first", shared_gpu_server, docker=request.param == "docker")
    try:
        yield Bed(shared_gpu_server, request.param, first.folder, undisturbed(first), folder)
        first.ok("release", "--all")
    finally:
        first.close()


def test_a_client_that_is_killed_at_any_moment_is_gone_on_from(bed: Bed) -> None:
    luck = random.Random(seed := time.time_ns())
    moments = [luck.uniform(0.1, 1.6) for _ in range(5)]

    report = disturbed(bed, {f"{moment:.3f} s (seed {seed})": Moment(moment).strike for moment in moments})

    print(f"{report.fired} of {len(moments)} kills hit a living client")


def test_a_client_that_is_killed_while_the_environment_is_made_is_gone_on_from(bed: Bed) -> None:
    luck = random.Random(seed := time.time_ns())
    moment = luck.uniform(0.3, 1.5 if bed.form == "plain" else 3.0)
    forget_environments(bed.server)
    laptop = bed.laptop()
    try:
        disturb(bed, laptop, Moment(moment).strike)
    except AssertionError as e:
        raise AssertionError(f"killed after {moment:.3f} s (seed {seed})") from e
    finally:
        laptop.launcher("release", "--all")
        laptop.close()


@dataclass(frozen=True)
class Moment:
    seconds: float

    def strike(self, laptop: Laptop) -> bool:
        client = laptop.start(*RUN)
        time.sleep(self.seconds)
        fired = client.poll() is None
        kill(client)
        return fired


def forget_environments(server: GPUServer) -> None:
    """As on a machine that never saw us: no environment, no uv, no images of ours."""
    server.run(f"rm -rf {ROOT}/envs {ROOT}/tools {ROOT}/blobs")
    server.run("for i in $(docker images -q 'launcher/*'); do docker rmi -f $i; done; docker image prune -f")


def test_a_client_that_is_killed_at_its_durable_steps_is_gone_on_from(bed: Bed) -> None:
    need(strace="strace")
    everywhere = points(bed)
    count = int(os.environ.get("LAUNCHER_TEST_POINTS", SPREAD[bed.form]))
    chosen = everywhere[:: max(1, round(len(everywhere) / count))]

    report = disturbed(bed, {str(point): point.strike for point in chosen})

    print(f"{report.fired} of {len(chosen)} points fired (of {len(everywhere)} in a run)")
    assert report.fired >= 0.9 * len(chosen), report.missed
    assert 0 < report.never_began < report.fired


def test_a_client_that_is_interrupted_at_its_durable_steps_ends_with_130_and_a_way_on(bed: Bed) -> None:
    need(strace="strace")
    everywhere = points(bed)
    count = int(os.environ.get("LAUNCHER_TEST_POINTS", INTERRUPTS[bed.form]))
    chosen = everywhere[3 :: max(1, round(len(everywhere) / count))]

    report = disturbed(bed, {str(point): point.interrupt for point in chosen})

    print(f"{report.fired} of {len(chosen)} interrupts were answered with 130")
    assert report.fired >= 0.8 * len(chosen), report.missed


@dataclass(frozen=True, order=True)
class Point:
    """The moment when one of the client's threads makes this call for the `number`th time."""

    call: str
    number: int

    def strike(self, laptop: Laptop) -> bool:
        code, _ = self._send("KILL", laptop)
        return code in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def interrupt(self, laptop: Laptop) -> bool:
        code, said = self._send("INT", laptop)
        assert code in (0, 130), f"{code}: {said}"
        assert "Traceback" not in said, said
        assert code == 0 or WAY_ON.search(said), said
        return code == 130

    def _send(self, name: str, laptop: Laptop) -> tuple[int, str]:
        inject = f"inject={self.call}:signal={name}:when={self.number}"
        client = laptop.start(*RUN, under=(*strace(self.call, os.devnull), "-e", inject))
        _, err = client.communicate(timeout=120)
        return client.returncode, err.decode()


def points(bed: Bed) -> list[Point]:
    """All of an undisturbed run, in the order in which they come."""
    if bed.recorded:
        return bed.recorded
    laptop = bed.laptop()
    trace = laptop.folder / "trace"
    client = laptop.start(*RUN, under=strace(CALLS, str(trace)))
    client.communicate(timeout=120)
    assert client.returncode == 0
    laptop.ok("release", "--all")
    made: Counter[tuple[str, str]] = Counter()
    found: dict[Point, None] = {}
    for thread, call in re.findall(r"^(\d+) +(\w+)\(", trace.read_text(), re.MULTILINE):
        made[thread, call] += 1
        found.setdefault(Point(call, made[thread, call]))
    bed.recorded.extend(found)
    return bed.recorded


def strace(calls: str, trace: str) -> tuple[str, ...]:
    return ("strace", "-f", "-qq", "-o", trace, "-e", f"trace={calls}")


@dataclass
class Report:
    fired: int = 0
    never_began: int = 0
    missed: list[str] = field(default_factory=list)


def disturbed(bed: Bed, faults: dict[str, Callable[[Laptop], bool]]) -> Report:
    """Each fault on a laptop of its own, several at once; all must end as an undisturbed run."""
    report, failures, lock = Report(), [], threading.Lock()
    laptops = {name: bed.laptop() for name in faults}

    def one(name: str) -> None:
        try:
            fired, began = disturb(bed, laptops[name], faults[name])
            with lock:
                report.fired += fired
                report.never_began += not began
                report.missed += [] if fired else [name]
        except Exception as error:
            with lock:
                failures.append(f"--- {name}: {error}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, faults))
    try:
        assert not failures, "\n".join(failures)
        assert_no_orphans(bed, list(laptops.values()))
    finally:
        for laptop in laptops.values():
            laptop.close()
    return report


def disturb(bed: Bed, laptop: Laptop, fault: Callable[[Laptop], bool]) -> tuple[bool, bool]:
    """(whether the client was killed, whether the run had come into being)"""
    fired = fault(laptop)
    attached = laptop.launcher("attach", "last", timeout=60)
    began = attached.code != 2
    if began:
        assert attached.code == 0, f"attach -> {attached.code}: {attached.err}"
    else:
        assert "there are no runs yet" in attached.err, attached.err
        laptop.ok(*RUN)
    assert_whole(laptop, bed.server, bed.wanted)
    return fired, began


def assert_no_orphans(bed: Bed, laptops: Sequence[Laptop]) -> None:
    """Nothing lives on the server that no ledger knows, and a release takes all of it away."""
    assert agents_there(bed.server) == []
    first = Laptop.__new__(Laptop)
    first.folder = bed.template
    known = known_to([first, *laptops])
    assert folders_there(bed.server) - known["folder"] == set()
    assert containers_there(bed.server) - known["container"] == set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda laptop: laptop.ok("release", "--all"), laptops))
    theirs = known_to(laptops)
    assert folders_there(bed.server) & theirs["folder"] == set()
    assert containers_there(bed.server) & theirs["container"] == set()
