"""The steward and segments: launch, follow, look, signal, sweep; with real agents and processes."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from launcher.agent import records
from launcher.agent.frames import WINDOW
from launcher.errors import RemoteError
from launcher.hosts.archive import agent_archive
from tests.agent.segment import SegmentFolder

RUN = "test-abcd2345"


@pytest.fixture
def folder(tmp_path):
    """The folder of a segment whose agent lives: its lock is held."""
    path = tmp_path / "root" / "runs" / RUN / "0"
    path.mkdir(parents=True)
    (path / records.LOG).touch()
    return path


@pytest.fixture
def lock(folder):
    file = open(folder / records.LOCK, "w")  # noqa: SIM115 (tests close it to end the "agent")
    fcntl.flock(file, fcntl.LOCK_EX)
    yield file
    file.close()


def write_exit(folder):
    records.write_durably(str(folder / records.EXIT), b'{"v":1,"state":"succeeded"}')


def follow(steward, folder, offsets=None, **args):
    """Everything that a follow yields by path, and how it ended."""
    offsets = {records.LOG: 0} if offsets is None else offsets
    return collect(
        steward.stream("follow", folder=str(folder), offsets=offsets, container=None, **args), "path"
    )


def collect(stream, key):
    """All data by the header's `key`, and the result."""
    got = {}
    while True:
        try:
            header, data = next(stream)
        except StopIteration as end:
            return got, end.value
        if data:
            got[header[key]] = got.get(header[key], b"") + data


def test_a_follow_brings_all_and_ends_with_the_exit_record(steward, folder, lock):
    def agent():
        with open(folder / records.LOG, "ab", buffering=0) as log:
            for number in range(2000):
                log.write(b"%d\n" % number)
        write_exit(folder)
        lock.close()

    threading.Thread(target=agent).start()
    got, end = follow(steward, folder)
    assert got[records.LOG] == b"".join(b"%d\n" % number for number in range(2000))
    assert end == {"ended": True, "exit": True}


def test_a_follow_goes_on_at_its_offsets(steward, folder):
    (folder / records.LOG).write_bytes(b"0123456789")
    (folder / records.MANIFEST).write_bytes(b"abc")
    write_exit(folder)
    got, end = follow(steward, folder, {records.LOG: 4, records.MANIFEST: 3, "none": 0})
    assert got == {records.LOG: b"456789"}
    assert end["exit"] is True


def test_files_and_folders_that_come_later_are_followed_too(steward, folder, lock):
    def agent():
        time.sleep(0.1)
        (folder / "out").mkdir()
        time.sleep(0.1)
        (folder / "out" / "metrics.jsonl").write_bytes(b"m1\n")
        time.sleep(0.1)
        with open(folder / "out" / "metrics.jsonl", "ab") as file:
            file.write(b"m2\n")
        (folder / records.MANIFEST).write_bytes(b"first\n")
        write_exit(folder)
        lock.close()

    threading.Thread(target=agent).start()
    got, _ = follow(steward, folder, {records.LOG: 0, "out/metrics.jsonl": 0, records.MANIFEST: 0})
    assert got == {"out/metrics.jsonl": b"m1\nm2\n", records.MANIFEST: b"first\n"}


def test_what_was_written_while_a_slow_reader_held_us_up_is_sent_too(steward, folder, lock):
    with open(folder / records.LOG, "wb") as log:
        log.truncate(2 * WINDOW)
    offsets = {records.MANIFEST: 0, records.LOG: 0}  # the manifest has been looked at when the log blocks
    stream = steward.stream("follow", folder=str(folder), offsets=offsets, container=None)
    next(stream)
    time.sleep(0.5)
    (folder / records.MANIFEST).write_bytes(b"published\n")
    write_exit(folder)
    lock.close()
    got, end = collect(stream, "path")
    assert got[records.MANIFEST] == b"published\n"
    assert end["exit"] is True


def test_an_agent_that_dies_without_a_record_ends_the_follow_at_once(steward, folder, lock):
    (folder / records.LOG).write_bytes(b"last words\n")
    death = []

    def agent():
        time.sleep(0.3)
        death.append(time.monotonic())
        lock.close()

    threading.Thread(target=agent).start()
    got, end = follow(steward, folder)
    assert time.monotonic() - death[0] < 1
    assert got[records.LOG] == b"last words\n"
    assert end == {"ended": True, "exit": False}


def test_an_exit_record_counts_only_once_the_agent_has_gone(steward, folder, lock):
    def agent():
        write_exit(folder)
        time.sleep(0.5)
        (folder / records.LOG).write_bytes(b"after the record\n")
        lock.close()

    threading.Thread(target=agent).start()
    got, end = follow(steward, folder)
    assert got[records.LOG] == b"after the record\n"
    assert end["exit"] is True


def test_lines_are_pushed_within_milliseconds(steward, folder, lock):
    stream = steward.stream("follow", folder=str(folder), offsets={records.LOG: 0})
    delays = []
    with open(folder / records.LOG, "ab", buffering=0) as log:
        log.write(b"warm\n")
        while next(stream)[1] != b"warm\n":
            pass
        for _ in range(50):
            time.sleep(0.01)
            sent = time.perf_counter()
            log.write(b"line\n")
            assert next(stream)[1] == b"line\n"
            delays.append(time.perf_counter() - sent)
    stream.close()
    assert sorted(delays)[25] < 0.005


def test_a_quiet_follow_says_at_once_and_every_few_seconds_that_it_is_there(steward, folder, lock):
    stream = steward.stream("follow", folder=str(folder), offsets={records.LOG: 0})
    for most_s in (1, 6):
        start = time.monotonic()
        header, data = next(stream)
        assert (header["path"], data) == ("", b"")
        assert time.monotonic() - start < most_s
    stream.close()


def test_a_follow_of_nothing_is_missing(steward):
    with pytest.raises(RemoteError) as error:
        follow(steward, "runs/none/0")
    assert error.value.code == "missing"


def test_a_look_tells_all_in_one_answer(steward, folder, lock):
    (folder / records.STATE).write_text(json.dumps({"v": 1, "phase": "running"}))
    seen = steward.call("look", folder=str(folder), container=None)
    assert seen == {
        "exists": True,
        "alive": True,
        "exit": None,
        "state": {"v": 1, "phase": "running"},
        "container": None,
    }
    write_exit(folder)
    lock.close()
    seen = steward.call("look", folder=str(folder), container=None)
    assert (seen["alive"], seen["exit"]["state"]) == (False, "succeeded")
    assert steward.call("look", folder="runs/none/0", container=None)["exists"] is False


def test_a_look_tells_the_last_words_of_a_dead_agent(steward, folder, lock):
    (folder / records.AGENT_ERRORS).write_text("x" * 5000 + "\nMemoryError\n")
    assert "agent_errors" not in steward.call("look", folder=str(folder), container=None)
    lock.close()
    seen = steward.call("look", folder=str(folder), container=None)
    assert seen["agent_errors"].endswith("x\nMemoryError\n")
    assert len(seen["agent_errors"]) == 2000


def test_records_that_are_torn_or_hostile_count_as_none(steward, folder):
    for text in (b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000):
        (folder / records.STATE).write_bytes(text)
        assert steward.call("look", folder=str(folder), container=None)["state"] is None


def test_looking_never_stands_in_an_agent_s_way(steward, folder):
    (folder / records.LOCK).touch()
    stop = threading.Event()

    def look():
        while not stop.is_set():
            steward.call("look", folder=str(folder), container=None)

    watcher = threading.Thread(target=look)
    watcher.start()
    refused = 0
    for _ in range(300):
        with open(folder / records.LOCK, "w") as file:
            for _attempt in range(20):  # an agent tries for a moment before it believes that another lives
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.005)
            else:
                refused += 1
    stop.set()
    watcher.join()
    assert refused == 0


def sleeper(env=None):
    return subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        start_new_session=True,
        env={**os.environ, **(env or {})},
    )


def test_a_signal_reaches_the_agent_and_the_job_s_session(steward, folder, lock):
    agent, job, stranger = sleeper(), sleeper(), sleeper()
    state = {"agent_pid": agent.pid, "session": job.pid}
    (folder / records.STATE).write_text(json.dumps(state))
    try:
        answer = steward.call("signal", folder=str(folder), signal="KILL", container=None)
        assert answer == {"signalled": 2}
        assert agent.wait(5) == job.wait(5) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        for process in (agent, job, stranger):
            process.kill()
            process.wait()


def test_nobody_is_signalled_when_the_agent_is_gone(steward, folder):
    stranger = sleeper()  # whoever has that number now
    try:
        (folder / records.STATE).write_text(json.dumps({"agent_pid": stranger.pid, "session": stranger.pid}))
        assert steward.call("signal", folder=str(folder), signal="KILL", container=None) == {"signalled": 0}
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_sweep_kills_what_the_segment_left_and_nothing_else(steward, folder):
    ours = [sleeper({"LAUNCHER_RUN": RUN, "LAUNCHER_SEGMENT": "0"}) for _ in range(3)]
    others = [
        sleeper({"LAUNCHER_RUN": RUN, "LAUNCHER_SEGMENT": "1"}),
        sleeper({"LAUNCHER_RUN": RUN + "x", "LAUNCHER_SEGMENT": "0"}),
    ]
    try:
        deadline = time.monotonic() + 5
        while any(process.poll() is None for process in ours):  # fresh ones get their environment in a moment
            assert time.monotonic() < deadline
            steward.call("sweep", folder=str(folder), run=RUN, segment=0)
        assert all(process.wait(5) == -signal.SIGKILL for process in ours)
        assert all(process.poll() is None for process in others)
    finally:
        for process in ours + others:
            process.kill()
            process.wait()


def test_scripts_are_streamed_and_end_with_their_code(steward):
    stream = steward.stream("run_script", argv=["sh", "-c", "echo out; echo err >&2; exit 7"])
    seen, result = collect(stream, "stream")
    assert result == {"code": 7}
    assert seen == {"stdout": b"out\n", "stderr": b"err\n"}
    assert steward.call("run_script", argv=["sh", "-c", "kill -9 $$"]) == {"code": 137}


def test_a_script_s_environment_is_changed_as_asked(steward, tmp_path):
    stream = steward.stream(
        "run_script",
        argv=["sh", "-c", 'echo "$A,${HOME-none},$PWD"'],
        env={"A": "b c", "HOME": None},
        cwd=str(tmp_path),
    )
    assert b"".join(data for _, data in stream) == f"b c,none,{tmp_path}\n".encode()


def test_a_program_that_is_not_there_is_missing(steward):
    with pytest.raises(RemoteError) as error:
        steward.call("run_script", argv=["/no/such/program"])
    assert error.value.code == "missing"


def test_scripts_with_one_lock_run_one_after_the_other(steward, tmp_path):
    script = f"test ! -e {tmp_path}/busy && touch {tmp_path}/busy && sleep 0.2 && rm {tmp_path}/busy"
    codes = []

    def build():
        codes.append(steward.call("run_script", argv=["sh", "-c", script], lock="envs/x.lock")["code"])

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4


def test_a_script_that_ignores_sigterm_ends_all_the_same(steward, tmp_path):
    stream = steward.stream(
        "run_script", argv=["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"]
    )
    pid = int(next(stream)[1])
    stream.close()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


FAKE_AGENT = """
import fcntl, json, os, sys, time
folder = sys.argv[2]
lock = open(os.path.join(folder, "agent.lock"), "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
line = sys.stdin.readline()
open(os.path.join(folder, "state.json"), "w").write(json.dumps({"agent_pid": os.getpid(), "session": None}))
open(os.path.join(folder, "got"), "w").write(line)
time.sleep(30)
"""


def test_a_launched_agent_has_its_secrets_and_outlives_the_steward(steward, folder):
    (folder.parents[2] / "fake.py").write_text(FAKE_AGENT)
    secret = json.dumps({"secrets": {"TOKEN": "x" * 200_000}}).encode() + b"\n"
    args = {"folder": str(folder), "agent": "fake.py", "form": "plain", "python": sys.executable}
    pid = steward.call("launch", secret, **args)["pid"]
    try:
        assert steward.call("look", folder=str(folder), container=None)["alive"] is True
        assert os.getsid(pid) == pid
        steward.close()
        time.sleep(0.2)
        deadline = time.monotonic() + 5
        while not (folder / "got").exists() or (folder / "got").stat().st_size < len(secret):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (folder / "got").read_bytes() == secret
        assert "TOKEN" not in Path(f"/proc/{pid}/cmdline").read_text()
    finally:
        os.kill(pid, signal.SIGKILL)


def test_an_agent_that_ends_at_once_is_told_with_its_last_words(steward, folder):
    (folder.parents[2] / "fake.py").write_text("raise SystemExit('no such thing as luck')")
    with pytest.raises(RemoteError, match="no such thing as luck"):
        steward.call("launch", folder=str(folder), agent="fake.py", form="plain", python=sys.executable)


def test_a_real_agent_runs_a_job_through_the_steward_alone(steward, tmp_path):
    segment = SegmentFolder(tmp_path / "root" / "runs" / RUN / "1")
    segment.order("echo hello; sleep 0.3; echo bye", segment=1)
    (tmp_path / "root" / "agent.pyz").write_bytes(agent_archive()[0])
    args = {"folder": str(segment.path), "agent": "agent.pyz", "form": "plain", "python": sys.executable}
    steward.call("launch", b'{"secrets":{}}\n', **args)
    assert steward.call("look", folder=str(segment.path), container=None)["alive"] is True
    got, end = follow(steward, segment.path)
    assert end == {"ended": True, "exit": True}
    lines = [json.loads(line) for line in got[records.LOG].splitlines()]
    assert "".join(line["text"] for line in lines if line["stream"] == "stdout") == "hello\nbye\n"
    seen = steward.call("look", folder=str(segment.path), container=None)
    assert (seen["alive"], seen["exit"]["state"]) == (False, "succeeded")


def test_a_probe_says_what_the_machine_has(steward):
    found = steward.call("probe")
    assert found["disk_free_bytes"] > 0
    assert found["kernel"] == os.uname().release
    assert found["tools"]["sh"]
    assert (found["docker"] is None) == bool(found["docker_error"])


def test_what_nvidia_smi_prints_is_understood():
    from launcher.agent.probe import parse_driver_cuda, parse_gpus

    text = "NVIDIA H100 80GB HBM3, 81559, 550.54.15, 9.0\nTesla T4, 15360, 550.54.15, 7.5\n"
    assert parse_gpus(text)[0] == {
        "name": "NVIDIA H100 80GB HBM3",
        "memory_mb": 81559,
        "driver": "550.54.15",
        "compute_cap": "9.0",
    }
    assert len(parse_gpus(text)) == 2
    assert parse_gpus("NVIDIA-SMI has failed because it could not communicate\n") == []
    assert (
        parse_driver_cuda("| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4  |")
        == "12.4"
    )
    assert parse_driver_cuda("CUDA Version: N/A") is None
