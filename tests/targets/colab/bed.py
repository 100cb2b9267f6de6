"""A laptop with an account at the emulated Colab, and what a test asks of both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.plain import PlainClient
from tests.laptop import Laptop, records

TRAIN = """
import hashlib, json, os, pathlib, signal, sys, time
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
params = json.loads(os.environ["LAUNCHER_PARAMS"])
go = pathlib.Path(os.environ.get("GO", "/content/go"))  # the job waits for it after the second step
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
with open(out / "starts.txt", "a") as file:
    file.write("started\\n")
state, step = b"start", 0
if resume := os.environ.get("LAUNCHER_RESUME"):
    saved = json.loads(pathlib.Path(resume).read_text())
    state, step = bytes.fromhex(saved["state"]), saved["step"]
    print("resumed at", step)
(out / "checkpoints").mkdir(exist_ok=True)
while step < params["steps"] and not stop:
    step += 1
    state = hashlib.sha256(state + bytes([step % 256])).digest()
    print(f"step {step} {state.hex()[:8]}")
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step}) + "\\n")
    part = out / "checkpoints" / f"step-{step:03}.json.tmp"
    part.write_text(json.dumps({"state": state.hex(), "step": step}))
    part.rename(part.with_suffix(""))
    while params["waits"] and step == 2 and not stop and not go.exists():
        time.sleep(0.05)
if stop:
    sys.exit(75)
(out / "final.json").write_text(state.hex())
"""


def laptop_at(folder: Path, colab: Colab) -> Laptop:
    return Laptop(folder, colab.environment)


def waiting_job(laptop: Laptop, *, waits: bool = True, steps: int = 6, **spec: Any) -> Path:
    """A job that stops after its second step until `let_go`."""
    return laptop.job("train", TRAIN, params={"steps": steps, "waits": waits}, **spec)


def let_go(colab: Colab, endpoint: str | None = None) -> None:
    """The waiting job goes on."""
    (colab.disk(endpoint) / "content" / "go").touch()


def at_step_two(laptop: Laptop, run: str = "last") -> Path:
    """Wait until two steps are home; the run's home."""
    home = Path(laptop.wait_for(lambda: _known(laptop, run), "the run to be known")["out"])
    laptop.wait_for(lambda: "step 2 " in printed(home), "the second step")
    laptop.wait_for(lambda: (home / "checkpoints" / "step-002.json").exists(), "its checkpoint")
    return home


def there_at_step_two(laptop: Laptop, colab: Colab) -> None:
    """Wait until the newest runtime's job is there, without bringing anything home."""
    logs = colab.disk() / "content" / "launcher" / "runs"
    laptop.wait_for(
        lambda: any(b'"step 2 ' in log.read_bytes() for log in logs.glob("*/*/log.jsonl")), "step 2"
    )


def printed(home: Path) -> str:
    """What the job wrote to stdout, as far as it is home."""
    if not (home / "log.jsonl").exists():
        return ""
    return "".join(line["text"] for line in records(home / "log.jsonl") if line["stream"] == "stdout")


def assert_whole(home: Path, steps: int = 6) -> None:
    """No line lost, none doubled; every step once, every checkpoint, the end."""
    numbers = [line["seq"] for line in records(home / "log.jsonl")]
    assert numbers == list(range(1, len(numbers) + 1))
    told = [line.split()[1] for line in printed(home).splitlines() if line.startswith("step ")]
    assert told == [str(step) for step in range(1, steps + 1)]
    assert [one["step"] for one in records(home / "metrics.jsonl")] == list(range(1, steps + 1))
    assert sorted(path.name for path in (home / "checkpoints").iterdir()) == [
        f"step-{step:03}.json" for step in range(1, steps + 1)
    ]
    state = json.loads((home / "checkpoints" / f"step-{steps:03}.json").read_text())["state"]
    assert (home / "final.json").read_text() == state


def one_line(text: str) -> str:
    """The error that a command ended with: one line, and no traceback."""
    assert "Traceback" not in text, text
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, text
    return errors[0]


def interrupt(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGINT)


@contextlib.contextmanager
def emptied(colab: Colab) -> Iterator[None]:
    """No runtime is left over from a test, whatever happened in it."""
    try:
        yield
    finally:
        client = PlainClient.of(colab)
        colab.faults.cut_after_bytes = colab.faults.cut_after_s = None
        for endpoint in colab.endpoints:
            client.unassign(endpoint)


def _known(laptop: Laptop, run: str) -> Any:
    done = laptop.launcher("--json", "status", run)
    return done.json if done.code == 0 else None
