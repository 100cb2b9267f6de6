"""The ledger after a kill at any moment, and with many writers at once.

What a power cut adds to a kill is that writes may be lost which nobody waited for. SQLite in WAL mode with
synchronous=FULL waits for the disk before a commit returns, and a new ledger is on the disk before it has its name;
the tests here prove the order of calls, the disk proves the rest.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

from launcher.ledger import Ledger
from launcher.run import FINAL, Resource, Run, Segment, State
from tests.crash import kill_at, points, some

POINTS = 40

PROGRAM = """
import os, sys
from launcher.ledger import Ledger
from launcher.run import Resource, Run, Segment, State
said = lambda text: os.write(1, text.encode() + b"\\n")
ledger = Ledger(sys.argv[1])
said("opened")
for n in range(2):
    run = f"job-abcdefg{'ab'[n]}"
    ledger.create_run(Run(run, "job", "now", "/home", {"run": "true"}, {"n": n}))
    said(f"run {run}")
    ledger.add_segment(Segment(run, 0, "local"))
    said(f"segment {run}")
    row = ledger.intend(run, 0, Resource("machine", "", "abcdefga", paid=True))
    said(f"intent {run}")
    ledger.confirm(row, f"i-{n}", {"ip": "x"})
    said(f"confirmed {run}")
    ledger.save_handle(run, 0, {"pid": n})
    said(f"handle {run}")
    ledger.update_segment(run, 0, state=State.SUCCEEDED, exit_code=0)
    said(f"ended {run}")
    ledger.released(run, "machine", f"i-{n}")
    said(f"released {run}")
ledger.close()
"""


def test_a_kill_at_any_write_leaves_a_ledger_with_all_that_was_promised(tmp_path: Path) -> None:
    found = points(PROGRAM, [str(tmp_path / "whole")], tmp_path / "trace")
    assert len(found) > POINTS
    for number, point in enumerate(some(found, POINTS)):
        folder = tmp_path / str(number)
        said = kill_at(point, PROGRAM, [str(folder)]).decode().splitlines()
        ledger = Ledger(folder)
        _check(ledger, {tuple(line.split()) for line in said[1:]})
        _finish(ledger)
        ledger.close()
        left = {p.name for p in folder.iterdir() if not p.name.startswith(".ledger.sqlite3.")}
        assert left <= {"ledger.sqlite3", "reserve"}


def _check(ledger: Ledger, said: set[tuple[str, ...]]) -> None:
    runs = {run.id: run for run in ledger.runs()}
    rows = {held.run_id: held for held in ledger.resources(unreleased_only=False)}
    for what, run_id in said:
        segment = runs[run_id].newest
        reached = {
            "run": True,
            "segment": segment is not None,
            "intent": run_id in rows,
            "confirmed": run_id in rows and rows[run_id].resource.id.startswith("i-"),
            "handle": bool(segment and "pid" in segment.handle),
            "ended": bool(segment and segment.state is State.SUCCEEDED),
            "released": run_id in rows and rows[run_id].released_at is not None,
        }
        assert reached[what], (what, run_id)
    for run in runs.values():  # nothing is half there: an end has its code, its time and its event
        if run.newest and run.newest.state.final:
            assert (run.newest.exit_code, bool(run.newest.ended_at)) == (0, True)
            assert [event["kind"] for event in ledger.events(run.id)] == ["state"]


def _finish(ledger: Ledger) -> None:
    ledger.create_run(Run("after-abcdefgh", "after", "now", "/home", {}, {}))
    assert ledger.find("last").name == "after"


COMMANDS = """
import random, sys
from launcher.errors import LauncherError
from launcher.ledger import Ledger
from launcher.run import Resource, Segment, State
folder, number, run = sys.argv[1], int(sys.argv[2]), "job-abcdefgh"
chosen, counted = random.Random(number), 0
states = [State.PROVISIONING, State.BUILDING, State.SYNCING, State.RUNNING, State.LOST, State.SUCCEEDED, State.FAILED]
ledger = Ledger(folder)
for step in range(60):
    what = chosen.choice(["handle", "event", "state", "resource", "segment", "read"])
    newest = ledger.run(run).newest
    if what == "handle":
        ledger.save_handle(run, newest.number, {f"{number}.{step}": 1})
        counted += 1
    elif what == "event":
        ledger.event(run, "mine", {"from": number})
    elif what == "state":
        after = ledger.update_segment(run, newest.number, state=chosen.choice(states), exit_code=number)
        print("state", newest.number, after.state.value, after.exit_code)
    elif what == "resource":
        row = ledger.intend(run, newest.number, Resource("machine", f"{number}.{step}", "abcdefgh"))
        ledger.released(run, "machine", f"{number}.{step}") if step % 2 else ledger.confirm(row, f"x{number}.{step}")
        print("resource")
    elif what == "segment" and newest.state.final:
        try:
            ledger.add_segment(Segment(run, newest.number + 1, "local"))
            print("segment", newest.number + 1)
        except LauncherError:
            pass
print("handles", counted)
print("events", sum(e["kind"] == "mine" and e["data"]["from"] == number for e in ledger.events(run)))
"""


def test_eight_processes_at_once_lose_nothing_and_an_end_stays(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "home")
    ledger.create_run(
        Run("job-abcdefgh", "job", "now", "/home", {}, {}, (Segment("job-abcdefgh", 0, "local"),))
    )
    seed = random.randrange(10**6)
    command = [sys.executable, "-c", COMMANDS, str(ledger.folder)]
    processes = [
        subprocess.Popen([*command, str(seed + n)], stdout=subprocess.PIPE, text=True) for n in range(8)
    ]
    said = [line.split() for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * 8, seed
    run = ledger.run("job-abcdefgh")
    handles = sum(int(words[1]) for words in said if words[0] == "handles")
    assert sum(len(segment.handle) for segment in run.segments) == handles, seed
    assert len(ledger.resources(unreleased_only=False)) == sum(words[0] == "resource" for words in said), seed
    added = sorted(int(words[1]) for words in said if words[0] == "segment")
    assert added == list(range(1, len(run.segments))), seed
    for segment in run.segments:  # all who saw an end saw the same one, and it is what is stored
        heard = {tuple(words[2:]) for words in said if words[:2] == ["state", str(segment.number)]}
        ends = {(state, code) for state, code in heard if State(state) in FINAL}
        assert len(ends) <= 1, seed
        assert not ends or ends == {(segment.state.value, str(segment.exit_code))}, seed
    events = sum(int(words[1]) for words in said if words[0] == "events")
    assert events == sum(event["kind"] == "mine" for event in ledger.events(run.id)), seed
    ledger.close()


def test_many_may_make_the_ledger_at_the_same_moment(tmp_path: Path) -> None:
    program = "import sys; from launcher.ledger import Ledger; Ledger(sys.argv[1]).event('r', 'x')"
    command = [sys.executable, "-c", program, str(tmp_path / "home")]
    processes = [subprocess.Popen(command) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    ledger = Ledger(tmp_path / "home")
    assert len(ledger.events("r")) == 8
    ledger.close()
    assert {p.name for p in (tmp_path / "home").iterdir()} == {"ledger.sqlite3", "reserve"}


def test_the_check_of_a_crash_sees_a_ledger_that_does_not_wait(tmp_path: Path) -> None:
    """The oracle is worth something: it finds what an unsafe ledger would lose."""
    ledger = Ledger(tmp_path)
    ledger.create_run(Run("job-abcdefga", "job", "now", "/home", {}, {}))
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as db:
        db.execute("DELETE FROM runs")
    db.close()
    try:
        _check(Ledger(tmp_path), {("run", "job-abcdefga")})
    except KeyError:
        return
    raise AssertionError(json.dumps("a lost run was not noticed"))


def test_a_full_disk_still_has_room_for_the_ledger(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=66m", "tmpfs", str(disk)], check=True)
    try:
        ledger = Ledger(disk / "home")
        ledger.create_run(
            Run("job-abcdefgh", "job", "now", "/home", {}, {}, (Segment("job-abcdefgh", 0, "x"),))
        )
        assert (disk / "home/reserve").stat().st_size == 1 << 20
        with (disk / "filler").open("wb", buffering=0) as filler:
            _fill(filler)
            ledger.close()
            _fill(filler)
        ledger = Ledger(disk / "home")
        ledger.intend("job-abcdefgh", 0, Resource("machine", "", "abcdefgh", paid=True))
        assert len(ledger.resources()) == 1
        assert not (disk / "home/reserve").exists()
        ledger.close()
        (disk / "filler").unlink()
        Ledger(disk / "home").close()
        assert (disk / "home/reserve").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill(file) -> None:  # type: ignore[no-untyped-def]
    for block in (b"x" * (1 << 20), b"x" * 4096, b"x"):
        try:
            while file.write(block) == len(block):
                pass
        except OSError:
            pass
