"""One session: queued, run in its own namespaces, ended by itself, the limit, a cancel or a fault, then saved."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.emulators.kaggle.accounts import IN_KERNEL, Account
from tests.emulators.kaggle.machine import GPUS, Machine
from tests.emulators.kaggle.processes import descendants
from tests.emulators.kaggle.settings import Faults, Settings

FINAL = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")
TIMED_OUT = "Your notebook was stopped because it exceeded the max allowed execution duration."
KERNEL_DIED = 3
AT_ONCE = 100  # events in one piece, as a busy network brings them


class Log:
    """Numbered events as JSON texts; readers wait for more."""

    def __init__(self) -> None:
        self._events: list[str] = []
        self._changed = threading.Condition()
        self.closed = False

    def add(self, event: dict[str, object]) -> None:
        with self._changed:
            self._events.append(json.dumps(event))
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def after(self, index: int, wait_s: float) -> list[str]:
        """Some events from `index` on; [] when none comes in time or the log is closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) > index or self.closed, wait_s)
            return self._events[index : index + AT_ONCE]

    def array(self) -> str:
        """The finished log, as Kaggle keeps it."""
        return "[" + "\n,".join(self._events) + "\n]"


@dataclass
class Ways:
    """What a session needs to know of its surroundings."""

    folder: Path
    settings: Settings
    faults: Faults
    url: str


@dataclass
class Session:
    """`state` is a KernelWorkerStatus; `outputs` is there once the session is over."""

    id: int
    account: Account
    machine: Machine
    limit_s: float
    ways: Ways
    state: str = "QUEUED"
    failure: str = ""
    log: Log = field(default_factory=Log)
    outputs: Path | None = None
    seconds: float = 0.0  # Kaggle's, as far as it ran
    secrets_token: str = ""
    _ending: str = ""  # cancel | timeout
    process: subprocess.Popen[bytes] | None = None
    _started: float | None = None
    _wake: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    @property
    def over(self) -> bool:
        return self.state in FINAL

    @property
    def gpu(self) -> bool:
        return self.machine.shape in GPUS

    @property
    def spent_s(self) -> float:
        """Kaggle's seconds since it started."""
        if self._started is None or self.over:
            return self.seconds
        return (time.monotonic() - self._started) * self.ways.settings.time_scale

    def start(self) -> None:
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop and save."""
        self._end("cancel", "CANCEL_REQUESTED")

    def time_out(self) -> None:
        """What happens at its limit, now."""
        self._end("timeout", "")

    def kill_kernel(self) -> None:
        """What happens when a session runs out of memory: the kernel's process is gone."""
        if self.process is None:
            return
        for pid, command in descendants(self.process.pid):
            if "ipykernel_launcher" in command or command.endswith("/kaggle/src/script.py"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(60)

    def _live(self) -> None:
        try:
            self._wake.wait(self.ways.settings.queue_wall_s)
            if self.ways.faults.start_refused:
                return self._finish("ERROR", self.ways.faults.start_refused)
            self._run()
            time.sleep(self.ways.settings.save_wall_s)
            self._save()
        except Exception as error:  # a session that cannot start must not look like one that queues
            self._finish("ERROR", f"the emulator failed: {error!r}")
            raise
        finally:
            self.log.close()

    def _run(self) -> None:
        folder = self.ways.folder
        argv = self.machine.prepare(folder)
        token = self.account.token(IN_KERNEL)
        (folder / "root/kaggle/tmp/.api-token").write_text(token)
        reading, writing = os.pipe()
        started = self._open([*argv, str(writing)], writing)
        os.close(writing)
        if not started:
            return os.close(reading)
        timer = threading.Timer(self.limit_s / self.ways.settings.time_scale, self._end, ["timeout", ""])
        timer.start()
        try:
            self._listen(reading)
        finally:
            assert self.process is not None
            code = self.process.wait()
            timer.cancel()
            self.seconds = self.spent_s
            self.account.tokens.pop(token, None)
        return self._judge(code)

    def _open(self, argv: list[str], writing: int) -> bool:
        """Start the process, unless it was cancelled by now."""
        with self._lock, open(self.ways.folder / "engine.log", "wb") as complaints:
            if self._ending:
                return False
            self.process = subprocess.Popen(
                argv, pass_fds=[writing], stdin=subprocess.DEVNULL, stderr=complaints
            )
            self._started, self.state = time.monotonic(), "RUNNING"
            return True

    def _listen(self, reading: int) -> None:
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:  # the last one, when the session was killed while it wrote
                    continue
                self.log.add(
                    {"stream_name": event["stream_name"], "time": self.spent_s, "data": event["data"]}
                )

    def _judge(self, code: int) -> None:
        if self._ending == "timeout":
            self.failure = TIMED_OUT
        elif code == KERNEL_DIED:
            self.failure = "Your notebook tried to allocate more memory than is available. It has restarted."
        elif code and not self.log.after(0, 0):  # never got as far as user code: say why
            self.failure = (self.ways.folder / "engine.log").read_text(errors="replace")[-2000:]
        self._outcome = "ERROR" if code or self._ending else "COMPLETE"

    def _save(self) -> None:
        """At any end: regular files only, no links, no empty folders, no mode bits."""
        working, outputs = self.ways.folder / "root/kaggle/working", self.ways.folder / "outputs"
        outputs.mkdir(exist_ok=True)
        size = 0
        for path in plain_files(working):
            size += path.stat().st_size
            target = outputs / path.relative_to(working)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            target.chmod(0o644)
        if size > self.ways.settings.output_limit_bytes:
            shutil.rmtree(outputs)
            outputs.mkdir()
            self.failure = "Your notebook tried to use more disk space than is available."
            self._outcome = "ERROR"
        shutil.rmtree(self.ways.folder / "root", ignore_errors=True)
        self.outputs = outputs
        if self._ending == "cancel":
            return self._finish("CANCEL_ACKNOWLEDGED", "")
        return self._finish(self._outcome, self.failure)

    def _finish(self, state: str, failure: str) -> None:
        with self._lock:
            if self.gpu:
                self.account.gpu_used_s += self.seconds
            self.state, self.failure = state, failure

    _outcome: str = "ERROR"

    def _end(self, ending: str, state: str) -> None:
        with self._lock:
            if self._ending or self.over:
                return
            self._ending = ending
            self.state = state or self.state
            self._wake.set()
            if self.process is None or self.process.poll() is not None:
                return
            inner = [pid for pid, _ in descendants(self.process.pid)][:1]
            first = inner[0] if inner else self.process.pid  # pid 1 of its namespace: all die
            with contextlib.suppress(ProcessLookupError):  # it was ending by itself
                os.kill(first, signal.SIGKILL)


def plain_files(folder: Path) -> Iterator[Path]:
    """Regular files below a folder; links are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


def wait_until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """For tests: until something holds."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not become true")
        time.sleep(0.05)
