"""`run --on colab`: placed, followed while it runs, left alone, stopped, gone on with elsewhere, handed back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.config import Config, TargetConfig
from launcher.targets.colab.target import ColabTarget
from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.plain import PlainClient
from tests.emulators.colab.settings import Settings
from tests.laptop import Laptop, records
from tests.servers.web import Web
from tests.targets.colab.bed import (
    assert_whole,
    at_step_two,
    emptied,
    interrupt,
    laptop_at,
    let_go,
    printed,
    there_at_step_two,
    waiting_job,
)

SECRET = "hunter2-'\"-hunter2"


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab(Settings(max_sessions=4, gpus=("T4", "L4"), high_memory=True)) as emulator:
        yield emulator


@pytest.fixture
def laptop(colab: Colab, tmp_path: Path) -> Iterator[Laptop]:
    made = laptop_at(tmp_path / "laptop", colab)
    try:
        with emptied(colab):
            yield made
    finally:
        made.close()


def test_log_metrics_and_checkpoints_come_home_while_the_job_runs(colab: Colab, laptop: Laptop) -> None:
    running = laptop.start("run", str(waiting_job(laptop)), "--on", "colab")

    home = at_step_two(laptop)
    assert running.poll() is None
    assert not (home / "final.json").exists()
    let_go(colab)
    out, err = running.communicate(timeout=120)

    assert running.returncode == 0, err.decode()
    assert out.decode().startswith("step 1 ")
    assert_whole(home)
    assert colab.endpoints == []
    assert set(colab.ended.values()) == {"unassigned"}
    segment = json.loads((home / "capsule.json").read_text())["segments"][0]
    assert (segment["form"], segment["machine"]["accelerator"]) == ("plain", "")
    assert segment["fingerprint"]["portable"]["python"].startswith("3.11.")


def test_ctrl_c_detaches_and_a_fresh_process_attaches(colab: Colab, laptop: Laptop) -> None:
    running = laptop.start("run", str(waiting_job(laptop)), "--on", "colab")
    home = at_step_two(laptop)
    interrupt(running)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "launcher attach" in err.decode()
    assert laptop.status()["state"] == "running"
    let_go(colab)
    assert "step 6 " in laptop.ok("attach", "last").out
    assert_whole(home)
    assert colab.endpoints == []


def test_a_cancelled_job_saves_and_goes_on_here_as_if_nothing_had_happened(
    colab: Colab, laptop: Laptop
) -> None:
    laptop.ok("run", str(waiting_job(laptop)), "--on", "colab", "-d")
    run = laptop.status()["id"]
    there_at_step_two(laptop, colab)
    laptop.ok("cancel", run)
    assert laptop.launcher("attach", run).code == 75
    assert laptop.status()["state"] == "cancelled"
    assert colab.endpoints == []

    laptop.ok("target", "add", "here", "local", "--docker", "never")
    done = laptop.ok("resume", run, "--on", "here")

    assert "resumed at 2" in done.out
    home = laptop.work / "runs" / run
    assert_whole(home)


def test_a_run_goes_on_from_its_checkpoint_on_another_runtime(colab: Colab, laptop: Laptop) -> None:
    laptop.ok("run", str(waiting_job(laptop)), "--on", "colab", "-d")
    run = laptop.status()["id"]
    there_at_step_two(laptop, colab)

    resumed = laptop.start("resume", run)  # stops the living one first
    laptop.wait_for(lambda: "resumed at 2" in printed(laptop.work / "runs" / run), "the second segment")
    assert resumed.wait(120) == 0

    assert_whole(laptop.work / "runs" / run)
    assert [one["state"] for one in laptop.status(run)["segments"]] == ["cancelled", "succeeded"]
    assert len(set(colab.ended)) >= 2
    assert colab.endpoints == []


def test_release_stops_and_hands_back_what_runs(colab: Colab, laptop: Laptop) -> None:
    laptop.ok("run", str(waiting_job(laptop)), "--on", "colab", "-d")
    assert laptop.launcher("release", "last").code == 126
    assert len(colab.endpoints) == 1
    target = ColabTarget(Config(laptop.env), TargetConfig("colab", "colab"))
    assert [(one.kind, one.nonce) for one in target.owned()] == [("runtime", laptop.status()["id"][-8:])]
    laptop.ok("release", "last", "--force")
    assert colab.endpoints == []
    laptop.ok("release", "last", "--force")
    assert laptop.status()["state"] == "cancelled"


def test_a_secret_reaches_the_job_and_nothing_else_and_the_exit_code_is_its_own(
    colab: Colab, laptop: Laptop
) -> None:
    script = "import os\nprint(len(os.environ['TOKEN']), os.environ['TOKEN'])\n"
    script += "import pathlib, time\nwhile not pathlib.Path('/content/go').exists(): time.sleep(0.05)\n"
    script += "raise SystemExit(7)"
    laptop.env["TOKEN"] = SECRET
    laptop.ok("run", str(laptop.job("told", script, secrets=["TOKEN"])), "--on", "colab", "-d")
    laptop.wait_for(lambda: f"{len(SECRET)} ***" in laptop.ok("logs", "last").out, "the job's line")

    disk = colab.disk()
    places = [path for path in disk.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "log.jsonl" for path in places)
    assert any(path.name == "history.sqlite" for path in places)
    guilty = [path for path in places if b"hunter2" in path.read_bytes()]
    assert guilty == []
    assert "hunter2" not in json.dumps(colab.proxied())
    assert not [line for line in _command_lines() if "hunter2" in line]
    let_go(colab)
    assert laptop.launcher("attach", "last").code == 7
    assert (laptop.status()["state"], laptop.status()["exit_code"]) == ("failed", 7)
    assert colab.endpoints == []


def test_the_target_chooses_accelerator_memory_and_runtime_version(colab: Colab, laptop: Laptop) -> None:
    (laptop.folder / "config").mkdir(mode=0o700)
    settings = "big:\n  type: colab\n  accelerator: L4\n  memory: high\n  version: '2026.04'\n"
    (laptop.folder / "config" / "targets.yaml").write_text(settings)
    script = "import os\nprint(open('/proc/self/cgroup') and 'here')\n"
    job = laptop.job("gpu", script, resources={"gpu": "16GB+"})
    laptop.ok("run", str(job), "--on", "big", "-d")
    listed = PlainClient.of(colab).get("/tun/m/assignments")["assignments"]
    assert [(one["accelerator"], one["machineShape"]) for one in listed] == [("L4", 1)]
    boot = json.loads((colab.disk() / "boot.json").read_text())
    assert boot["environment"]["COLAB_RELEASE_TAG"] == "release-colab_2026.04"
    laptop.ok("attach", "last")
    segment = laptop.segment()
    assert segment["machine"]["accelerator"] == "L4"
    assert segment["machine"]["runtime_version"] == "2026.04"
    assert segment["fingerprint"]["shown"]["gpus"][0]["name"] == "NVIDIA L4"


def test_plan_check_and_quota_say_what_the_account_has(laptop: Laptop) -> None:
    job = waiting_job(laptop, resources={"gpu": "T4"})
    (row,) = laptop.ok("--json", "plan", str(job), "--on", "colab").json["targets"]
    assert row["fits"]
    notes = " ".join(row["notes"])
    assert "60.0 free compute units are left" in notes
    assert "Colab's terms" in notes
    assert "T4" in laptop.ok("check", "colab").out
    assert "60" in laptop.ok("quota", "colab").out


def test_data_from_here_and_from_the_web_reach_the_job(laptop: Laptop) -> None:
    pictures = laptop.work / "pictures"
    (pictures / "sub").mkdir(parents=True)
    (pictures / "sub" / "one.txt").write_text("one")
    words = b"two"
    job_reads = "import os, pathlib\nfor name in ('train/sub/one.txt', 'words'):\n"
    job_reads += "    print(pathlib.Path(os.environ['LAUNCHER_DATA'], name).read_text())\n"
    with Web() as web:
        web.files["/words.txt"] = words
        url = f"{web.url('/words.txt')}#sha256={hashlib.sha256(words).hexdigest()}"
        job = laptop.job("reads", job_reads, data={"train": str(pictures), "words": url})
        done = laptop.ok("run", str(job), "--on", "colab")
    assert done.out == "one\ntwo\n"
    lines = records(Path(laptop.status()["out"]) / "log.jsonl")
    assert sum(line["text"].startswith("data ") for line in lines) == 2


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace")
        except OSError:
            continue
