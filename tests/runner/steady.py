"""A job whose every run is the same, and all that must hold of it once a fault is over."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.ledger import Ledger
from tests.laptop import Laptop, records, sha256
from tests.servers.gpu_server import GPUServer

ROOT = "/home/trainer/.launcher"
TRAIN = """
import hashlib, json, os, pathlib, sys, time
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
params = json.loads(os.environ["LAUNCHER_PARAMS"])
pause = 0 if int(os.environ["LAUNCHER_SEGMENT"]) else params["pause"]  # a test does not wait for the rest
with open(out / "starts.txt", "a") as file:
    file.write("started\\n")
state, step = b"start", 0
if resume := os.environ.get("LAUNCHER_RESUME"):
    head, _, _ = pathlib.Path(resume).read_bytes().partition(b"\\n")
    saved = json.loads(head)
    state, step = bytes.fromhex(saved["state"]), saved["step"]
(out / "checkpoints").mkdir(exist_ok=True)
while step < params["steps"]:
    step += 1
    state = hashlib.sha256(state + bytes([step % 256])).digest()
    print(f"step {step} {state.hex()}")
    if step % params["every"] == 0:
        part = out / "checkpoints" / f"step-{step:04}.json.tmp"
        head = json.dumps({"state": state.hex(), "step": step}).encode() + b"\\n"
        part.write_bytes(head + hashlib.shake_256(state).digest(params["bytes"]))
        part.rename(part.with_suffix(""))
    time.sleep(pause)
(out / "final.json").write_text(state.hex())
"""


@dataclass(frozen=True)
class Undisturbed:
    """What a run leaves that nothing happened to."""

    stdout: str
    checkpoints: Mapping[str, str]  # name -> SHA-256
    final: str


def laptop_at(folder: Path, server: GPUServer, docker: bool = False, **params: Any) -> Laptop:
    """A laptop with the job, and `server` as its target gpu1; `port`: of a proxy in between."""
    laptop = Laptop(folder)
    host, port = server.host, params.pop("port", server.port)
    laptop.ok(
        *("target", "add", "gpu1", f"ssh://{server.user}@{host}:{port}"),
        *("--host-key", server.fingerprint, "--key", server.key_path),
        *("--docker", "always" if docker else "never"),
    )
    steady_job(laptop, **params)
    return laptop


def steady_job(laptop: Laptop, **params: Any) -> Path:
    """The job, of 20 steps in a second unless `params` say otherwise."""
    wanted = {"steps": 20, "pause": 0.05, "every": 5, "bytes": 100, **params}
    return laptop.job("steady", TRAIN, params=wanted)


def undisturbed(laptop: Laptop, **params: Any) -> Undisturbed:
    """Let it run once without pauses."""
    words = [word for name, value in {**params, "pause": 0}.items() for word in ("-p", f"{name}={value}")]
    laptop.ok("run", "steady", "--on", "gpu1", *words)
    found = left_at(home_of(laptop))
    assert found.final
    return found


def home_of(laptop: Laptop, run: str = "last") -> Path:
    return Path(laptop.status(run)["out"])


def left_at(home: Path) -> Undisturbed:
    lines = records(home / "log.jsonl")
    stdout = "".join(line["text"] for line in lines if line["stream"] == "stdout")
    checkpoints = {path.name: sha256(path) for path in sorted(home.glob("checkpoints/*"))}
    return Undisturbed(stdout, checkpoints, (home / "final.json").read_text())


def assert_whole(laptop: Laptop, server: GPUServer, wanted: Undisturbed) -> None:
    """The newest run is home as if nothing had happened, and was started once."""
    status = laptop.status()
    assert (status["state"], status["exit_code"]) == ("succeeded", 0), status
    home = Path(status["out"])
    assert left_at(home) == wanted
    assert (home / "starts.txt").read_text() == "started\n"
    there = read_there(server, f"runs/{status['id']}/0/log.jsonl")
    assert (home / "log.jsonl").read_bytes() == there
    assert_numbered(home)
    assert [path.name for path in (home / ".launcher" / "partial").iterdir()] == []


def assert_numbered(home: Path) -> None:
    """No line lost, none doubled."""
    numbers = [line["seq"] for line in records(home / "log.jsonl")]
    assert numbers == list(range(1, len(numbers) + 1))


def read_there(server: GPUServer, path: str) -> bytes:
    """A file below ~/.launcher on the server."""
    return base64.b64decode(server.run(f"base64 {ROOT}/{path}"))


def folders_there(server: GPUServer) -> set[str]:
    """`run/segment` of every folder of a segment."""
    return set(server.run(f"cd {ROOT}/runs 2>/dev/null && ls -d */* 2>/dev/null || true").split())


def containers_there(server: GPUServer) -> set[str]:
    return set(server.run("docker ps -a --filter label=launcher.run --format '{{.Names}}'").split())


def agents_there(server: GPUServer) -> list[str]:
    """The command lines of living agents."""
    lines = server.run("ps -eo args").splitlines()
    return [line for line in lines if ".pyz run " in line and "docker" not in line.split()[0]]


def known_to(laptops: Sequence[Laptop]) -> dict[str, set[str]]:
    """Folders (`run/segment`) and containers that these laptops' ledgers have recorded, by kind."""
    known: dict[str, set[str]] = {"folder": set(), "container": set()}
    for laptop in laptops:
        ledger = Ledger(laptop.folder / "state")
        for held in ledger.resources(unreleased_only=False):
            known[held.resource.kind].add(held.resource.id.removeprefix(f"{ROOT}/runs/"))
        ledger.close()
    return known
