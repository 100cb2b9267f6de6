"""This machine as a host: the same steward as anywhere else, as a child process."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.errors import RemoteError, Unreachable
from launcher.hosts import archive
from launcher.hosts.forward import Forward, Piped
from launcher.hosts.steward import Steward

TICK_S = 2.5
GOODBYE_S = 5.0
WORDS_BYTES = 2000


class LocalHost:
    """`launcher.hosts.host.Host` for the machine that we are on."""

    far = False

    def __init__(self, root: Path | None = None, name: str = "local") -> None:
        self.name = name
        self.root = root or Path.home() / ".launcher"
        self._lock = threading.Lock()
        self._steward: Steward | None = None

    def steward(self) -> Steward:
        with self._lock:
            if self._steward is None or not self._steward.alive:
                command = [
                    sys.executable,
                    "-I",
                    "-B",
                    str(self._install()),
                    "serve",
                    "--root",
                    str(self.root),
                ]
                self._steward = Steward(self.channel(command), self.name)
            return self._steward

    def agent_path(self) -> str:
        return archive.agent_path()

    def channel(self, argv: Sequence[str]) -> ProcessChannel:
        return ProcessChannel(argv)

    def dial(self, path: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            raise Unreachable(f"{path}: {error.strerror or error}") from error
        return connection

    @contextlib.contextmanager
    def forward(
        self, local_port: int, remote_port: int, address: str = "127.0.0.1", relay: Sequence[str] = ()
    ) -> Iterator[int]:
        def dial() -> Any:
            try:
                return socket.create_connection((address, remote_port), 15)
            except OSError:
                if not relay:
                    raise
                return Piped(self.steward(), relay)

        with Forward(local_port, dial) as port:
            yield port

    def shell(self, argv: Sequence[str] = ()) -> int:
        return subprocess.call(list(argv) or ["sh", "-i"])

    def close(self) -> None:
        with self._lock:
            if self._steward is not None:
                self._steward.close()
                self._steward = None

    def _install(self) -> Path:
        data, _ = archive.agent_archive()
        path = self.root / archive.agent_path()
        if not (path.is_file() and path.read_bytes() == data):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            records.write_durably(str(path), data)
        return path


class ProcessChannel:
    """A child process's standard streams."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        try:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
            )
        except OSError as error:
            self._errors.close()
            raise RemoteError(f"cannot start {argv[0]}: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._closing = threading.Lock()
        self._closed = False

    def read(self, size: int, least: int = 1) -> bytes:
        try:
            if not select.select([self._stdout], [], [], TICK_S)[0]:
                raise TimeoutError
            return os.read(self._stdout.fileno(), size)
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            return b""  # closed by another thread

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._stdin.fileno(), view) :]
        except (OSError, ValueError) as error:
            raise Unreachable(f"the process has ended: {self.last_words() or error}") from error

    def close(self) -> None:
        """End its stdin; it has a few seconds to go by itself."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        try:
            size = self._errors.seek(0, os.SEEK_END)
            words = os.pread(self._errors.fileno(), WORDS_BYTES, max(0, size - WORDS_BYTES))
        except (OSError, ValueError):
            return ""
        return words.decode(errors="replace").strip()
