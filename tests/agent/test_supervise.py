"""A segment from its order to its exit record, with a real agent process."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.segment import AGENT, ROOT, SegmentFolder


def test_a_job_that_ends_well_has_succeeded_and_its_record_proves_its_files(segment: SegmentFolder) -> None:
    end = segment.run(
        "cat hello.txt; echo '{\"step\": 1}' > $LAUNCHER_OUT/metrics.jsonl", files={"hello.txt": "hi\n"}
    )
    assert (end["state"], end["reason"], end["exit_code"], end["signal"]) == ("succeeded", "", 0, None)
    assert segment.bytes_of("stdout") == b"hi\n"
    for name in ("log", "manifest"):
        data = (segment.path / f"{name}.jsonl").read_bytes()
        assert end[name] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert end["last_seq"] == len(segment.log())
    assert [line["name"] for line in segment.manifest("output")] == ["metrics.jsonl"]


def test_the_first_event_is_the_fingerprint_and_its_file_agrees(segment: SegmentFolder) -> None:
    segment.run("true", first_seq=41)
    first = segment.log()[0]
    record = json.loads((segment.path / "fingerprint.json").read_bytes())
    assert (first["seq"], first["stream"]) == (41, "launcher")
    assert first["text"].startswith(f"fingerprint sha256:{record['portable_sha256']} · python ")


@pytest.mark.parametrize(
    ("command", "state", "reason", "code", "signal"),
    [
        ("exit 3", "failed", "", 3, None),
        ("exit 75", "timed_out", "wants-resume", 75, None),
        (["sh", "-c", "exit 75"], "timed_out", "wants-resume", 75, None),
        ("no-such-command-here", "failed", "command-not-found", 127, None),
        (["no-such-command-here"], "failed", "command-not-found", 127, None),
        (["/etc/passwd"], "failed", "", 126, None),
        ("kill -SEGV $$", "failed", "signal", 139, 11),
        (["true"], "succeeded", "", 0, None),
    ],
)
def test_every_end_has_its_state_reason_and_code(
    segment: SegmentFolder, command: str | list[str], state: str, reason: str, code: int, signal: int | None
) -> None:
    end = segment.run(command)
    assert (end["state"], end["reason"], end["exit_code"], end["signal"]) == (state, reason, code, signal)


def test_a_command_that_cannot_be_started_is_named_in_the_log(segment: SegmentFolder) -> None:
    segment.run(["no-such-command-here"])
    assert "no-such-command-here" in segment.said()


def test_a_list_is_argv_and_a_string_is_for_the_shell(segment: SegmentFolder) -> None:
    segment.run([sys.executable, "-c", "import sys; print(sys.argv[1:])", "$HOME", "a b"])
    assert segment.said("stdout") == "['$HOME', 'a b']\n"


def test_the_job_reads_nothing_on_stdin_and_works_in_its_own_copy(segment: SegmentFolder) -> None:
    segment.run("wc -c; pwd; ls; touch new; test -w a.txt", files={"a.txt": "a", "deep/b.sh": "#!/bin/sh\n"})
    assert segment.said("stdout").splitlines() == ["0", str(segment.path / "work"), "a.txt", "deep"]
    assert (segment.path / "work" / "deep" / "b.sh").stat().st_mode & 0o777 == 0o755


def test_a_second_agent_leaves_a_living_segment_alone(segment: SegmentFolder) -> None:
    segment.start("sleep 30")
    segment.until(lambda: segment.state()["phase"] == "running")
    second = subprocess.run([*AGENT, str(segment.path)], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    assert second.returncode == 3
    assert segment.state()["phase"] == "running"


def test_a_segment_runs_once_in_its_life(segment: SegmentFolder) -> None:
    segment.run("echo once")
    before = (segment.path / "exit.json").read_bytes()
    again = subprocess.run([*AGENT, str(segment.path)], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    assert again.returncode == 4
    assert (segment.path / "exit.json").read_bytes() == before
    assert segment.said("stdout") == "once\n"


def test_the_lock_is_held_while_it_runs_and_free_afterwards(segment: SegmentFolder) -> None:
    segment.start("echo up; sleep 30")
    segment.until_said("up")
    assert not free(segment.path / "agent.lock")
    segment.stop(grace_s=1)
    segment.wait()
    assert free(segment.path / "agent.lock")


def test_a_job_that_ends_at_once_loses_nothing(segment: SegmentFolder) -> None:
    segment.run("seq 20000")
    assert segment.bytes_of("stdout") == "".join(f"{n}\n" for n in range(1, 20001)).encode()


def test_output_of_a_process_that_outlives_the_command_shortly_is_kept(segment: SegmentFolder) -> None:
    segment.run("(sleep 0.3; echo late) & echo early")
    assert segment.said("stdout") == "early\nlate\n"


def test_two_streams_stay_apart(segment: SegmentFolder) -> None:
    segment.run("echo out; echo err >&2")
    assert (segment.bytes_of("stdout"), segment.bytes_of("stderr")) == (b"out\n", b"err\n")


def test_state_says_who_runs_since_when_and_until_when(segment: SegmentFolder) -> None:
    segment.start("echo up; sleep 30", time_s=100.0)
    segment.until_said("up")
    state = segment.until(lambda: segment.state()["phase"] == "running" and segment.state())
    assert segment.agent is not None
    assert state["agent_pid"] == segment.agent.pid
    assert os.getsid(state["pid"]) == state["session"] == state["pid"]
    deadline = state["deadline"]
    assert f"LAUNCHER_DEADLINE={deadline}".encode() in Path(f"/proc/{state['pid']}/environ").read_bytes()


def test_rank_one_writes_a_log_of_its_own(segment: SegmentFolder) -> None:
    segment.run("echo hi", rank=1, nodes=2, node_rank=1)
    events = [json.loads(line) for line in (segment.path / "log.1.jsonl").read_bytes().splitlines()]
    assert [event["rank"] for event in events] == [1, 1]
    assert not (segment.path / "log.jsonl").exists()


def test_nothing_of_the_agents_own_is_left_but_its_records(segment: SegmentFolder) -> None:
    segment.run("true")
    left = {path.name for path in segment.path.iterdir()} - {"work", "out", "home", "data", "control"}
    assert left == {
        *("order.json", "bundle.tar", "fingerprint.json", "log.jsonl", "manifest.jsonl"),
        *("state.json", "exit.json", "agent.lock", "agent.err"),
    }
    assert segment.errors() == ""


def free(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
