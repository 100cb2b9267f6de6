"""A segment's folder as a client would lay it out, and a real agent process that runs it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.run import new_id

ROOT = Path(__file__).parents[2]
AGENT = [sys.executable, "-B", "-m", "launcher.agent", "run"]


def bundle(files: Mapping[str, bytes | str], lock: str = "") -> bytes:
    """An uncompressed tar with the job's files below files/, as the client packs them."""
    buffer = io.BytesIO()
    members = {f"files/{path}": as_bytes(data) for path, data in files.items()}
    members |= {"requirements.lock": lock.encode(), "environment.json": b"{}"}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(members):
            data = members[name]
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755 if data.startswith(b"#!") else 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class SegmentFolder:
    """`run` a command to its end, or `start` it and look; all processes are ended by `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.agent: subprocess.Popen[bytes] | None = None
        self.run_id = new_id("test")  # its own: other tests sweep up what bears theirs
        path.mkdir(parents=True)

    def order(self, command: str | list[str], **changes: Any) -> dict[str, Any]:
        files = changes.pop("files", {})
        data = bundle(files)
        (self.path / "bundle.tar").write_bytes(data)
        order: dict[str, Any] = {
            "v": 1,
            "run": self.run_id,
            "segment": 0,
            "rank": 0,
            "first_seq": 1,
            "command": command,
            "env": {},
            "params": {},
            "secrets": [],
            "bundle_sha256": hashlib.sha256(data).hexdigest(),
            "lock_sha256": None,
            "locked": None,
            "python": None,
            "form": "plain",
            "image": None,
            "time_s": 60.0,
            "grace_s": 5.0,
            "stall_s": None,
            "checkpoint_every_s": 600.0,
            "gpus": 0,
            "nodes": 1,
            "node_rank": 0,
            "master_addr": "127.0.0.1",
            "master_port": 29500,
            "bin": None,
            "secrets_dir": None,
            "data_dir": None,
            "resume": None,
            "resume_digest": None,
        }
        order.update(changes)
        (self.path / "order.json").write_text(json.dumps(order))
        return order

    def start(
        self, command: str | list[str], values: Mapping[str, str] | None = None, **changes: Any
    ) -> subprocess.Popen[bytes]:
        agent: list[str] = changes.pop("agent", AGENT)
        preexec: Callable[[], None] | None = changes.pop("preexec", None)
        environment: dict[str, str] = changes.pop("environment", {})
        self.order(command, **{"secrets": sorted(values or {}), **changes})
        self.agent = subprocess.Popen(
            [*agent, str(self.path)],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **environment},
            preexec_fn=preexec,
        )
        assert self.agent.stdin is not None
        self.agent.stdin.write(json.dumps({"secrets": dict(values or {})}).encode() + b"\n")
        self.agent.stdin.close()
        return self.agent

    def run(self, command: str | list[str], **changes: Any) -> dict[str, Any]:
        """The exit record."""
        self.start(command, **changes)
        return self.wait()

    def wait(self, timeout_s: float = 60) -> dict[str, Any]:
        assert self.agent is not None
        code = self.agent.wait(timeout_s)
        assert code == 0, (code, self.errors())
        return self.end()

    def end(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.path / "exit.json").read_bytes())
        return value

    def state(self) -> dict[str, Any]:
        """Empty before the agent wrote it."""
        value: dict[str, Any] = json.loads(read(str(self.path / "state.json")) or b'{"phase": null}')
        return value

    def log(self) -> list[dict[str, Any]]:
        """Whole lines of the log; a torn last one is left out, as a client does."""
        data = (self.path / "log.jsonl").read_bytes() if (self.path / "log.jsonl").exists() else b""
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def bytes_of(self, stream: str) -> bytes:
        return b"".join(exact(event) for event in self.log() if event["stream"] == stream)

    def said(self, stream: str = "launcher") -> str:
        return self.bytes_of(stream).decode("utf-8", "replace")

    def manifest(self, kind: str | None = None) -> list[dict[str, Any]]:
        lines = (self.path / "manifest.jsonl").read_bytes().splitlines()
        return [line for line in map(json.loads, lines) if kind in (None, line["kind"])]

    def errors(self) -> str:
        path = self.path / "agent.err"
        return path.read_text() if path.exists() else ""

    def stop(self, grace_s: float = 5.0, why: str = "cancel") -> None:
        control = self.path / "control"
        control.mkdir(exist_ok=True)
        (control / "stop.part").write_text(json.dumps({"v": 1, "grace_s": grace_s, "why": why}))
        (control / "stop.part").replace(control / "stop")

    def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Wait for something that must come true."""
        give_up = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < give_up, ("it did not come true", self.said(), self.errors())
            time.sleep(0.02)
        return value

    def until_said(self, text: str, stream: str = "stdout") -> None:
        self.until(lambda: text in self.said(stream))

    def close(self) -> None:
        if self.agent is not None and self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait()
        for pid in processes_of(self.path):
            with contextlib.suppress(ProcessLookupError):  # it was ending by itself
                os.kill(pid, 9)


def as_bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def exact(event: Mapping[str, Any]) -> bytes:
    """The bytes of an event of the log."""
    return base64.b64decode(event["b64"]) if "b64" in event else event["text"].encode()


def processes_of(folder: Path) -> list[int]:
    """Pids of everything that runs with this segment's LAUNCHER_OUT in its environment."""
    mark = b"LAUNCHER_OUT=" + os.fsencode(folder)
    return [pid for pid in pids() if mark in read(f"/proc/{pid}/environ") and read(f"/proc/{pid}/cmdline")]


def pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
