"""A run's life on Kaggle, by the real command: placed, followed, stopped, gone on with, released."""

from __future__ import annotations

import json
from pathlib import Path

from launcher.targets.kaggle.push import MEMORY
from tests.laptop import kill, records
from tests.targets.kaggle.place import Place, target_of
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
    owned = {(one.kind, one.id, one.nonce) for one in target_of(place).owned()}
    assert owned == {("kernel", place.kernels[0], nonce), ("dataset", place.datasets[0], nonce)}
    laptop.ok("release", "last")
    place.nothing_left()
    laptop.ok("release", "last")
    assert not _payloads(laptop.folder)


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
    laptop.ok("run", place.counter(steps=9, hold=5), "--on", "kaggle", "-d")
    laptop.wait_for(lambda: place.said("step 5"), "it counts")
    laptop.wait_for(lambda: "step 5\n" in laptop.ok("logs", "last").out, "a look shows what was said")
    follower = laptop.start("attach", "last")
    laptop.wait_for(lambda: len(_metrics(place)) == 5, "what comes while it runs")
    kill(follower)
    place.gate.touch()
    done = laptop.launcher("attach", "last")
    assert done.code == 0, done.err
    assert "step 6\n" in done.out
    assert "step 5\n" not in done.out
    assert _seqs(place) == list(range(1, len(_seqs(place)) + 1))
    assert len(_metrics(place)) == 9


def test_a_cancelled_run_keeps_its_checkpoints_and_goes_on_in_another_session(place: Place) -> None:
    laptop = place.laptop
    laptop.ok("run", place.counter(steps=9, hold=5), "--on", "kaggle", "-d")
    laptop.wait_for(lambda: place.said("step 5"), "it counts")
    laptop.ok("cancel", "last")
    done = laptop.launcher("attach", "last")
    assert (done.code, laptop.status()["state"]) == (137, "cancelled"), done.err
    saved = sorted((place.home() / "checkpoints").iterdir())[-1]
    place.gate.touch()
    done = laptop.launcher("resume", "last")
    assert done.code == 0, done.err
    assert f"resumed at {json.loads(saved.read_text())['step']}\n" in done.out
    assert _seqs(place) == list(range(1, len(_seqs(place)) + 1))
    assert len(place.kernels) == 1
    assert len(place.datasets) == 2
    laptop.ok("release", "last")
    place.nothing_left()


def test_a_session_that_reaches_its_limit_goes_on_on_this_machine(place: Place) -> None:
    laptop = place.laptop
    place.kaggle.settings.session_limit_s = 6.0 * place.kaggle.settings.time_scale
    done = laptop.launcher("run", place.counter(steps=9, hold=5), "--on", "kaggle")
    assert done.code == 124, done.err
    status = laptop.status()
    assert (status["state"], status["reason"]) == ("preempted", "session")
    place.gate.touch()
    done = laptop.ok("resume", "last", "--on", "local")
    assert (place.home() / "final.txt").read_text() == "after 9 steps"
    assert _seqs(place) == list(range(1, len(_seqs(place)) + 1))


def test_secrets_may_travel_in_the_runs_private_dataset_and_go_with_it(place: Place) -> None:
    laptop = place.laptop
    laptop.env["TOKEN"] = "hunter2-hunter2"
    laptop.ok("target", "add", "mine", "kaggle", "--set", "secrets=private-dataset")
    code = "import os; print('secret is', os.environ['TOKEN'], len(os.environ['TOKEN']))"
    job = laptop.job("secret", code, environment={}, secrets=["TOKEN"])
    assert "whoever can use your account" in laptop.ok("plan", str(job), "--on", "mine").out
    place.kaggle.settings.dataset_wall_s = 3.0
    dying = laptop.start("run", str(job), "--on", "mine")
    laptop.wait_for(lambda: place.datasets, "the dataset is there")
    kill(dying)
    assert not _holds(laptop.folder, b"hunter2-hunter2")
    done = laptop.ok("attach", "last")
    assert "secret is *** 15" in done.out
    session = place.sessions[0]
    assert "hunter2" not in session.machine.source + session.log.array() + done.out + done.err
    assert not list(MEMORY.glob(f"launcher-*/{laptop.status()['id']}.*"))
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


def _payloads(folder: Path) -> list[Path]:
    return list((folder / "state").rglob("payload.json"))


def _seqs(place: Place) -> list[int]:
    return [line["seq"] for line in records(place.home() / "log.jsonl")]


def _metrics(place: Place) -> list[dict[str, object]]:
    path = place.home() / "metrics.jsonl"
    return records(path) if path.exists() else []


def _holds(folder: Path, what: bytes) -> bool:
    return any(path.is_file() and what in path.read_bytes() for path in folder.rglob("*"))
