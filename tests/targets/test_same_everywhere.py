"""One bundle behind every door: the same interpreter, the same wheels, the same checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.laptop import Laptop, records, sha256
from tests.servers import interpreter
from tests.servers.gpu_server import GPUServer
from tests.servers.interpreter import Served
from tests.targets.conftest import DOORS, add_target
from tests.targets.test_contract import TRAIN as RELAY

TRAIN = """
import hashlib, json, os, pathlib, sys
import click, six
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
(out / "checkpoints").mkdir()
state = six.ensure_binary("start")
for step in range(1, 4):
    state = hashlib.sha256(state).digest()
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": state[0] / 256}) + "\\n")
    part = out / "checkpoints" / f"step-{step}.bin.tmp"
    part.write_bytes(state)
    part.rename(part.with_suffix(""))
print(click.__file__, sys.version)
"""


@dataclass(frozen=True)
class Everywhere:
    """One job, run once behind each door; `runs` maps a door to its run, `seconds` to how long it took."""

    laptop: Laptop
    job: Path
    served: Served
    runs: Mapping[str, str]
    seconds: Mapping[str, float]

    def fingerprint(self, door: str) -> dict[str, Any]:
        found: dict[str, Any] = self.laptop.segment(self.runs[door])["fingerprint"]
        return found


@pytest.fixture(scope="module")
def everywhere(
    shared_gpu_server: GPUServer,
    served_python: Served,
    own_images: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Everywhere]:
    variables = {"UV_PYTHON_DOWNLOADS_JSON_URL": str(served_python.table)}
    laptop = Laptop(tmp_path_factory.mktemp("everywhere") / "laptop", variables)
    for where in ("local-plain", "local-docker"):
        docker = "always" if where.endswith("docker") else "never"
        laptop.ok("target", "add", where, "local", "--docker", docker)
    for where in ("ssh-plain", "ssh-docker"):
        docker = "always" if where.endswith("docker") else "never"
        add_target(laptop, shared_gpu_server, docker=docker, name=where)
    job = laptop.job(
        "same", TRAIN, environment={"python": interpreter.MINOR, "requirements": "requirements.lock"}
    )
    (job / "requirements.in").write_text("six\nclick\n")
    laptop.ok("lock", str(job))
    runs, seconds = {}, {}
    try:
        for where in DOORS:
            begun = time.monotonic()
            laptop.ok("run", str(job), "--on", where)
            seconds[where] = time.monotonic() - begun
            runs[where] = laptop.status()["id"]
        yield Everywhere(laptop, job, served_python, runs, seconds)
    finally:
        laptop.launcher("release", "--all", "--force")
        laptop.close()


def rows(answer: Mapping[str, Any]) -> dict[str, bool]:
    return {row["what"]: row["equal"] for row in answer["rows"]}


@pytest.mark.parametrize("door", DOORS[1:])
def test_a_job_is_the_same_behind_every_door(everywhere: Everywhere, door: str) -> None:
    found = everywhere.laptop.launcher("--json", "diff", everywhere.runs[DOORS[0]], everywhere.runs[door])

    assert found.code == 0, found.out
    same = rows(found.json)
    assert all(same.values())
    assert {"job", "bundle", "lock", "portable fingerprint", "newest checkpoint"} <= same.keys()
    assert "metrics (3 steps)" in same


def test_every_door_has_the_locks_own_interpreter_and_packages(everywhere: Everywhere) -> None:
    lock = (everywhere.job / "requirements.lock").read_text()
    pinned = {line.split()[0] for line in lock.splitlines() if "==" in line and not line.startswith("#")}
    assert (
        f"# interpreter: linux {everywhere.fingerprint(DOORS[0])['portable']['machine']} {everywhere.served.url}"
        in lock
    )
    for door in DOORS:
        fingerprint = everywhere.fingerprint(door)
        assert fingerprint["shown"]["build"] == "managed", door
        assert fingerprint["portable"]["python"] == everywhere.served.version
        assert set(fingerprint["portable"]["packages"]) == pinned
        assert all(fingerprint["portable"]["packages"].values())


def test_a_job_changed_by_one_byte_differs(everywhere: Everywhere) -> None:
    laptop, train = everywhere.laptop, everywhere.job / "train.py"
    train.write_text(TRAIN.replace('"start"', '"stars"'))
    try:
        laptop.ok("run", str(everywhere.job), "--on", "local-docker")
    finally:
        train.write_text(TRAIN)

    found = laptop.launcher("--json", "diff", everywhere.runs["local-docker"], "last")

    assert found.code == 1
    same = rows(found.json)
    differ = {what for what, equal in same.items() if not equal}
    assert differ == {"job", "bundle", "newest checkpoint", "metrics from step 1"}
    assert {"lock", "portable fingerprint"} <= same.keys()


def went_on(out: str, hops: int) -> bool:
    """Whether the job was resumed so often and has taken some steps since."""
    *before, last = out.split("resumed at")
    return len(before) == hops and last.count("step ") >= 4


def test_a_run_that_changes_doors_ends_as_an_undisturbed_one(everywhere: Everywhere) -> None:
    laptop = everywhere.laptop
    environment = {"python": interpreter.MINOR, "requirements": "requirements.lock"}
    job = laptop.job("wanders", RELAY, environment=environment, params={"steps": 60, "pause": 0.1})
    (job / "requirements.lock").write_bytes((everywhere.job / "requirements.lock").read_bytes())
    laptop.ok("run", str(job), "--on", DOORS[0], "-p", "pause=0", "--name", "straight")
    straight = laptop.work / "runs" / laptop.status()["id"]

    laptop.ok("run", str(job), "--on", DOORS[0], "-d")
    run = laptop.status()["id"]
    home = laptop.work / "runs" / run
    for hops, door in enumerate(DOORS[1:]):
        laptop.wait_for(lambda hops=hops: went_on(laptop.ok("logs", run).out, hops), "some steps there")
        laptop.ok("cancel", run)
        assert laptop.launcher("attach", run).code == 75
        last = ["-d"] if door != DOORS[-1] else []
        laptop.ok("resume", run, "--on", door, *last)

    status = laptop.status(run)
    assert (status["state"], len(status["segments"])) == ("succeeded", len(DOORS))
    assert (home / "final.json").read_text() == (straight / "final.json").read_text()
    assert sha256(home / "checkpoints/step-060.json") == sha256(straight / "checkpoints/step-060.json")
    lines = records(home / "log.jsonl")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    capsule = json.loads((home / "capsule.json").read_text())
    prints = {segment["fingerprint"]["portable_sha256"] for segment in capsule["segments"]}
    assert len(prints) == 1
