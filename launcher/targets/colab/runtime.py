"""The way to one runtime's Jupyter server: the proxy token is renewed on the way, a reclaimed runtime is told apart."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from launcher.errors import AuthError, CapacityError, RemoteError, TargetError, Unreachable
from launcher.targets.colab.told import Runtime
from launcher.targets.colab.wire import AGAIN, DELAYS_S, Answer, Call, Stream, Wire, message, said, wait_s

PEER = "Colab's runtime"
TOKEN_HEADER = "X-Colab-Runtime-Proxy-Token"
NOT_US = (401, 403)  # the proxy does not know the token: refused before it had any effect
TOKENS = 4  # that may expire one after the other before it is called a refusal
# Jupyter writes a new file by way of `.~name`; when that fails it says that it cannot put an old one back
NO_ROOM = re.compile(r"No space left|Errno 28|Errno 122|quota exceeded|Errno 2\].*/\.~", re.DOTALL)


class Reclaimed(RemoteError):
    """Colab took the runtime back: its disk and all that ran there are gone."""

    code = "missing"


class KernelGone(Exception):
    """The runtime is there, but has no such kernel."""


@dataclass(frozen=True)
class Ask:
    """A request to the runtime: a path with its leading slash, quoted already."""

    method: str
    path: str
    body: bytes | None = None
    range: str = ""
    read_s: float = 60.0


STATUS = Ask("GET", "/api/status", read_s=20.0)  # answered by every Jupyter server


class RuntimeLine:
    """One runtime, for files and kernels alike. May be shared by threads.

    `refresh` is `lambda: api.refresh(endpoint)`: asked when the token has expired or the runtime does not know us.
    Its methods and those of what is built on it raise Reclaimed, Unreachable (no answer: says nothing about the
    runtime), AuthError, RemoteError (code "full": the disk there is full).
    """

    def __init__(self, runtime: Runtime, refresh: Callable[[], Runtime | None]) -> None:
        self._runtime = runtime
        self._refresh = refresh
        self._renewing = threading.Lock()
        self._wire = Wire(PEER)

    @property
    def runtime(self) -> Runtime:
        """With the newest token."""
        return self._runtime

    def wait(self, timeout_s: float = 120) -> None:
        """Until its Jupyter server answers; Unreachable after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if self.once(STATUS).status == 200:
                    return
            except Reclaimed:
                raise
            except Unreachable:
                pass
            self.must_live()
            if time.monotonic() > deadline:
                raise Unreachable(f"{PEER} has not started to answer", "try again")
            time.sleep(0.5)

    def once(self, ask: Ask) -> Answer:
        """An answer of Jupyter's own. Unreachable: the request may have had its effect, or not."""
        for attempt in range(TOKENS):
            runtime = self._ready()
            answer = self._wire.once(_call(runtime, ask))
            if answer.status == 404 and ask is not STATUS:
                self.must_answer()
            if not _about_token(answer.status, attempt):
                return answer
            self._renew(runtime, answer)
        raise _not_accepted(answer)

    def ask(self, ask: Ask) -> Answer:
        """The answer to what may be asked any number of times."""
        for delay_s in DELAYS_S:
            try:
                answer = self.once(ask)
            except Unreachable:
                self.must_live()
                time.sleep(delay_s)
                continue
            if answer.status not in AGAIN:
                return answer
            self.must_live()
            time.sleep(wait_s(answer, delay_s))
        return self.once(ask)

    @contextmanager
    def stream(self, ask: Ask) -> Iterator[Stream]:
        """As `once`, but the body comes in blocks, and a 404 may be a missing runtime's: see `must_answer`."""
        for attempt in range(TOKENS):
            runtime = self._ready()
            with self._wire.stream(_call(runtime, ask)) as stream:
                if not _about_token(stream.status, attempt):
                    yield stream
                    return
            answer = Answer(stream.status, stream.headers, b"")
            self._renew(runtime, answer)
        raise _not_accepted(answer)

    def must_live(self) -> None:
        """Reclaimed when Colab no longer lists it; a fresh token is taken along."""
        with self._renewing:
            self._take(self._refresh())

    def must_answer(self) -> None:
        """For a 404, which a missing file and a missing runtime may both have given: Reclaimed for the latter."""
        try:
            status = self.once(STATUS).status
        except Unreachable:
            status = 0
        if status != 200:
            self.must_live()
            if status != 404:
                raise Unreachable(f"{PEER} does not answer now", "try again")

    def address(self, path: str) -> tuple[str, str, Runtime]:
        """For a WebSocket: its URL, its one header, and the runtime to name when that is refused."""
        runtime = self._ready()
        return "ws" + runtime.url.removeprefix("http") + path, f"{TOKEN_HEADER}: {runtime.token}", runtime

    def refused(self, runtime: Runtime, status: int) -> None:
        """A WebSocket was: with 401 a fresh token is got."""
        self._renew(runtime, Answer(status, {}, b""))

    def close(self) -> None:
        self._wire.close()

    def _ready(self) -> Runtime:
        """With a token that will do for the next request; a failure to renew it in time is none yet."""
        runtime = self._runtime
        if time.time() < runtime.renew_at:
            return runtime
        try:
            self._renew(runtime, None)
        except Reclaimed:
            raise
        except TargetError:
            if time.time() >= runtime.expires_at:
                raise
        return self._runtime

    def _renew(self, used: Runtime, answer: Answer | None) -> None:
        """Another token than the one that was used; AuthError when a fresh one is not accepted either."""
        with self._renewing:
            if self._runtime.token != used.token:
                return  # another thread was faster
            fresh = self._refresh()
            if answer is not None and fresh is not None and fresh.token == used.token:
                raise _not_accepted(answer)
            self._take(fresh)

    def _take(self, fresh: Runtime | None) -> None:
        if fresh is None:
            raise Reclaimed(
                "Colab took the runtime back", "`launcher resume` goes on from the newest checkpoint"
            )
        self._runtime = fresh


def good(answer: Answer, doing: str) -> Answer:
    """The answer, when Jupyter did what it was asked; else its own words as one line."""
    if 200 <= answer.status < 300:
        return answer
    words = said(answer)
    if answer.status == 507 or NO_ROOM.search(message(answer)):
        error = RemoteError(f"the disk of {PEER} is full ({doing})", "write less, or take another target")
        error.code = "full"
        raise error
    if answer.status == 429:
        raise CapacityError(f"{PEER} is asked too often ({doing})", "try again in some minutes")
    if answer.status in AGAIN:
        raise Unreachable(f"{PEER} does not answer now ({doing}: {words})", "try again")
    raise RemoteError(f"{PEER} refused: {doing}: {words}")


def _about_token(status: int, attempt: int) -> bool:
    """Jupyter itself says 403 too (a folder is no file): with a fresh token it is its own word."""
    return status == 401 or (status == 403 and attempt == 0)


def _not_accepted(answer: Answer) -> AuthError:
    return AuthError(f"{PEER} does not accept the token that Colab gave for it ({said(answer)})", "try again")


def _call(runtime: Runtime, ask: Ask) -> Call:
    call = Call(ask.method, runtime.url + ask.path, auth={TOKEN_HEADER: runtime.token}, body=ask.body)
    headers = {"Content-Type": "application/json"} if ask.body is not None else {}
    headers |= {"Range": ask.range} if ask.range else {}
    return replace(call, headers=headers, read_s=ask.read_s)
