"""train.py in a segment's surroundings: started, watched by its metrics, stopped, and what it left."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

JOB = Path(__file__).parents[2] / "jobs" / "finetune"
RESUME_ME = 75
SMALL = {
    "size": 32,
    "epochs": 4,
    "batch": 4,
    "val_share": 0,
    "test_share": 0.9,
    "seed": 1,
}  # 20 steps
SQUEEZE = {"arch": "squeezenet1_1", "weights": "none"}  # small, and it has dropout
OFTEN = {"LAUNCHER_CHECKPOINT_EVERY": "0.01"}


class Job:
    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder
        self.processes = 1

    def start(
        self, out: str, env: Mapping[str, str] | None = None, **params: object
    ) -> subprocess.Popen[str]:
        surroundings = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "LAUNCHER_OUT": str(self.folder / out),
            "LAUNCHER_PARAMS": json.dumps(SMALL | params, default=str),
            "LAUNCHER_CHECKPOINT_EVERY": "600",
        }
        command = [str(self.python), *self._torchrun(), str(JOB / "train.py")]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=surroundings | dict(env or {}), stdout=pipe, stderr=pipe, text=True
        )

    def _torchrun(self) -> list[str]:
        if self.processes == 1:
            return []
        port = f"--master-port={free_port()}"
        return ["-m", "torch.distributed.run", f"--nproc-per-node={self.processes}", port]

    def run(self, out: str, env: Mapping[str, str] | None = None, **params: object) -> "Ended":
        with ended_with_the_test(self.start(out, env, **params)) as process:
            stdout, stderr = process.communicate(timeout=240)
        return Ended(process.returncode, stdout, stderr, self.folder / out)

    def stopped_at(
        self,
        step: int,
        number: signal.Signals,
        out: str,
        env: Mapping[str, str] | None = None,
        **params: object,
    ) -> int:
        """Start, send the signal once `step` steps are done; the exit status."""
        with ended_with_the_test(self.start(out, env, **params)) as process:
            while len(losses(self.folder / out)) < step:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            process.send_signal(number)
            process.communicate(timeout=60)
        return process.returncode


class Ended:
    def __init__(self, status: int, stdout: str, stderr: str, out: Path) -> None:
        self.status, self.stdout, self.stderr, self.out = status, stdout, stderr, out

    @property
    def model(self) -> str:
        assert self.status == 0, self.stdout + self.stderr
        return sha256(self.out / "model.safetensors")

    def refused(self) -> str:
        """Its one line."""
        assert self.status == 2, self.stdout + self.stderr
        assert self.stderr.count("\n") == 1, self.stderr
        return self.stderr


@contextmanager
def ended_with_the_test(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def job_in(python: Path, folder: Path) -> Iterator[Job]:
    yield Job(python, folder)
    shutil.rmtree(folder)  # checkpoints are large, and pytest would keep three runs of them


def losses(out: Path) -> dict[int, float]:
    return values(out, "loss")


def values(out: Path, name: str) -> dict[int, float]:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    metrics = [json.loads(line) for line in lines if line.endswith("\n")]
    return {line["step"]: line[name] for line in metrics if name in line}


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("step-" + "[0-9]" * 6))


def newest(out: Path) -> dict[str, str]:
    return {"LAUNCHER_RESUME": str(checkpoints(out)[-1])}


def weights(out: Path) -> dict[str, str]:
    """The last checkpoint's weights and their average."""
    return {f.name: sha256(f) for f in checkpoints(out)[-1].glob("*.safetensors")}


def difference(job: Job, a: Path, b: Path) -> float:
    """The largest between any two weights, averaged ones too."""
    script = (
        "import sys; from safetensors.torch import load_file\n"
        "a, b = (load_file(f) for f in sys.argv[1:])\n"
        "print(max((a[k] - b[k]).abs().max().item() for k in a))"
    )
    last = [sorted(checkpoints(out)[-1].glob("*.safetensors")) for out in (a, b)]
    said = [subprocess.check_output([job.python, "-c", script, *pair]) for pair in zip(*last, strict=True)]
    return max(float(s) for s in said)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
