"""A user's laptop in a test: its own state and settings, and the real command as a real process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WAIT_S = 120


@dataclasses.dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Laptop:
    """`laptop.launcher("run", …)`; everything it keeps lies below `folder`."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        kept = ("PATH", "SSL_CERT_FILE", "PIP_CERT", "UV_CACHE_DIR", "UV_FIND_LINKS", "LANG", "DOCKER_HOST")
        self.env = {k: os.environ[k] for k in kept if k in os.environ}
        self.env |= {
            "HOME": str(folder),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", os.path.expanduser("~/.cache/uv")),
            "LAUNCHER_HOME": str(folder / "state"),
            "LAUNCHER_CONFIG": str(folder / "config"),
            **(variables or {}),
        }
        self.command = [sys.executable, "-m", "launcher"]
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """The command running in the background, in a session of its own; `under`: the words of a tracer."""
        process = subprocess.Popen(
            [*options.pop("under", ()), *self.command, *words],
            cwd=options.pop("cwd", self.work),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            start_new_session=True,
            **options,
        )
        self.started.append(process)
        return process

    def launcher(self, *words: str, timeout: float = WAIT_S, **options: Any) -> Done:
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=timeout)
        return Done(process.returncode, (out or b"").decode(), (err or b"").decode())

    def ok(self, *words: str, **options: Any) -> Done:
        """As `launcher`, and it must end with 0."""
        done = self.launcher(*words, **options)
        assert done.code == 0, (
            f"launcher {' '.join(words)} -> {done.code}\n{done.out[-3000:]}\n{done.err[-3000:]}"
        )
        return done

    def status(self, run: str = "last") -> dict[str, Any]:
        found: dict[str, Any] = self.ok("--json", "status", run).json
        return found

    def segment(self, run: str = "last") -> dict[str, Any]:
        """The newest segment of a run, as its capsule at home tells it."""
        capsule = json.loads((Path(self.status(run)["out"]) / "capsule.json").read_text())
        found: dict[str, Any] = capsule["segments"][-1]
        return found

    def wait_for(self, wanted: Callable[[], Any], what: str, timeout: float = WAIT_S) -> Any:
        """Until `wanted()` is true; its value."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            found = wanted()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout} s: {what}")

    def job(self, name: str, script: str, **spec: Any) -> Path:
        """A folder with train.py and job.yaml (JSON is YAML)."""
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(script)
        whole = {"name": name, "run": "python train.py", "environment": {"python": "3.11"}, **spec}
        (folder / "job.yaml").write_text(json.dumps(whole))
        return folder

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9, and the pipes drained."""
    process.kill()
    process.communicate()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]
