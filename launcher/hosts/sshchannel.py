"""Channels of an SSH connection: a process there, a port, a Unix socket."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from launcher.errors import LauncherError, RemoteError, Unreachable
from launcher.hosts.lean import paramiko
from launcher.hosts.sshbuffer import PieceBuffer

TICK_S = 2.5  # a read that waits for many bytes hands over fewer so much later
OPEN_S = 15.0
END_S = 1.0  # within which a process's exit status follows its last byte
WORDS_BYTES = 2000
PIECE = 32 << 10
REFUSED = "Unable to open channel."  # paramiko's words for the second of two threads that are refused at once


class SSHChannel:
    """The standard streams of a process there, as `launcher.hosts.steward.Channel`."""

    def __init__(self, transport: paramiko.Transport, command: str, name: str) -> None:
        self._name = name
        self._back = b""
        with translated(name):
            start = time.monotonic()
            self._channel = transport.open_session(timeout=OPEN_S)
            self.rtt_s = time.monotonic() - start  # one round trip, and a little of the server's time
            self._buffer = self._channel.in_buffer = PieceBuffer()
            self._channel.settimeout(TICK_S)
            self._channel.exec_command(command)

    def read(self, size: int, least: int = 1) -> bytes:
        if self._back:
            data, self._back = self._back[:size], self._back[size:]
            return data
        self._buffer.least = least
        data = self._channel.recv(size)
        if not data:
            self._check_end()
        return data

    def give_back(self, data: bytes) -> None:
        self._back = data + self._back

    def write(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            try:
                at += self._channel.send(data[at : at + PIECE])
            except TimeoutError:
                continue  # a full window; the reading side finds out whether anybody lives there
            except Exception as error:  # OSError, EOFError, SSHException: as its thread happened to end
                raise Unreachable(f"{self._name}: the connection is gone") from error

    def close(self) -> None:
        with contextlib.suppress(Exception):  # the goodbye may find the connection gone, in any of its ways
            self._channel.close()

    def last_words(self) -> str:
        words = b""
        with contextlib.suppress(OSError, EOFError):
            while len(words) < WORDS_BYTES and (piece := self._channel.recv_stderr(WORDS_BYTES)):
                words += piece
        return words.decode(errors="replace").strip()

    def _check_end(self) -> None:
        """Unreachable where not the process there has ended but the connection to it."""
        transport, until = self._channel.get_transport(), time.monotonic() + END_S
        while self._channel.exit_status < 0 and time.monotonic() < until:
            if not transport.is_active():
                raise Unreachable(f"{self._name}: the connection is gone")
            time.sleep(0.01)


def open_port(transport: paramiko.Transport, address: str, port: int, name: str) -> paramiko.Channel:
    """A connection that the server makes for us."""
    with translated(name):
        return transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=OPEN_S)


def open_unix(transport: Any, path: str, name: str) -> paramiko.Channel:
    """A connection to a Unix socket there (OpenSSH's direct-streamlocal; PROTOCOL, section 2.4).

    paramiko has no public call for this kind of channel: these are the steps of its Transport.open_channel.
    """
    with translated(name), transport.lock:
        number = transport._next_channel()
        message = paramiko.Message()
        message.add_byte(paramiko.common.cMSG_CHANNEL_OPEN)
        message.add_string("direct-streamlocal@openssh.com")
        message.add_int(number)
        message.add_int(transport.default_window_size)
        message.add_int(transport.default_max_packet_size)
        message.add_string(path)
        message.add_string("")
        message.add_int(0)
        channel: Any = paramiko.Channel(number)
        channel.in_buffer = PieceBuffer()
        transport._channels.put(number, channel)
        transport.channel_events[number] = opened = threading.Event()
        transport.channels_seen[number] = True
        channel._set_transport(transport)
        channel._set_window(transport.default_window_size, transport.default_max_packet_size)
    with translated(name):
        transport._send_user_message(message)
        if not opened.wait(OPEN_S):
            raise Unreachable(f"{name}: no answer for {path}")
        found: paramiko.Channel | None = transport._channels.get(number)
        if found is None:
            raise transport.get_exception() or paramiko.SSHException(REFUSED)
    return found


class translated(contextlib.AbstractContextManager[None]):
    """paramiko's errors as ours: refused by the server, or no connection any more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, paramiko.ChannelException):
            raise RemoteError(f"{self._name}: the server refused: {error.text}") from error
        if isinstance(error, paramiko.SSHException) and str(error) == REFUSED:
            raise RemoteError(f"{self._name}: the server refused") from error
        # Not only SSHException: open_channel raises whatever ended paramiko's thread (InvalidTag and more).
        if isinstance(error, Exception) and not isinstance(error, LauncherError):
            raise Unreachable(f"{self._name}: the connection is gone: {error}") from error
