"""The contract that every door keeps: the same words give the same result, wherever the job ran."""

from __future__ import annotations

import json
import time

from tests.laptop import kill, records, sha256
from tests.targets.conftest import Door

TRAIN = """
import hashlib, json, os, pathlib, signal, sys, time
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
params = json.loads(os.environ["LAUNCHER_PARAMS"])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
state, step = b"start", 0
resume = os.environ.get("LAUNCHER_RESUME")
if resume:
    saved = json.loads(pathlib.Path(resume).read_text())
    state, step = bytes.fromhex(saved["state"]), saved["step"]
    print("resumed at", step)
pause = params.get("later", params["pause"]) if resume else params["pause"]
(out / "checkpoints").mkdir(exist_ok=True)
print("a line for stderr", file=sys.stderr)
while step < params["steps"]:
    step += 1
    state = hashlib.sha256(state + bytes([step % 256])).digest()
    print(f"step {step}")
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step}) + "\\n")
    part = out / "checkpoints" / f"step-{step:03}.json.tmp"
    part.write_text(json.dumps({"state": state.hex(), "step": step}))
    part.rename(part.with_suffix(""))
    time.sleep(pause)
    if stop:
        sys.exit(75)
(out / "final.json").write_text(state.hex())
(out / "sub folder").mkdir()
(out / "sub folder" / "a 'quoted' ü.txt").write_text("x")
print("secret is", os.environ.get("TOKEN"))
"""


def spec(**more: object) -> dict[str, object]:
    return {"run": "python train.py", "params": {"steps": 5, "pause": 0.02}, **more}


def test_a_job_runs_and_everything_comes_home(door: Door) -> None:
    door.laptop.env["TOKEN"] = "hunter2-hunter2"
    job = door.laptop.job("same", TRAIN, **spec(secrets=["TOKEN"]))

    done = door.laptop.ok("run", str(job), "--on", door.target)

    assert "step 5\n" in done.out
    assert "a line for stderr" in done.err
    assert "hunter2" not in done.out + done.err
    assert "secret is ***" in done.out
    status = door.laptop.status()
    assert (status["state"], status["exit_code"]) == ("succeeded", 0)
    home = door.laptop.work / "runs" / status["id"]
    lines = records(home / "log.jsonl")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0]["stream"] == "launcher"
    assert "fingerprint sha256:" in lines[0]["text"]
    if door.keeps:
        assert door.cat(f"runs/{status['id']}/0/log.jsonl") == (home / "log.jsonl").read_bytes()
    assert sorted(p.name for p in (home / "checkpoints").iterdir()) == [
        f"step-{n:03}.json" for n in range(1, 6)
    ]
    assert (home / "sub folder" / "a 'quoted' ü.txt").read_text() == "x"
    assert len(records(home / "metrics.jsonl")) == 5
    capsule = json.loads((home / "capsule.json").read_text())
    assert capsule["segments"][0]["fingerprint"]["portable"]["python"].startswith(door.python)
    assert capsule["segments"][0]["form"] == door.form


def test_the_exit_code_is_the_jobs_own(door: Door) -> None:
    job = door.laptop.job("fails", "import sys; print('no'); sys.exit(7)")

    done = door.laptop.launcher("run", str(job), "--on", door.target)

    assert done.code == 7
    status = door.laptop.status()
    assert (status["state"], status["exit_code"]) == ("failed", 7)
    assert door.laptop.launcher("wait", "last").code == 7


def test_a_detached_run_is_cancelled_resumed_and_ends_as_an_undisturbed_one(door: Door) -> None:
    laptop = door.laptop
    steps = door.relay["steps"]
    job = laptop.job("relay", TRAIN, **spec(params=door.relay))
    laptop.ok("run", str(job), "--on", door.target, "-p", "pause=0", "--name", "straight")
    straight = laptop.work / "runs" / laptop.status()["id"]

    laptop.ok("run", str(job), "--on", door.target, "-d")
    run = laptop.status()["id"]
    home = laptop.work / "runs" / run
    laptop.wait_for(lambda: "step 3" in laptop.ok("logs", run).out, "the third step")
    laptop.ok("cancel", run)
    ended = laptop.launcher("attach", run)
    assert ended.code == door.cancelled_code
    assert laptop.status(run)["state"] == "cancelled"
    done = laptop.ok("resume", run)

    assert "resumed at" in done.out
    status = laptop.status(run)
    assert (status["state"], len(status["segments"])) == ("succeeded", 2)
    assert (home / "final.json").read_text() == (straight / "final.json").read_text()
    newest = f"checkpoints/step-{steps:03}.json"
    assert sha256(home / newest) == sha256(straight / newest)
    assert [r["step"] for r in records(home / "metrics.jsonl")] == list(range(1, steps + 1))
    lines = records(home / "log.jsonl")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["segment"] for line in lines} == {0, 1}


def test_a_killed_client_loses_nothing(door: Door) -> None:
    laptop = door.laptop
    job = laptop.job("lid", TRAIN, **spec(params={"steps": 30, "pause": 0.1}))
    client = laptop.start("run", str(job), "--on", door.target)
    wanted = "checkpoints/step-003.json" if door.live_checkpoints else "metrics.jsonl"
    laptop.wait_for(lambda: list(laptop.work.glob(f"runs/lid-*/{wanted}")), f"{wanted} at home")
    kill(client)
    time.sleep(0.5)

    done = laptop.ok("attach", "last")

    assert "step 30\n" in done.out
    status = laptop.status()
    home = laptop.work / "runs" / status["id"]
    lines = records(home / "log.jsonl")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    if door.keeps:
        assert door.cat(f"runs/{status['id']}/0/log.jsonl") == (home / "log.jsonl").read_bytes()
    assert len(list((home / "checkpoints").iterdir())) == 30


def test_an_agent_that_is_killed_is_lost_and_can_be_resumed(door: Door) -> None:
    laptop = door.laptop
    job = laptop.job("dies", TRAIN, **spec(params={"steps": 30, "pause": 0.1}))
    laptop.ok("run", str(job), "--on", door.target, "-d")
    run = laptop.status()["id"]
    laptop.wait_for(lambda: "step 3" in laptop.ok("logs", run).out, "the third step")
    door.kill_agent(run)

    assert laptop.launcher("attach", run).code == 125
    assert laptop.status(run)["state"] == "lost"
    laptop.ok("resume", run)

    assert laptop.status(run)["state"] == "succeeded"


def test_release_leaves_nothing_there_and_everything_home(door: Door) -> None:
    laptop = door.laptop
    job = laptop.job("gone", TRAIN, **spec())
    laptop.ok("run", str(job), "--on", door.target)
    run = laptop.status()["id"]
    assert door.exists(f"runs/{run}/0/exit.json") == door.keeps

    laptop.ok("release", run)
    laptop.ok("release", run)

    assert not door.exists(f"runs/{run}")
    assert (laptop.work / "runs" / run / "final.json").exists()
    assert laptop.status(run)["released_at"]


def test_a_living_run_is_not_released_without_force(door: Door) -> None:
    laptop = door.laptop
    job = laptop.job("alive", TRAIN, **spec(params={"steps": 600, "pause": 0.1}))
    laptop.ok("run", str(job), "--on", door.target, "-d")

    refused = laptop.launcher("release", "last")
    assert refused.code == 126
    laptop.ok("release", "last", "--force")

    assert laptop.status()["state"] == "cancelled"
    assert not door.exists(f"runs/{laptop.status()['id']}/0")
