"""A TCP connection to an SSH server that is quick and does not hide a dead network."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

from launcher.errors import Unreachable

CONNECT_S = 15.0
TRY_S = 3.7
USER_TIMEOUT_MS = 10_000
QUICK_READS = 200
BLOCK = 256 << 10


class QuickSocket(socket.socket):
    """Reads ahead (paramiko asks for a packet in two small reads), and keeps the handshake's ACKs prompt.

    Linux delays ACKs by 40 ms where it guesses that an answer will carry them; TCP_QUICKACK wears off and has
    to be set again before each read. It is worth it at first, when single packets go back and forth.
    """

    _ahead = b""
    _at = 0
    _quick = QUICK_READS if hasattr(socket, "TCP_QUICKACK") else 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._at == len(self._ahead):
            if self._quick:
                self._quick -= 1
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            self._ahead, self._at = super().recv(BLOCK, flags), 0
        data = self._ahead[self._at : self._at + size]
        self._at += len(data)
        return data


def connect(host: str, port: int) -> socket.socket:
    """Connect within 15 s. Every fault is Unreachable with the cause named."""
    try:
        plain = _connect(host, port)
    except socket.gaierror as error:
        raise Unreachable(f"{host} cannot be resolved: {error.strerror}", "is the name right?") from error
    except TimeoutError as error:
        raise Unreachable(
            f"{host} port {port} did not answer in {CONNECT_S:.0f} s", "is it on, and the port open?"
        ) from error
    except OSError as error:
        raise Unreachable(
            f"{host} port {port}: {error.strerror or error}", "is sshd running there?"
        ) from error
    quick = QuickSocket(plain.family, plain.type, plain.proto, plain.detach())
    quick.settimeout(CONNECT_S)
    _tune(quick)
    return quick


def _connect(host: str, port: int) -> socket.socket:
    """Several short tries: within one the system asks again after 1, 3, 7 and 15 s, and so would find a network
    that is back as late as 8 s after."""
    give_up = time.monotonic() + CONNECT_S
    while True:
        try:
            return socket.create_connection((host, port), TRY_S)
        except TimeoutError:
            if time.monotonic() + TRY_S > give_up:
                raise


def _tune(sock: socket.socket) -> None:
    # Without it each request waits 40 ms for the ACK of the one before (paramiko never sets it).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        with contextlib.suppress(AttributeError, OSError):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if sys.platform == "linux":
        # paramiko alone does not notice a cut network within 90 s; with this it is an error after 10 s.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
