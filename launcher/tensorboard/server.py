"""The TensorBoard process: the one that is installed, else the pinned one that uv fetches once; on loopback only."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError, Refused
from launcher.events import Notice
from launcher.tensorboard import guard
from launcher.tools import installed_uv

VERSION = "2.21.0"
HOST = "127.0.0.1"
RELOAD_S = 2
LOOK_S = 0.1
END_S = 10.0


@dataclass(frozen=True)
class Wish:
    """What to show, and on which free port."""

    scratch: Path
    logdir: Path
    port: int
    environ: Mapping[str, str]


class Server:
    """A TensorBoard that is being started, or runs."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._port = wish.port
        self._process: subprocess.Popen[bytes] | None = None
        self._said = wish.scratch / "tensorboard.log"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}/"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Iterator[Notice]:
        """Until it answers. LauncherError when no way to start it works."""
        for argv in commands(self._wish.logdir, self._port, installed()):
            if argv[0] == installed_uv() and "--offline" not in argv:
                yield Notice(f"fetching TensorBoard {VERSION}; this is done once")
            self._launch(argv)
            while self.running:
                if self._answers():
                    return
                time.sleep(LOOK_S)
        raise LauncherError(
            f"TensorBoard could not be started: {self.last_words()}",
            "uv fetches it once from the package index: check the network, or install it with "
            "`pip install tensorboard` beside launcher",
        )

    def last_words(self) -> str:
        """Why it ended, in its own words."""
        with contextlib.suppress(OSError, IndexError):
            lines = self._said.read_text("utf-8", "replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            return next((line for line in said if line.startswith("error: ")), said[-1])[:300]
        return "it said nothing"

    def stop(self) -> None:
        """Nothing of it is left when this returns."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _launch(self, argv: Sequence[str]) -> None:
        self.stop()
        with open(self._said, "wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, str(self._wish.scratch), *argv],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                cwd=self._wish.scratch,
                env=dict(self._wish.environ),
                start_new_session=True,  # Ctrl-C at the terminal is ours to answer
            )

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        try:
            connection.request("GET", "/data/environment")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def commands(logdir: Path, port: int, installed: bool) -> list[list[str]]:
    """The ways to start it, in the order in which they are tried (pure)."""
    options = ["--logdir", str(logdir), "--host", HOST, "--port", str(port)]
    options += ["--reload_interval", str(RELOAD_S)]
    uv = [installed_uv(), "tool", "run"]
    what = ["--python", sys.executable, "--from", f"tensorboard=={VERSION}", "tensorboard", *options]
    ours = [[sys.executable, "-m", "tensorboard.main", *options]] if installed else []
    return [*ours, [*uv, "--offline", *what], [*uv, *what]]


def installed() -> bool:
    """Whether launcher's own interpreter has one; a folder of that name where we stand is none."""
    spec = importlib.util.find_spec("tensorboard")
    return spec is not None and spec.origin is not None


def free_port(wanted: int) -> int:
    """The port itself, or a free one for 0; Refused when it is taken."""
    try:
        with socket.create_server((HOST, wanted)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise Refused(
            f"port {wanted} of this machine cannot be used: {error.strerror}", "choose another: --port N"
        ) from error
