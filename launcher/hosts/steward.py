"""The client's side of the steward: requests over one channel, many at a time, from any thread."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Generator, Iterable
from typing import Any, Protocol

from launcher.agent.frames import FRAME_COST, MAX_PAYLOAD, WINDOW, BadFrame, Header, Reader, encode
from launcher.errors import LauncherError, RemoteError, Unreachable
from launcher.hosts.request import Request

SILENT_TICKS = 6  # a channel ticks every 2.5 s without a byte; the steward beats every 5 s
CLIENT_BEAT_S = 10.0
HELLO_S = 30.0
QUICK_S = 120.0
MIN_WINDOW = 8 << 20
LINE_BYTES_PER_S = 640e6
UNBOUNDED = frozenset(
    {"batch", "read", "put", "follow", "run_script", "docker", "launch_container", "remove"}
    | {"data_have", "data_lacks", "data_tree"}  # may look at a million files, or hash large ones again
)


class Channel(Protocol):
    """Bytes to and from a process somewhere. Its faults are Unreachable."""

    def read(self, size: int, least: int = 1) -> bytes:
        """Up to `size` bytes as soon as there are any; b"" at the end; TimeoutError after 2.5 s of silence.

        It may wait for `least` bytes where that saves work, but not when they do not come.
        """

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def last_words(self) -> str:
        """What the process said on stderr, for messages."""


class Steward:
    """A steward that has said hello. After Unreachable it stays dead: ask the host for another."""

    def __init__(self, channel: Channel, name: str = "the machine", rtt_s: float = 0.0) -> None:
        self.name = name
        self._window = window_bytes(rtt_s)
        self.hello: dict[str, Any] = {}
        self._channel = channel
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._requests: dict[int, Request] = {}
        self._next = 1
        self._failure: LauncherError | None = None
        self._greeted, self._over = threading.Event(), threading.Event()
        self._reader = threading.Thread(target=self._read_all, name=f"steward of {name}", daemon=True)
        self._reader.start()
        self._await_hello()
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._failure is None

    def call(self, op: str, payload: bytes | Iterable[bytes] = b"", **args: Any) -> dict[str, Any]:
        """The result of one request. RemoteError (with the steward's code) if it failed."""
        deadline = None if op in UNBOUNDED else time.monotonic() + QUICK_S
        request = self._begin(op, payload, args)
        try:
            while request.take(deadline) is not None:
                pass
            return _result(request, op, self.name)
        except TimeoutError:
            raise Unreachable(f"{self.name} gave no answer to {op} in {QUICK_S:.0f} s") from None
        finally:
            self._finish(request)

    def stream(
        self, op: str, payload: bytes | Iterable[bytes] = b"", **args: Any
    ) -> Generator[tuple[Header, bytes], None, dict[str, Any]]:
        """The data frames of one request; the result is the generator's value; closing it cancels."""
        request = self._begin(op, payload, args)
        try:
            while True:
                frame = request.take()
                if frame is None:
                    return _result(request, op, self.name)
                yield frame
        finally:
            self._finish(request)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Put a small file, whole or not at all."""
        digest = hashlib.sha256(data).hexdigest()
        self.call("put", data, path=path, size=len(data), sha256=digest, offset=0, mode=mode)

    def close(self) -> None:
        self._fail(Unreachable(f"the connection to {self.name} was closed"))

    def _begin(self, op: str, payload: bytes | Iterable[bytes], given: dict[str, Any]) -> Request:
        args = {"window": self._window, **given}
        with self._lock:
            if self._failure is not None:
                raise self._failure
            request = Request(self._next, self._grant, int(args["window"]))
            self._requests[self._next] = request
            self._next += 1
        header = {"id": request.number, "op": op, **args}
        if isinstance(payload, bytes) and len(payload) <= MAX_PAYLOAD:
            self._send(header, payload)
            return request
        self._send({**header, "more": True})
        # In a thread of its own: the answer may come while we still send, and has to be read then.
        threading.Thread(target=self._upload, args=(request, payload), daemon=True).start()
        return request

    def _upload(self, request: Request, payload: bytes | Iterable[bytes]) -> None:
        try:
            for piece in _pieces(payload):
                if not request.spend(len(piece) + FRAME_COST):
                    return
                self._send({"id": request.number}, piece)
            self._send({"id": request.number, "end": True})
        except Exception as error:
            request.fail(error)

    def _finish(self, request: Request) -> None:
        """Forget the request; whatever still comes for it is thrown away unread."""
        with self._lock:
            self._requests.pop(request.number, None)
        request.fail(Unreachable("cancelled"))
        if request.end is None and self.alive:
            with contextlib.suppress(LauncherError):  # then nothing goes on there for us either
                self._send({"id": request.number, "cancel": True})

    def _grant(self, number: int, count: int) -> None:
        self._send({"id": number, "window": count})

    def _send(self, header: Header, payload: bytes = b"") -> None:
        if self._failure is not None:
            raise self._failure
        try:
            with self._writing:
                self._channel.write(b"".join(encode(header, payload)))
        except Unreachable as error:
            self._fail(error)
            raise (self._failure or error) from error

    def _read_all(self) -> None:
        try:
            reader = Reader(self._read)
            while (frame := reader.next()) is not None:
                self._arrived(*frame)
            raise EOFError
        except BadFrame as error:
            self._fail(RemoteError(f"{self.name} does not answer as a steward does: {error}"))
        except EOFError:
            words = self._channel.last_words()
            self._fail(Unreachable(f"{self.name} ended the connection" + (f": {words}" if words else "")))
        except LauncherError as error:
            self._fail(error)

    def _read(self, size: int, least: int) -> bytes:
        for _ in range(SILENT_TICKS):
            try:
                return self._channel.read(size, least)
            except TimeoutError:
                continue
        raise Unreachable(f"{self.name} has been silent for 15 s")

    def _beat(self) -> None:
        """A steward that hears nothing for a minute ends: it holds what a new connection may need."""
        with contextlib.suppress(LauncherError):
            while not self._over.wait(CLIENT_BEAT_S):
                self._send({"id": 0, "beat": True})

    def _arrived(self, header: Header, payload: bytes) -> None:
        if header["id"] == 0:
            if isinstance(header.get("hello"), dict):
                self.hello = header["hello"]
                self._greeted.set()
            return
        with self._lock:
            request = self._requests.get(header["id"])
        if request is not None:
            request.arrived(header, payload)

    def _await_hello(self) -> None:
        if not self._greeted.wait(HELLO_S):
            self._fail(Unreachable(f"{self.name}: the steward did not say hello in {HELLO_S:.0f} s"))
        if self._failure is not None:
            raise self._failure
        if self.hello.get("v") != 1:
            self._fail(RemoteError(f"{self.name} has a steward of version {self.hello.get('v')!r:.20}"))
            raise self._failure or RemoteError(self.name)

    def _fail(self, error: LauncherError) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = error
            requests, self._requests = list(self._requests.values()), {}
        self._greeted.set()
        self._over.set()
        for request in requests:
            request.fail(self._failure)
        self._channel.close()


def window_bytes(rtt_s: float) -> int:
    """How much of an answer may be under way: what a fast line carries in a round trip, and no more.

    What is more than that waits in sshd, whose buffer grows by copying itself: for the first half gigabyte of a
    connection that halved the speed.
    """
    return max(MIN_WINDOW, min(WINDOW, int(rtt_s * LINE_BYTES_PER_S)))


def _result(request: Request, op: str, name: str) -> dict[str, Any]:
    end = request.end or {}
    if isinstance(end.get("result"), dict):
        return dict(end["result"])
    said = end.get("error")
    said = said if isinstance(said, dict) else {}
    error = RemoteError(f"{name}: {op}: {said.get('message', 'no result')!s:.2000}")
    error.code = str(said.get("code", "failed"))[:40]
    raise error


def _pieces(payload: bytes | Iterable[bytes]) -> Iterable[bytes]:
    for chunk in [payload] if isinstance(payload, bytes) else payload:
        for at in range(0, len(chunk), MAX_PAYLOAD):
            yield chunk[at : at + MAX_PAYLOAD]
