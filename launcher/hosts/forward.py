"""A port on loopback whose connections lead somewhere else: `launcher forward`."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from launcher.errors import LauncherError, Refused
from launcher.hosts.steward import Steward

BLOCK = 256 << 10
QUEUED = 8  # blocks
RELAY = """
import os, socket, sys, threading
there = socket.create_connection(("localhost", int(sys.argv[1])), 15)
there.settimeout(None)
def back():
    with open(1, "wb", 0) as out:
        while True:
            data = there.recv(65536)
            if not data:
                os._exit(0)
            while data:
                data = data[out.write(data):]
threading.Thread(target=back, daemon=True).start()
while True:
    data = os.read(0, 65536)
    if not data:
        break
    there.sendall(data)
there.shutdown(socket.SHUT_WR)
threading.Event().wait(60)
"""


def relay(port: int) -> list[str]:
    """The words of a process that joins its standard streams to a port of its own loopback, where a job in a
    container may listen that nobody outside can reach."""
    return ["python3", "-I", "-c", RELAY, str(port)]


class Piped:
    """A process's standard streams, as something like a socket: not a channel of its own for each, of which a
    server allows ten."""

    def __init__(self, steward: Steward, words: Sequence[str]) -> None:
        self._outgoing: queue.Queue[bytes | None] = queue.Queue(QUEUED)
        payload = iter(self._outgoing.get, None)
        self._frames = steward.stream("run_script", payload, argv=list(words), env={})
        self._rest = b""
        self._ended = False

    def recv(self, size: int) -> bytes:
        try:
            while not self._rest and not self._ended:
                header, data = next(self._frames)
                self._rest = data if header.get("stream") == "stdout" else b""
        except StopIteration:
            self._ended = True
        except LauncherError as error:
            self._ended = True
            raise OSError(error.message) from error
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def sendall(self, data: bytes) -> None:
        self._put(data)

    def shutdown(self, _: int) -> None:
        self._put(None)

    def close(self) -> None:
        """The process ends with its input, and its answer with it."""

    def _put(self, data: bytes | None) -> None:
        while not self._ended:
            with contextlib.suppress(queue.Full):
                return self._outgoing.put(data, timeout=1.0)
        raise OSError("the other end is gone")


class Forward:
    """A context whose value is the port. `dial` opens a connection's far end: anything like a socket."""

    def __init__(self, port: int, dial: Callable[[], Any]) -> None:
        self._port = port
        self._dial = dial
        self._open: set[Any] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> int:
        try:
            self._server = socket.create_server(("127.0.0.1", self._port))
        except OSError as error:
            raise Refused(
                f"port {self._port} of this machine cannot be used: {error.strerror}",
                "choose another: PORT:PORT",
            ) from error
        threading.Thread(target=self._accept, daemon=True).start()
        return int(self._server.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        # shutdown wakes the thread in accept; close alone would leave it there.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            ends = list(self._open)
        for end in ends:
            _close(end)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(here,), daemon=True).start()

    def _join(self, here: socket.socket) -> None:
        try:
            there = self._dial()
        except (OSError, LauncherError):
            here.close()  # the visitor sees a closed connection, as with a port where nobody listens
            return
        with self._lock:
            self._open |= {here, there}
        back = threading.Thread(target=_pump, args=(there, here), daemon=True)
        back.start()
        _pump(here, there)
        back.join()
        for end in (here, there):
            _close(end)
            with self._lock:
                self._open.discard(end)


def _pump(source: Any, sink: Any) -> None:
    """Until the source ends; then the sink hears so, and may still answer."""
    try:
        while data := source.recv(BLOCK):
            sink.sendall(data)
    except (OSError, EOFError):
        pass
    with contextlib.suppress(OSError, EOFError):
        sink.shutdown(socket.SHUT_WR)


def _close(end: Any) -> None:
    with contextlib.suppress(OSError, EOFError):
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError, EOFError):
        end.close()
