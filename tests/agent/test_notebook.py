"""A notebook's own parts: the session it is in, what may reach a job, its lines, and the session's end."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from launcher.agent import ending, notebook_end, notebook_follow, notebook_place, watch
from launcher.published import exit_record
from tests.agent.segment import SegmentFolder


def test_kaggles_session_number_is_the_last_but_one_part_of_its_container() -> None:
    assert (
        notebook_place.session_id({"KAGGLE_CONTAINER_NAME": "kaggle_x-Yz-310000007-webtier"}) == "310000007"
    )
    assert notebook_place.session_id({"KAGGLE_CONTAINER_NAME": "something"}) == ""
    assert notebook_place.session_id({}) == ""


def test_a_session_is_as_old_as_the_first_process_of_its_platform() -> None:
    on_kaggle = notebook_place.session_age_s({"KAGGLE_CONTAINER_NAME": "a-1-b"})
    elsewhere = notebook_place.session_age_s({})
    assert on_kaggle >= elsewhere > 0  # process 1 is older than this one


def test_what_must_be_left_of_a_session_is_the_grace_and_time_to_keep_results_but_never_much_of_it() -> None:
    assert notebook_place.margin_s(12 * 3600, 60) == 120
    assert notebook_place.margin_s(120, 60) == 6


def test_a_job_gets_the_drivers_libraries_and_nothing_else_of_the_platform(tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    driver.mkdir()
    (driver / "libcuda.so.1").touch()
    here = {
        "PATH": "/opt/conda/bin:/usr/bin",
        "PYTHONPATH": "/kaggle/lib",
        "PYTHONUSERBASE": "/root/.local",
        "LD_LIBRARY_PATH": f"/usr/local/cuda/lib64:{driver}:/usr/lib64-nvidia",
        "CUDA_VISIBLE_DEVICES": "0",
        "KAGGLE_API_V1_TOKEN": "/kaggle/tmp/.api-token",
        "UV_SYSTEM_PYTHON": "true",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "https_proxy": "http://proxy:3128",
    }
    job, build = notebook_place.job_variables(here), notebook_place.build_variables(here, "/root")
    assert job["LD_LIBRARY_PATH"] == f"{driver}:/usr/lib64-nvidia"
    assert sorted(job) == ["CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LD_LIBRARY_PATH", "PATH"]
    assert "/opt/conda/bin" not in job["PATH"].split(":")
    assert sorted(build) == ["HOME", "PATH", "UV_DEFAULT_INDEX", "UV_NO_CONFIG", "https_proxy"]


@pytest.mark.parametrize(
    ("time_s", "session_s", "wanted"),
    [
        (60.0, None, {"time": 160.0}),
        (None, 30.0, {"session": 125.0}),
        (60.0, 30.0, {"time": 160.0, "session": 125.0}),
        (60.0, 3.0, {"time": 160.0, "session": 100.0}),  # used up while the agent prepared: at once
        (None, None, {}),
    ],
)
def test_the_run_counts_from_the_jobs_start_and_the_session_from_the_agents(
    time_s: float | None, session_s: float | None, wanted: dict[str, float]
) -> None:
    assert watch.limits({"time_s": time_s, "session_s": session_s}, began=95.0, now=100.0) == wanted


SAVES = """trap 'echo 7 > $LAUNCHER_OUT/state; exit 75' TERM
echo $LAUNCHER_DEADLINE; while :; do sleep 0.05; done"""


def test_a_job_is_asked_to_save_before_its_session_ends(segment: SegmentFolder) -> None:
    end = segment.run(SAVES, session_s=1.0, time_s=60.0)
    assert (end["state"], end["reason"], end["exit_code"]) == ("timed_out", "session", 75)
    assert "the session here is about to end" in segment.said()
    deadline = int(segment.said("stdout").splitlines()[0])
    assert deadline <= _seconds(end["started_at"]) + 2
    assert [line["name"] for line in segment.manifest("output")] == ["state"]


def test_the_runs_own_limit_still_ends_it_first(segment: SegmentFolder) -> None:
    end = segment.run(SAVES, session_s=60.0, time_s=1.0)
    assert (end["state"], end["reason"]) == ("timed_out", "time")


def test_an_order_without_a_session_has_none(segment: SegmentFolder) -> None:
    assert segment.run("exit 3")["state"] == "failed"
    assert ending.SESSION not in segment.said()


def test_the_job_works_where_its_folder_is_only_a_link(segment: SegmentFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "scratch"
    for name in ("home", "data"):
        (elsewhere / name).mkdir(parents=True)
    for name in ("work", "home", "data", "resume"):
        (segment.path / name).symlink_to(elsewhere / name)
    end = segment.run("pwd -P; cat note; touch $HOME/mine", files={"note": "found"})
    assert end["state"] == "succeeded"
    assert segment.said("stdout") == f"{elsewhere / 'work'}\nfound"
    assert (elsewhere / "home" / "mine").exists()


@pytest.fixture
def ended(segment: SegmentFolder) -> SegmentFolder:
    segment.run(
        """printf 'one\\ntwo\\n'; printf '{"step":1}\\n{"step":2}\\n' > $LAUNCHER_OUT/metrics.jsonl;
        head -c 300000 /dev/zero | tr '\\0' x; printf '\\nünïcode \\342\\200\\250 end\\n'; exit 3"""
    )
    return segment


def printed(segment: SegmentFolder, show: object) -> tuple[str, tuple[str, int]]:
    out = io.StringIO()
    with redirect_stdout(out):
        end = notebook_follow.follow(str(segment.path), show)
    return out.getvalue(), end


def test_the_log_comes_out_byte_for_byte_and_metrics_beside_it(ended: SegmentFolder) -> None:
    text, end = printed(ended, notebook_follow.Exact())
    lines = text.split("\n")[:-1]
    log = "".join(line + "\n" for line in lines if line.startswith('{"v":1,"seq":')).encode()
    assert log == (ended.path / "log.jsonl").read_bytes()
    metrics = [line for line in lines if line.startswith("launcher:metrics ")]
    assert metrics == ['launcher:metrics {"step":1}', 'launcher:metrics {"step":2}']
    assert end == ("failed", 3)


def test_only_whole_lines_are_shown_however_they_are_written(tmp_path: Path) -> None:
    shown: list[bytes] = []
    tail = notebook_follow._Tail(str(tmp_path / "log.jsonl"), shown.append)
    assert not tail.forward()
    with open(tmp_path / "log.jsonl", "ab", buffering=0) as file:
        for piece in (b"one\ntw", b"o\nthree", b"", b"\n"):
            file.write(piece)
            tail.forward()
    assert shown == [b"one\n", b"two\n", b"three\n"]


def test_a_person_reads_the_jobs_own_text(ended: SegmentFolder) -> None:
    text, _ = printed(ended, notebook_follow.Readable())
    assert text.startswith("launcher: fingerprint sha256:")
    assert "one\ntwo\n" in text
    assert "ünïcode \u2028 end\n" in text
    assert "x" * 300000 in text
    assert '"seq"' not in text


def test_a_program_that_reads_the_files_itself_is_told_how_far_they_are(ended: SegmentFolder) -> None:
    text, _ = printed(ended, notebook_follow.Quiet())
    assert text.splitlines()[-1] == f"launcher:log {(ended.path / 'log.jsonl').stat().st_size}"
    assert len(text) < 500


def test_a_killed_agent_is_lost(segment: SegmentFolder) -> None:
    segment.start("sleep 60")
    segment.until(lambda: segment.state()["phase"] == "running")
    assert segment.agent is not None
    segment.agent.kill()
    segment.agent.wait()
    assert printed(segment, notebook_follow.Exact())[1] == ("lost", 125)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"state": "failed", "exit_code": 3}, 3),
        ({"state": "succeeded", "exit_code": 0}, 0),
        ({"state": "timed_out", "exit_code": None}, 124),
        ({"state": "failed", "exit_code": None}, 125),
        ({"state": "cancelled", "exit_code": None}, 137),
        ({"state": "failed", "exit_code": 300}, 44),
    ],
)
def test_the_exit_code_is_the_jobs_own(end: dict[str, object], code: int) -> None:
    assert notebook_follow.exit_code(end) == code


def test_what_never_started_leaves_a_record_that_the_client_reads_and_a_second_try_removes(
    segment: SegmentFolder,
) -> None:
    order = segment.order("true", first_seq=41)
    notebook_end.refuse(str(segment.path), order, "refused: no value for the secret HF_TOKEN")
    found = exit_record((segment.path / "exit.json").read_bytes(), order["run"], 0)
    assert (found.state.value, found.reason) == ("failed", "refused: no value for the secret HF_TOKEN")
    assert (found.last_seq, found.log_size) == (41, (segment.path / "log.jsonl").stat().st_size)
    assert [event["seq"] for event in segment.log()] == [41]
    notebook_end.take_back(str(segment.path))
    assert not (segment.path / "exit.json").exists()
    assert not (segment.path / "log.jsonl").exists()


def test_an_agents_own_end_is_never_removed(ended: SegmentFolder) -> None:
    before = sorted(os.listdir(ended.path))
    notebook_end.take_back(str(ended.path))
    assert sorted(os.listdir(ended.path)) == before
    json.loads((ended.path / "exit.json").read_bytes())


def _seconds(when: str) -> float:
    import datetime

    return datetime.datetime.fromisoformat(when).timestamp()
