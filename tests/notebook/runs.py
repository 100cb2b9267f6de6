"""A run's segment as the runner hands it to a target, and the notebook that is made of it, run by a real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.bundle import Contents, pack
from launcher.files import Choice, SourceFile
from launcher.job.spec import Environment, JobSpec, Limits, Resources
from launcher.lock import Lock
from launcher.run import Run, Segment, new_id
from launcher.runner.order import order
from launcher.target import Submission

COUNT = """
import json, os, sys, time
out, resume = os.environ["LAUNCHER_OUT"], os.environ.get("LAUNCHER_RESUME")
step = int(open(resume).read()) if resume else 0
os.makedirs(out + "/checkpoints", exist_ok=True)
while step < int(sys.argv[1]):
    step += 1
    print("step", step, flush=True)
    with open(out + "/metrics.jsonl", "a") as metrics:
        metrics.write(json.dumps({"step": step, "loss": 1 / step}) + "\\n")
    with open(out + "/checkpoints/step.tmp", "w") as file:
        file.write(str(step))
    os.rename(out + "/checkpoints/step.tmp", out + "/checkpoints/step-%d.pt" % step)
    time.sleep(float(sys.argv[2]))
open(out + "/final.txt", "w").write("weights after %d" % step)
"""


@dataclass(frozen=True)
class Wish:
    """A job to make a submission of."""

    command: str = "echo hello; echo there >&2"
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)
    lock: Lock | None = None
    lock_data: bytes | None = None
    secrets: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=lambda: Limits(time_s=600))
    resume_from: Any = None
    data: Sequence[Any] = ()
    segment: int = 0
    first_seq: int = 1
    run_id: str = ""


def submission(folder: Path, wish: Wish) -> Submission:
    """As runner/submit.py makes it, without a ledger."""
    job = folder / "job"
    job.mkdir(parents=True, exist_ok=True)
    for name, text in wish.files.items():
        (job / name).write_text(text)
    chosen = Choice(tuple(SourceFile(name, len(text)) for name, text in sorted(wish.files.items())))
    spec = JobSpec(
        name="count",
        run=wish.command,
        environment=wish.environment,
        secrets=wish.secrets,
        resources=wish.resources,
        limits=wish.limits,
    )
    bundle = pack(Contents(job, chosen, wish.lock_data, wish.environment.canonical()), folder / "bundles")
    run_id = wish.run_id or new_id("count")
    told = {source.key: source.facts() for source in wish.data}
    facts = {"bundle_digest": bundle.digest, "data": told}
    segment = Segment(run_id, wish.segment, "kaggle", first_seq=wish.first_seq)
    run = Run(run_id, "count", "", "", {}, facts, (segment,))
    lock = {"sha256": wish.lock.sha256, "python": wish.lock.python} if wish.lock else {}
    return Submission(
        segment=segment,
        spec=spec,
        bundle=bundle,
        order=order(run, segment, spec, lock),
        secrets=wish.values,
        lock=wish.lock,
        resume_from=wish.resume_from,
        data=wish.data,
    )


@dataclass(frozen=True)
class Ran:
    """What a notebook printed, and the folder it left."""

    printed: str
    errors: str
    failed: bool
    folder: Path

    @property
    def end(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.folder / "exit.json").read_bytes())
        return value

    @property
    def log(self) -> bytes:
        """log.jsonl as it was printed."""
        lines = [line for line in self.printed.splitlines(keepends=True) if line.startswith('{"v":1,"seq":')]
        return "".join(lines).encode()


def execute_plainly(text: str, folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """The same cells one after the other in a plain Python, which starts sooner than a kernel."""
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    program = "\n".join("".join(cell["source"]) for cell in cells)
    done = subprocess.run(
        [sys.executable, "-"],
        input=program,
        env={**_clean(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return Ran(done.stdout, done.stderr, done.returncode != 0, folder)


def execute(text: str, folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a notebook's text with a real kernel on this machine; `folder` is the segment's."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(cells, timeout=200, kernel_name="python3", startup_timeout=120)
    failed = False
    try:
        client.execute(
            env={
                **_clean(),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                **(environment or {}),
            }
        )
    except CellExecutionError:
        failed = True
    printed, errors = "", ""
    for cell in cells.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stdout":
                printed += output.text
            elif output.output_type == "error":
                errors += "\n".join(output.traceback) + "\n"
            elif output.output_type == "stream":
                errors += output.text
    return Ran(printed, errors, failed, folder)


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LAUNCHER"))}
