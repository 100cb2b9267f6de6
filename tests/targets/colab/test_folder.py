"""What a follower reads of a runtime, what its cells say, and what an account would do for (no job in between)."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.agent import records
from launcher.errors import CapacityError, Unreachable
from launcher.job.gpu import Gpu
from launcher.job.spec import JobSpec, Resources
from launcher.lock import Lock, Pin
from launcher.run import State
from launcher.target import Need, Range
from launcher.targets.colab import cells, offer, outcomes
from launcher.targets.colab.api import Account, ColabAPI, Runtime, Wanted
from launcher.targets.colab.folder import ColabFolder, Spot
from launcher.targets.colab.kernel import Ending
from launcher.targets.colab.runtime import Reclaimed, RuntimeLine
from tests.emulators.colab.emulator import Colab

ACCOUNT = Account(accelerators=("T4", "L4"), free_units=60.0)
NUMBERS = itertools.count()
AGENT = Path(__file__).parents[3] / "launcher"


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab() as emulator:
        yield emulator


@dataclasses.dataclass
class Place:
    """A segment's folder on a runtime, with no agent in it."""

    folder: ColabFolder
    path: Path
    visits: list[None]


@pytest.fixture(scope="module")
def runtime(colab: Colab) -> RuntimeLine:
    return new_runtime(colab, "shared")


@pytest.fixture
def place(colab: Colab, runtime: RuntimeLine) -> Iterator[Place]:
    """On the runtime that all tests share."""
    made = new_place(colab, runtime)
    yield made
    made.folder.close()


def new_runtime(colab: Colab, name: str) -> RuntimeLine:
    api = ColabAPI(colab.url, lambda: colab.token)
    runtime = api.assign(Wanted(outcomes.notebook_id(name, 0)))
    line = RuntimeLine(runtime, lambda: api.refresh(runtime.endpoint))
    line.wait()
    return line


def new_place(colab: Colab, line: RuntimeLine) -> Place:
    """What an upload would have left, for a segment of its own."""
    spot, visits = Spot("train-abcdefgh", next(NUMBERS)), list[None]()
    disk = colab.disk(line.runtime.endpoint)
    path, payload = (disk / one.removeprefix("/") for one in (spot.folder, spot.payload))
    (path / "out").mkdir(parents=True)
    payload.mkdir(parents=True)
    with zipfile.ZipFile(payload / "agent.bin", "w") as archive:
        archive.write(AGENT / "__init__.py", "launcher/__init__.py")
        for file in (AGENT / "agent").glob("*.py"):
            archive.write(file, f"launcher/agent/{file.name}")
    return Place(ColabFolder(line, spot, lambda: visits.append(None), visit_s=0.5), path, visits)


# the folder


def test_ranges_come_in_order_and_a_missing_file_is_nothing(place: Place) -> None:
    (place.path / "log.jsonl").write_bytes(b"0123456789")
    wanted = [Range("log.jsonl", 4, 3), Range("none"), Range("log.jsonl", 10), Range("log.jsonl", 8)]
    assert list(place.folder.read(wanted)) == [(0, b"456"), (3, b"89")]


def test_files_are_found_at_any_depth(place: Place) -> None:
    (place.path / "out" / "tb" / "deep").mkdir(parents=True)
    (place.path / "out" / "tb" / "deep" / "events.out.1").write_bytes(b"abc")
    (place.path / "out" / "tb" / "other").write_bytes(b"")
    assert [(name, size) for name, size, _ in place.folder.find("out", ["events*"])] == [
        ("tb/deep/events.out.1", 3)
    ]
    assert place.folder.find("nothing", ["*"]) == []


def test_what_jupyter_hides_is_read_under_another_name(place: Place) -> None:
    hidden = ["out/.hid/den ü/it's", "out/.y", "out/.none"]
    (place.path / "out/.hid/den ü").mkdir(parents=True)
    for turn in (b"first", b"second"):
        for path in hidden[:2]:
            (place.path / path).unlink(missing_ok=True)
            (place.path / path).write_bytes(turn + path.encode())
        (place.path / "log.jsonl").write_bytes(turn)
        ranges = [Range("log.jsonl"), *(Range(path, 1) for path in hidden)]
        expected = [(0, turn), *((i + 1, (turn + path.encode())[1:]) for i, path in enumerate(hidden[:2]))]
        assert list(place.folder.read(ranges)) == expected


def test_a_note_makes_its_folder(place: Place) -> None:
    place.folder.put("control/stop", b"{}")
    assert (place.path / "control" / "stop").read_bytes() == b"{}"


def test_without_an_agent_a_follower_gets_all_and_ends(place: Place) -> None:
    (place.path / "log.jsonl").write_bytes(b"one\ntwo\n")
    got = [item for item in place.folder.follow({"log.jsonl": 4, "manifest.jsonl": 0}) if item[0]]
    assert got == [("log.jsonl", b"two\n")]


def test_a_follower_hears_of_each_growth_until_the_agent_dies(place: Place) -> None:
    with living_agent(place) as agent:
        stream = place.folder.follow({"log.jsonl": 0, "out/metrics.jsonl": 0})
        for name, text in (("log.jsonl", b"a\n"), ("out/metrics.jsonl", b"b\n"), ("log.jsonl", b"c\n")):
            with (place.path / name).open("ab") as file:
                file.write(text)
            assert next(item for item in stream if item[0]) == (name, text)
        agent.kill()
        assert [item for item in stream if item[0]] == []


def test_a_follower_tells_colab_that_somebody_is_there(place: Place) -> None:
    with living_agent(place):
        stream = place.folder.follow({"log.jsonl": 0})
        while not place.visits:
            next(stream)


def test_closing_ends_a_follower_that_waits(place: Place) -> None:
    ended: list[BaseException | None] = []

    def follow() -> None:
        try:
            for _ in place.folder.follow({"log.jsonl": 0}):
                heard.set()
            ended.append(None)
        except Unreachable as e:
            ended.append(e)

    heard = threading.Event()
    with living_agent(place):
        thread = threading.Thread(target=follow)
        thread.start()
        heard.wait(60)
        place.folder.close()
        thread.join(60)
    assert len(ended) == 1


def test_a_reclaimed_runtime_reads_as_empty(colab: Colab) -> None:
    place = new_place(colab, new_runtime(colab, "taken"))
    (place.path / "log.jsonl").write_bytes(b"0123456789")
    colab.reclaim()
    folder = place.folder
    assert list(folder.read([Range("log.jsonl")])) == []
    assert folder.find("out", ["*"]) == []
    assert [item for item in folder.follow({"log.jsonl": 0}) if item[0]] == []
    with pytest.raises(Reclaimed):
        folder.put("control/stop", b"{}")
    folder.close()


class living_agent:
    """The lock of an agent, held by a process here: the runtime's disk is this machine's."""

    def __init__(self, place: Place) -> None:
        code = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
        code += "; print(1, flush=True); time.sleep(600)"
        self._command = [sys.executable, "-c", code, str(place.path / records.LOCK)]

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


# what cells say


def test_the_last_sizes_of_an_output_count() -> None:
    text = 'launcher:sizes {"log.jsonl": 1}\nlauncher:sizes {"log.jsonl": 20, "out/metrics.jsonl": 3}\n'
    assert cells.sizes_in(text) == {"log.jsonl": 20, "out/metrics.jsonl": 3}
    assert cells.sizes_in("") == cells.sizes_in('launcher:sizes {"log.js') == {}
    assert cells.sizes_in('launcher:sizes {"log.jsonl": "many"}\n') == {}


def test_no_cell_holds_a_secret_or_breaks_on_odd_paths() -> None:
    odd = "/content/a 'b' \"c\" {d}"
    for text in (cells.opened(odd, "0" * 64), cells.looking(odd, odd), cells.watching(odd, odd, ["{x}"])):
        compile(text, "cell", "exec")
        assert repr(odd) in text
    assert "input()" in cells.SECRETS


# what the account would do for


def need(lock: Lock | None = None, hours: float = 6, **resources: Any) -> Need:
    spec = JobSpec("train", "python train.py", resources=Resources(**resources))
    limits = dataclasses.replace(spec.limits, time_s=hours * 3600)
    return Need(dataclasses.replace(spec, limits=limits), lock)


def chosen(account: Account = ACCOUNT, options: Mapping[str, Any] | None = None, **resources: Any) -> str:
    return offer.model(need(**resources).spec, account, options or {}).name


def test_the_first_eligible_gpu_that_fits_is_asked_for() -> None:
    assert chosen() == ""
    assert chosen(gpu=Gpu(memory_bytes=16 * 10**9)) == "T4"
    assert chosen(gpu=Gpu(memory_bytes=20 * 10**9)) == "L4"
    assert chosen(gpu=Gpu(models=("L4", "T4"))) == "T4"
    assert chosen(gpu=Gpu(models=("T4",)), account=Account()) == "T4"
    assert chosen(gpu=Gpu(memory_bytes=10**9), options={"accelerator": "l4"}) == "L4"


@pytest.mark.parametrize(
    ("options", "resources", "why"),
    [
        ({}, {"gpu": Gpu(models=("A100",))}, "may not ask for A100"),
        ({"accelerator": "P100"}, {"gpu": Gpu(memory_bytes=10**9)}, "no accelerator 'P100'"),
        ({"accelerator": "T4"}, {"gpu": Gpu(memory_bytes=20 * 10**9)}, "accelerator T4 is not what"),
        ({}, {"gpu": Gpu(models=("T4",)), "count": 2}, "2 GPUs"),
        ({}, {"memory_bytes": 30 * 10**9}, "memory: high"),
    ],
)
def test_what_would_not_do_says_why(options: dict[str, Any], resources: dict[str, Any], why: str) -> None:
    found = offer.offer("colab", need(**resources), ACCOUNT, options)
    assert not found.fits
    assert why in found.why_not


def test_units_that_may_not_last_are_a_note_and_none_at_all_a_refusal() -> None:
    gpu = Gpu(models=("T4",))
    little = offer.offer("colab", need(gpu=gpu), dataclasses.replace(ACCOUNT, free_units=3.6), {})
    assert little.fits
    assert any("lasts for about 3h" in note for note in little.notes), little.notes
    none = dataclasses.replace(ACCOUNT, free_units=0.0, free_refill_at="2026-11-24T00:00:00Z")
    refused = offer.offer("colab", need(gpu=gpu), none, {})
    assert not refused.fits
    assert "2026-11-24" in refused.why_not
    assert offer.offer("colab", need(gpu=gpu), dataclasses.replace(none, paid_units=50.0), {}).fits


def test_a_torch_without_code_for_the_gpu_is_refused_before_a_runtime_is_asked_for() -> None:
    pins = (Pin("torch", "2.9.0+cpu", ("sha256:" + "0" * 64,)),)
    lock = Lock("0" * 64, pins, python="3.12.3", heavy=frozenset({"torch"}))
    gpu = Gpu(models=("T4",))
    assert "build for CPUs" in offer.offer("colab", need(lock, gpu=gpu), ACCOUNT, {}).why_not
    on_cpu = offer.offer("colab", need(lock), ACCOUNT, {})
    assert on_cpu.fits
    assert on_cpu.setup_s == offer.SETUP_S + offer.HEAVY_S


# what Colab's answers mean


def test_a_segment_always_has_the_same_notebook() -> None:
    first = outcomes.notebook_id("train-abcdefgh", 0)
    assert first == outcomes.notebook_id("train-abcdefgh", 0)
    assert len({first, outcomes.notebook_id("train-abcdefgh", 1), outcomes.notebook_id("x-abcdefgh", 0)}) == 3


def test_less_than_was_asked_for_is_no_capacity() -> None:
    given = Runtime("e", "T4", "http://127.0.0.1:1", "token", 0.0)
    assert outcomes.mismatch(Wanted("n", "T4"), given) is None
    assert isinstance(outcomes.mismatch(Wanted("n", "L4"), given), CapacityError)
    assert isinstance(outcomes.mismatch(Wanted("n", "T4", high_memory=True), given), CapacityError)


def test_a_runtime_that_is_gone_ends_only_what_ran_there() -> None:
    assert outcomes.gone(handed_over=True).state is State.PREEMPTED
    assert outcomes.gone(handed_over=False).state is State.PENDING


def test_a_cell_that_failed_is_one_line() -> None:
    assert outcomes.failed("environment", Ending("ok")) is None
    ours = outcomes.failed("environment", Ending("error", "NotebookError", "no uv\nat all"))
    assert ours is not None
    assert ours.message == "environment on Colab: no uv"
    theirs = outcomes.failed("start", Ending("error", "OSError", "disk"))
    assert theirs is not None
    assert theirs.message == "start on Colab: disk (OSError)"
    died = outcomes.failed("start", Ending("died"))
    assert died is not None
    assert "died" in died.message
