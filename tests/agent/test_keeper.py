"""Nothing of a job outlives it, its agent, or its grace; and only the right processes hear SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.agent.segment import SegmentFolder, pids, processes_of, read

STUBBORN = """
import os, signal, sys, time
def say(word):
    os.write(1, f"{sys.argv[1]} {word}\\n".encode())  # at once, so that two of these never mix
signal.signal(signal.SIGTERM, lambda *_: say("heard"))
say("up")
while True:
    time.sleep(60)
"""
SAVES = (
    STUBBORN.replace(
        "signal.signal(",
        "def save():\n    time.sleep(1.2)\n    say('saved')\n    sys.exit(int(sys.argv[2]))\nsignal.signal(",
    )
).replace('say("heard")', "save()")
# A grandchild in a session of its own, doubly forked: out of reach of any group or session.
RUNAWAY = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("runaway", os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""


def test_a_killed_agent_leaves_no_trainer_and_a_readable_log(segment: SegmentFolder) -> None:
    agent = segment.start(f"{sys.executable} runaway.py & {sys.executable} chatty.py", files=FILES)
    segment.until(lambda: "runaway" in segment.said("stdout") and len(segment.log()) > 50)
    agent.kill()
    agent.wait()
    segment.until(lambda: not processes_of(segment.path))
    numbers = [event["seq"] for event in segment.log()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert not (segment.path / "exit.json").exists()


def test_the_lock_of_a_killed_agent_is_free_only_when_its_job_is_gone(segment: SegmentFolder) -> None:
    import fcntl

    agent = segment.start([sys.executable, "stubborn.py", "trainer"], files=FILES)
    segment.until_said("trainer up")
    agent.kill()
    with (segment.path / "agent.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert processes_of(segment.path) == []


def test_a_killed_keeper_ends_the_job_and_the_agent_tells(segment: SegmentFolder) -> None:
    segment.start([sys.executable, "runaway.py"], files=FILES)
    segment.until_said("runaway")
    assert segment.agent is not None
    os.kill(children(segment.agent.pid)[0], signal.SIGKILL)
    end = segment.wait()
    assert (end["state"], end["exit_code"]) == ("failed", 137)
    assert processes_of(segment.path) == []


def test_a_command_dies_even_with_agent_and_keeper_killed_at_once(segment: SegmentFolder) -> None:
    agent = segment.start([sys.executable, "stubborn.py", "trainer"], files=FILES)
    segment.until_said("trainer up")
    keeper = children(agent.pid)[0]
    agent.send_signal(signal.SIGSTOP)  # it must not come to the keeper's help
    os.kill(keeper, signal.SIGKILL)
    agent.kill()
    segment.until(lambda: not processes_of(segment.path))


def test_a_job_that_ignores_sigterm_is_killed_after_its_grace_with_all_below_it(
    segment: SegmentFolder,
) -> None:
    segment.start(f"{sys.executable} runaway.py & exec {sys.executable} stubborn.py trainer", files=FILES)
    segment.until(lambda: "runaway" in segment.said("stdout") and "trainer up" in segment.said("stdout"))
    began = time.monotonic()
    segment.stop(grace_s=1.0)
    end = segment.wait()
    assert time.monotonic() - began >= 1.0
    assert "trainer heard" in segment.said("stdout")
    assert (end["state"], end["reason"], end["exit_code"], end["signal"]) == ("cancelled", "cancel", 137, 9)
    assert processes_of(segment.path) == []


def test_sigterm_reaches_the_shell_and_its_direct_children_but_no_deeper(segment: SegmentFolder) -> None:
    files = {**FILES, "nest.py": "import subprocess, sys\nprint('nest up', flush=True)\n"}
    files["nest.py"] += "sys.exit(subprocess.call([sys.executable, 'stubborn.py', 'grandchild']))\n"
    python = sys.executable
    segment.start(
        f"trap 'echo shell heard' TERM; {python} stubborn.py child & {python} nest.py & wait; wait",
        files=files,
    )
    segment.until(lambda: all(f"{who} up" in segment.said("stdout") for who in ("child", "grandchild")))
    segment.stop(grace_s=1.0)
    end = segment.wait()
    said = segment.said("stdout")
    assert "shell heard" in said
    assert "child heard" in said.replace("grandchild heard", "")
    assert "grandchild heard" not in said
    assert end["exit_code"] == 137


def test_a_command_that_is_no_shell_hears_sigterm_alone(segment: SegmentFolder) -> None:
    worker = "import subprocess\nsubprocess.Popen([sys.executable, 'stubborn.py', 'worker'])\n"
    parent = STUBBORN.replace('say("up")', worker + 'say("up")')
    # The shell gives its process to its only command: its children are then the workers of a trainer.
    segment.start(f"exec {sys.executable} parent.py parent", files={**FILES, "parent.py": parent})
    segment.until(lambda: "parent up" in segment.said("stdout") and "worker up" in segment.said("stdout"))
    segment.stop(grace_s=0.5)
    segment.wait()
    assert "parent heard" in segment.said("stdout")
    assert "worker heard" not in segment.said("stdout")


def test_a_trainer_may_save_although_its_shell_died_of_sigterm(segment: SegmentFolder) -> None:
    segment.start(f"{sys.executable} saves.py trainer 75; echo never", files=FILES)
    segment.until_said("trainer up")
    segment.stop(grace_s=10)
    end = segment.wait()
    assert "trainer saved" in segment.said("stdout")
    assert "never" not in segment.said("stdout")
    assert (end["state"], end["exit_code"]) == ("cancelled", 75)


def test_of_several_children_of_a_shell_one_that_failed_decides(segment: SegmentFolder) -> None:
    python = f"{sys.executable} saves.py"
    segment.start(f"{python} first 75 & {python} second 0 & wait", files=FILES)
    segment.until(lambda: all(f"{who} up" in segment.said("stdout") for who in ("first", "second")))
    segment.stop(grace_s=10)
    assert segment.wait()["exit_code"] == 75


def test_what_a_finished_command_leaves_behind_is_killed(segment: SegmentFolder) -> None:
    end = segment.run(f"{sys.executable} runaway.py & sleep 0.5; echo done", files=FILES)
    assert (end["state"], end["exit_code"]) == ("succeeded", 0)
    assert processes_of(segment.path) == []


def test_the_job_starts_with_default_signals(segment: SegmentFolder) -> None:
    code = "import signal; print([signal.getsignal(n) for n in (15, 2, 1)], signal.pthread_sigmask(0, []))"
    segment.run([sys.executable, "-c", code])
    said = segment.said("stdout")
    assert said.count("SIG_DFL") == 2  # Python itself takes SIGINT
    assert "default_int_handler" in said
    assert said.rstrip().endswith("set()")


@pytest.mark.parametrize("command", ["true", ["true"]])
def test_nothing_of_the_agent_is_left_either(segment: SegmentFolder, command: str | list[str]) -> None:
    segment.run(command)
    mark = os.fsencode(segment.path)
    assert [pid for pid in pids() if mark in read(f"/proc/{pid}/cmdline")] == []


FILES = {
    "stubborn.py": STUBBORN,
    "saves.py": SAVES,
    "runaway.py": RUNAWAY,
    "chatty.py": "while True: print('x' * 80, flush=True)",
}


def children(pid: int) -> list[int]:
    return [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if read(f"{path}/stat").rpartition(b")")[2].split()[1:2] == [b"%d" % pid]
    ]
