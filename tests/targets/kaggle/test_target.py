"""A run's life on Kaggle, by the real command: placed, followed, stopped, gone on with, released."""

from __future__ import annotations

import json
from pathlib import Path

from tests.laptop import kill, records
from tests.targets.kaggle.place import Place
from tests.targets.kaggle.place import kaggle as kaggle
from tests.targets.kaggle.place import place as place

READS = """
import os, pathlib
print("data is", pathlib.Path(os.environ["LAUNCHER_DATA"], "train", "a.txt").read_text())
print("secret is", os.environ["TOKEN"], len(os.environ["TOKEN"]))
raise SystemExit(7)
"""


def test_a_job_runs_everything_comes_home_and_release_leaves_nothing(place: Place) -> None:
    laptop = place.laptop
    done = laptop.ok("run", place.counter(), "--on", "kaggle")
    assert [line for line in done.out.splitlines() if line.startswith("step")] == [
        "step 1",
        "step 2",
        "step 3",
    ]
    home, status = place.home(), laptop.status()
    assert (status["state"], status["exit_code"]) == ("succeeded", 0)
    lines = records(home / "log.jsonl")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(records(home / "metrics.jsonl")) == 3
    assert (home / "checkpoints" / "step-003.json").exists()
    assert (home / "final.txt").read_text() == "after 3 steps"
    assert len(place.sessions) == 1
    assert not place.sessions[0].gpu
    nonce = status["id"][-8:]
    assert all(nonce in ref for ref in (*place.kernels, *place.datasets))
    laptop.ok("release", "last")
    place.nothing_left()
    laptop.ok("release", "last")
    assert not list((laptop.folder / "state" / "payloads").iterdir())


def test_data_and_kaggles_own_secrets_reach_the_job_and_its_exit_code_comes_back(place: Place) -> None:
    laptop = place.laptop
    place.account.secrets["TOKEN"] = "hunter2-hunter2"
    (laptop.work / "things").mkdir()
    (laptop.work / "things" / "a.txt").write_text("in a file")
    job = laptop.job("reads", READS, environment={}, secrets=["TOKEN"], data={"train": "../things"})
    done = laptop.launcher("run", str(job), "--on", "kaggle")
    assert done.code == 7, done.err
    assert "data is in a file\n" in done.out
    assert "secret is *** 15\n" in done.out
    assert "hunter2" not in done.out + done.err


def test_a_run_is_left_alone_attached_to_anew_and_looked_at_meanwhile(place: Place) -> None:
    laptop = place.laptop
    laptop.ok("run", place.counter(steps=30, pause=0.3), "--on", "kaggle", "-d")
    laptop.wait_for(lambda: "step 2\n" in laptop.ok("logs", "last").out, "a log line of a run that lives")
    follower = laptop.start("attach", "last")
    log = place.home() / "log.jsonl"
    laptop.wait_for(lambda: b"step 5" in log.read_bytes(), "lines while it runs")
    kill(follower)
    done = laptop.launcher("attach", "last")
    assert done.code == 0, done.err
    assert "step 30" in done.out
    assert [line["seq"] for line in records(log)] == list(range(1, len(records(log)) + 1))
    assert len(records(place.home() / "metrics.jsonl")) == 30


def test_a_cancelled_run_keeps_its_checkpoints_and_goes_on_in_another_session(place: Place) -> None:
    laptop = place.laptop
    laptop.ok("run", place.counter(steps=60, pause=0.2), "--on", "kaggle", "-d")
    laptop.wait_for(lambda: "step 3\n" in laptop.ok("logs", "last").out, "it counts")
    laptop.ok("cancel", "last")
    done = laptop.launcher("attach", "last")
    assert (done.code, laptop.status()["state"]) == (137, "cancelled"), done.err
    saved = sorted((place.home() / "checkpoints").iterdir())
    assert saved
    laptop.ok("resume", "last", "-d")
    done = laptop.launcher("attach", "last", timeout=200)
    assert done.code == 0, done.err
    log = records(place.home() / "log.jsonl")
    assert [line["seq"] for line in log] == list(range(1, len(log) + 1))
    assert {line["segment"] for line in log} == {0, 1}
    resumed = next(line["text"] for line in log if line["text"].startswith("resumed"))
    assert resumed == f"resumed at {json.loads(saved[-1].read_text())['step']}\n"
    assert len(place.kernels) == 2
    laptop.ok("release", "last")
    place.nothing_left()


def test_a_session_that_reaches_its_limit_goes_on_on_this_machine(place: Place) -> None:
    laptop = place.laptop
    place.kaggle.settings.session_limit_s = 8.0 * place.kaggle.settings.time_scale
    done = laptop.launcher("run", place.counter(steps=40, pause=0.5), "--on", "kaggle")
    assert done.code == 124, done.err
    status = laptop.status()
    assert (status["state"], status["reason"]) == ("preempted", "session")
    done = laptop.ok("resume", "last", "--on", "local")
    assert "resumed at" in done.out
    assert (place.home() / "final.txt").read_text() == "after 40 steps"
    log = records(place.home() / "log.jsonl")
    assert [line["seq"] for line in log] == list(range(1, len(log) + 1))


def test_secrets_may_travel_in_the_runs_private_dataset_and_go_with_it(place: Place) -> None:
    laptop = place.laptop
    laptop.env["TOKEN"] = "hunter2-hunter2"
    laptop.ok("target", "add", "mine", "kaggle", "--set", "secrets=private-dataset")
    code = "import os; print('secret is', os.environ['TOKEN'], len(os.environ['TOKEN']))"
    job = laptop.job("secret", code, environment={}, secrets=["TOKEN"])
    done = laptop.ok("run", str(job), "--on", "mine")
    assert "secret is *** 15" in done.out
    assert "whoever can use your account" in done.err
    session = place.sessions[0]
    assert "hunter2" not in session.machine.source + session.log.array() + done.out + done.err
    assert not _holds(laptop.folder, b"hunter2-hunter2")
    laptop.ok("release", "last")
    place.nothing_left()


def test_a_gpu_that_is_asked_for_is_a_session_with_two(place: Place) -> None:
    laptop = place.laptop
    code = "import subprocess\nprint(subprocess.getoutput('nvidia-smi -L').count('T4'), 'T4')"
    job = laptop.job("gpus", code, environment={}, resources={"gpu": "16GB+"}, limits={"time": "1h"})
    plan = laptop.ok("plan", str(job), "--on", "kaggle")
    assert "always 2 GPUs" in plan.out
    assert "GPU quota" in plan.out
    done = laptop.ok("run", str(job), "--on", "kaggle")
    assert place.sessions[0].machine.shape == "NvidiaTeslaT4"
    assert place.sessions[0].limit_s < 2 * 3600
    assert done.out.startswith("2 ")


def test_the_account_is_checked_and_its_quota_shown(place: Place) -> None:
    place.account.gpu_used_s = 3600.0
    done = place.laptop.ok("check", "kaggle")
    assert place.account.name in done.out
    assert "29.0 of 30" in done.out


def _holds(folder: Path, what: bytes) -> bool:
    return any(path.is_file() and what in path.read_bytes() for path in folder.rglob("*"))
