"""A port on loopback whose connections lead somewhere else: `launcher forward`."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from launcher.errors import LauncherError, Refused

BLOCK = 256 << 10


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
