"""The WebSocket to a kernel: one JSON message at a time, both ways; a dead peer is found out."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests
import websocket
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from launcher.errors import RemoteError, Unreachable
from launcher.targets.colab.runtime import NOT_US, PEER, TOKENS, KernelGone, RuntimeLine
from launcher.targets.colab.wire import CONNECT_S, Cut

OPEN_S = 75.0  # Jupyter itself waits for a starting kernel for up to a minute
PING_S, DEAD_S = 10.0, 30.0  # of silence
LARGEST = 64 << 20  # of a message
DATA = (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_CONT)


class Channel:
    """Connected when made. Raises Cut when the connection breaks; make another one then.

    With the `session` of a former connection Jupyter hands over what the kernel said in between.
    """

    def __init__(self, line: RuntimeLine, kernel_id: str, session: str) -> None:
        self._socket = _connected(
            line, f"/api/kernels/{quote(kernel_id, safe='')}/channels?session_id={session}"
        )
        _bound(self._socket)
        self._heard_at = self._pinged_at = time.monotonic()
        self._parts: list[bytes] = []

    def send(self, message: Mapping[str, Any]) -> None:
        try:
            self._socket.settimeout(CONNECT_S)
            self._socket.send(json.dumps(message))
        except (websocket.WebSocketException, OSError) as error:
            raise _cut(error) from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message; None when none came in time."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                self._socket.settimeout(max(left_s, 0.01))
                frame = self._socket.recv_frame()
            except websocket.WebSocketTimeoutException:
                break
            except (websocket.WebSocketException, OSError) as error:
                raise _cut(error) from error
            self._heard_at = time.monotonic()
            message = self._message(frame)
            if message is not None:
                return message
        self._look_after()
        return None

    def close(self) -> None:
        """At once, from any thread; the kernel goes on."""
        with contextlib.suppress(websocket.WebSocketException, OSError):
            if self._socket.sock is not None:
                self._socket.sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in `receive`
            self._socket.shutdown()

    def _message(self, frame: websocket.ABNF) -> dict[str, Any] | None:
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Cut(f"{PEER} closed the connection to the kernel")
        if frame.opcode == websocket.ABNF.OPCODE_PING:
            self._tell(websocket.ABNF.OPCODE_PONG, frame.data)
        if frame.opcode not in DATA:
            return None
        self._parts.append(frame.data if isinstance(frame.data, bytes) else frame.data.encode())
        if sum(map(len, self._parts)) > LARGEST:
            raise _too_large()
        if not frame.fin:
            return None
        whole, self._parts = b"".join(self._parts), []
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(whole)
            return message if isinstance(message, dict) else None
        return None  # not one of ours: pictures come in binary messages

    def _look_after(self) -> None:
        """Silence may be a quiet kernel or a connection that is no more: a ping tells."""
        now = time.monotonic()
        if now - self._heard_at > DEAD_S:
            raise Cut(f"{PEER} has fallen silent")
        if now - max(self._heard_at, self._pinged_at) > PING_S:
            self._pinged_at = now
            self._tell(websocket.ABNF.OPCODE_PING, b"")

    def _tell(self, opcode: int, data: bytes | str) -> None:
        try:
            self._socket.send(data, opcode)
        except (websocket.WebSocketException, OSError) as error:
            raise _cut(error) from error


def _connected(line: RuntimeLine, path: str) -> Any:
    for _ in range(TOKENS):
        url, header, runtime = line.address(path)
        try:
            return websocket.create_connection(
                url,
                timeout=OPEN_S,
                header=[header],
                redirect_limit=0,
                skip_utf8_validation=True,
                sslopt=_trust(url),
            )
        except websocket.WebSocketBadStatusException as error:
            status = error.status_code
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise _cut(error) from error
        if status == 404:
            line.must_answer()
            raise KernelGone
        if status not in NOT_US:
            line.must_live()
            break
        line.refused(runtime, status)
    raise Unreachable(f"{PEER} does not open a connection to the kernel (HTTP {status})", "try again")


def _bound(connection: Any) -> None:
    """A frame states its length before it comes; one that is too long is not waited for."""
    strict = connection.frame_buffer.recv_strict

    def bounded(size: int) -> bytes:
        if size > LARGEST:
            raise _too_large()
        data: bytes = strict(size)
        return data

    connection.frame_buffer.recv_strict = bounded


def _trust(url: str) -> dict[str, str]:
    """The certificates that requests goes by, also where Python has none of the system's."""
    with requests.Session() as session:
        chosen = session.merge_environment_settings(url.replace("ws", "http", 1), {}, None, None, None)[
            "verify"
        ]
    return {"ca_certs": chosen if isinstance(chosen, str) else DEFAULT_CA_BUNDLE_PATH}


def _too_large() -> RemoteError:
    return RemoteError(f"{PEER} sent a message of more than {LARGEST >> 20} MB")


def _cut(error: BaseException) -> Cut:
    what = "no answer in time" if isinstance(error, websocket.WebSocketTimeoutException) else "it broke"
    return Cut(f"the connection to a kernel of {PEER} failed: {what}", "check the network, then try again")
