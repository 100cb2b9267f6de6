"""A run that outlives the sessions of its platform: ended there again and again, each time resumed here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.laptop import Laptop, records

WAIT_S = 900
SESSION_ENDED = 124
TRAIN = """
import hashlib, json, os, pathlib, time
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
params = json.loads(os.environ["LAUNCHER_PARAMS"])
state, step = b"start", 0
if "LAUNCHER_RESUME" in os.environ:
    saved = json.loads(pathlib.Path(os.environ["LAUNCHER_RESUME"]).read_text())
    state, step = bytes.fromhex(saved["state"]), saved["step"]
    print("resumed at", step)
(out / "checkpoints").mkdir(exist_ok=True)
while step < params["steps"]:
    step += 1
    state = hashlib.sha256(state + bytes([step % 256])).digest()
    time.sleep(params["pause"])
    print("step", step)
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": state[0] / 256}) + "\\n")
    if step % params["every"] == 0 or step == params["steps"]:
        part = out / "checkpoints" / f"step-{step:05}.json.tmp"
        part.write_text(json.dumps({"state": state.hex(), "step": step}))
        part.rename(part.with_suffix(""))
(out / "final.json").write_text(state.hex())
"""


@dataclass(frozen=True)
class Work:
    """How much there is to do: `steps` of `pause` seconds each, a checkpoint after every `every`."""

    steps: int
    pause: float
    every: int

    @property
    def params(self) -> dict[str, float]:
        return {"steps": self.steps, "pause": self.pause, "every": self.every}


@dataclass(frozen=True)
class Played:
    """A finished run: exit codes of `run` and of each `resume`, and how many steps each death cost."""

    home: Path
    codes: list[int]
    lost: list[int]

    @property
    def numbers(self) -> list[int]:
        return [line["seq"] for line in records(self.home / "log.jsonl")]

    @property
    def steps(self) -> list[int]:
        """Of the metrics, in their order."""
        return [line["step"] for line in records(self.home / "metrics.jsonl")]

    @property
    def weights(self) -> str:
        return (self.home / "final.json").read_text()


def undisturbed(laptop: Laptop, work: Work) -> str:
    """The weights that the work must end with."""
    laptop.ok(
        "run", str(_job(laptop, work, "here")), "--on", "local", "-p", "pause=0", "--name", "undisturbed"
    )
    return (laptop.work / "runs" / laptop.status()["id"] / "final.json").read_text()


def play(
    laptop: Laptop,
    targets: Sequence[str],
    work: Work,
    meanwhile: Callable[[Path, int], None] = lambda *_: None,
) -> Played:
    """Run it, and resume it until it has succeeded: on each of the targets in turn, then on the last of them.
    `meanwhile(home, n)` is called while session n goes on."""
    name = f"long-{targets[0]}"
    command = ["run", str(_job(laptop, work, targets[0])), "--on", targets[0], "--name", name, "-y"]
    codes: list[int] = []
    home = Path()
    while not codes or (codes[-1] == SESSION_ENDED and len(codes) < 20):
        with open(laptop.folder / f"said-{name}-{len(codes)}", "wb") as said:
            process = laptop.start(*command, stdout=said, stderr=said)
        home = home if codes else _home(laptop, name)
        meanwhile(home, len(codes))
        codes.append(process.wait(WAIT_S))
        command = ["resume", home.name, "--on", targets[min(len(codes), len(targets) - 1)]]
    return Played(home, codes, _lost(home))


def steps_home(home: Path) -> int:
    """The newest step whose line is home."""
    log = home / "log.jsonl"
    found = re.findall(rb"\bstep (\d+)", log.read_bytes()) if log.exists() else []
    return int(found[-1]) if found else 0


def _job(laptop: Laptop, work: Work, where: str) -> Path:
    return laptop.job(
        f"long-{where}",
        TRAIN,
        environment={},
        params=work.params,
        limits={"time": "40h"},
        resources={"gpu": "none"},
    )


def _home(laptop: Laptop, name: str) -> Path:
    found: Path = laptop.wait_for(lambda: next(laptop.work.glob(f"runs/{name}-*"), None), "the run")
    return found


def _lost(home: Path) -> list[int]:
    """For each session but the first: the last step told before it, less the step that it began with."""
    text = "".join(line["text"] for line in records(home / "log.jsonl") if line["stream"] == "stdout")
    first, *others = re.split(r"resumed at (?=\d+\n)", text)
    lost = []
    for before, after in zip([first, *others], others, strict=False):
        lost.append(int(re.findall(r"step (\d+)", before)[-1]) - int(after.split("\n")[0]))
    return lost


def told(laptop: Laptop) -> str:
    """All that the commands said, for a test that fails."""
    return "\n".join(
        f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(laptop.folder.glob("said-*"))
    )


def summary(played: Played) -> str:
    return json.dumps({"codes": played.codes, "lost": played.lost, "lines": len(played.numbers)})
