"""A job seen through the program: pure streams, the job's own exit code, the same from every later command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Done, Job, Laptop

MakeJob = Callable[..., Job]
SPEAKS = r"""
import sys, os
print("one")
print("trouble", file=sys.stderr)
sys.stdout.write("\x1b]0;title\x07two\x1b[2J\n")
os.write(1, b"\xff\n")
print("no end", end="")
"""
BYTES = b"one\n\x1b]0;title\x07two\x1b[2J\n\xff\nno end"


def test_stdout_is_the_jobs_and_nothing_else(job: MakeJob) -> None:
    done = job(SPEAKS).run()
    assert done.code == 0, done.err
    assert done.out == "one\ntwo\n�\nno end"
    assert "trouble\n" in done.err
    assert "\x1b" not in done.err


def test_the_log_is_shown_again_and_raw_is_the_very_bytes(job: MakeJob, tmp_path: Path) -> None:
    made = job(SPEAKS)
    run_id = ran(made.run("--json"))
    again = made.laptop("logs", run_id)
    assert (again.code, again.out) == (0, "one\ntwo\n�\nno end")
    assert made.laptop("logs", run_id, "-n", "1").out == "no end"
    assert made.laptop("logs", run_id, "--grep", "^tw|^.*two").out == "two\n"
    assert raw_logs(made.laptop, run_id) == BYTES


def raw_logs(laptop: Laptop, run_id: str) -> bytes:
    import subprocess
    import sys

    words = [sys.executable, "-m", "launcher", "logs", run_id, "--raw"]
    done = subprocess.run(words, env=laptop.environ, cwd=laptop.folder, capture_output=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("sys.exit(75)", 124),
        ("os.kill(os.getpid(), 9)", 137),
        ("os.kill(os.getpid(), 11)", 139),
    ],
)
def test_run_and_all_that_follow_end_with_the_jobs_own_code(job: MakeJob, end: str, code: int) -> None:
    made = job(f"import os, sys\n{end}")
    done = made.run("--name", "coded")
    assert done.code == code, done.err
    laptop = made.laptop
    assert laptop("attach", "coded").code == code
    assert laptop("wait", "coded").code == code
    assert laptop("logs", "-f", "coded").code == code
    assert laptop("status", "coded").code == 0
    assert laptop("logs", "coded").code == 0


def test_json_is_a_stream_of_objects_that_ends_with_the_result(job: MakeJob) -> None:
    done = job("print('hello'); import sys; sys.exit(4)").run("--json")
    objects = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 4
    assert {o["schema"] for o in objects} == {1}
    assert {"log", "state", "progress", "result"} <= {o["type"] for o in objects}
    assert [o["text"] for o in objects if o["type"] == "log" and o["stream"] == "stdout"] == ["hello\n"]
    assert (objects[-1]["type"], objects[-1]["exit_code"], objects[-1]["state"]) == ("result", 4, "failed")


def test_words_after_two_dashes_and_params_reach_the_job(job: MakeJob) -> None:
    made = job("import sys; print(sys.argv[1:])", run="python job.py {n}", params={"n": 1})
    done = made.run("-p", "n=7", "--", "--lr", "a b", "--json")
    assert done.out == "['7', '--lr', 'a b', '--json']\n", done.err


def test_variables_are_set_or_copied(job: MakeJob) -> None:
    made = job("import os; print(os.environ.get('A'), os.environ.get('B'), os.environ.get('C'))")
    assert made.run("-e", "A=x=y", "-e", "B", B="copied", C="not").out == "x=y copied None\n"


def test_a_detached_run_is_found_by_every_later_command_from_anywhere(job: MakeJob, tmp_path: Path) -> None:
    made = job("import time; print('began', flush=True); time.sleep(1); print('ended')")
    done = made.run("-d", "--out", str(tmp_path / "results"), "--json")
    result = json.loads(done.out.splitlines()[-1])
    assert (done.code, result["exit_code"], result["state"]) == (0, 0, "running")
    run_id = result["run"]
    assert run_id in [row["id"] for row in made.laptop("ps", "--json").json["runs"]]
    attached = made.laptop("attach", run_id)
    assert (attached.code, attached.out) == (0, "began\nended\n")
    status = made.laptop("status", run_id, "--json").json
    assert (status["schema"], status["state"], status["exit_code"]) == (1, "succeeded", 0)
    assert status["out"] == str(tmp_path / "results" / run_id)
    keys = "id name state reason exit_code unreachable_since released_at cost_usd out target segments"
    assert set(keys.split()) <= set(status)


def test_ps_shows_one_line_a_run(job: MakeJob) -> None:
    made = job("print(1)")
    run_id = ran(made.run("--json"))
    lines = made.laptop("ps", "-a").out.splitlines()
    assert lines[0].split()[:3] == ["RUN", "STATE", "WHERE"]
    assert [line.split()[1:3] for line in lines if line.startswith(run_id)] == [["succeeded", "local"]]
    assert run_id in made.laptop("ps", "-aq").out.splitlines()


def test_two_runs_of_one_job_do_not_differ_and_ends_tell(job: MakeJob) -> None:
    made = job("import os; print(os.environ['P'])", env={"P": "1"})
    first, second = ran(made.run("--json")), ran(made.run("--json"))
    other = ran(made.run("-e", "P=2", "--json"))
    laptop = made.laptop
    assert laptop("diff", first, second).code == 0
    assert laptop("diff", first, other).code == 1
    assert laptop("diff", first, other, "--json").json["equal"] is False
    assert "≠" in laptop("diff", first, other).out


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(job: MakeJob) -> None:
    made = job("print(1)")
    before = made.laptop("ps", "-aq").out
    value = made.run("--dry-run").json
    assert value["schema"] == 1
    assert "job.py" in value["files"]
    assert made.laptop("ps", "-aq").out == before


def test_a_script_imports_what_several_jobs_share(job: MakeJob) -> None:
    made = job(
        "import common, lib.one\nprint(common.X + lib.one.X)", files={"also": ["../common.py", "../lib"]}
    )
    common, one = made.folder.parent / "common.py", made.folder.parent / "lib" / "one.py"
    common.write_text("X = 1\n")
    one.parent.mkdir()
    one.write_text("X = 1\n")
    assert made.run("--dry-run").json["files"] == ["common.py", "job.py", "lib/one.py"]
    assert "../common.py, ../lib" in made.laptop("plan", str(made.folder)).out
    first = ran(made.run("--json"))
    common.write_text("X = 2\n")
    assert made.laptop("logs", first).out == "2\n"
    assert made.run("--name", "changed").out == "3\n"
    again = made.laptop("rerun", first)
    assert again.out == "2\n", again.err  # what was packed then, not what lies there now
    assert "bundle" in made.laptop("diff", first, "changed").out
    common.unlink()
    done = made.run()
    assert (done.code, done.out) == (2, "")
    assert "job.yaml:1: files.also[0]: ../common.py: no such file" in done.err


def test_a_plan_changes_nothing(job: MakeJob) -> None:
    made = job("print(1)")
    done = made.laptop("plan", str(made.folder), "--on", "local")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split()[:2] == ["local", "yes"]
    assert made.laptop("plan", str(made.folder), "--json").json["targets"][0]["fits"] is True


def test_a_broken_spec_is_2_with_its_place(job: MakeJob) -> None:
    done = job("", nmae="x").run()
    assert (done.code, done.out) == (2, "")
    assert "job.yaml:1" in done.err
    assert "name" in done.err


def test_what_is_refused_is_126(job: MakeJob) -> None:
    assert job("", resources={"nodes": 2}).run().code == 126


def ran(done: Done) -> str:
    """The id of the run that a --json stream tells of."""
    result: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return str(result["run"])
