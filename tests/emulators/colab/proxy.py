"""The proxy before a runtime: asks who comes, passes everything else on as it is, and breaks as told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time

from tests.emulators.colab.faults import Faults
from tests.emulators.colab.wire import HEAD_BYTES, Answer, Request, drain, read_request, send

TOKEN_HEADER = "x-colab-runtime-proxy-token"
TOKEN_PARAMETER = "colab-runtime-proxy-token"
BLOCK = 64 << 10


class Proxy:
    """Listens on a port of its own, and goes on listening when the runtime is gone."""

    def __init__(self, faults: Faults, token_s: float) -> None:
        self.faults = faults
        self.port = 0
        self.asked: list[str] = []
        self._token_s = token_s
        self._tokens: dict[str, float] = {}
        self._socket: str | None = None
        self._opens_at = 0.0
        self._gone = False
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    def open(self, socket_path: str) -> None:
        """From now on there is a runtime behind it."""
        self._socket = socket_path
        self._opens_at = time.monotonic() + self.faults.start_delay_s

    def info(self) -> dict[str, object]:
        """`runtimeProxyInfo`, each time with a fresh token; older ones stay good until they expire."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = time.monotonic() + self._token_s
        url = f"http://127.0.0.1:{self.port}"
        return {"token": token, "tokenExpiresInSeconds": max(1, int(self._token_s)), "url": url}

    def expire_tokens(self) -> None:
        self._tokens.clear()

    def vanish(self) -> None:
        """The runtime is gone: open connections break, later ones are told."""
        self._gone = True
        for link in self._links:
            link.cancel()

    async def close(self) -> None:
        self.vanish()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.CancelledError, OSError):
            writer.transport.abort()
        finally:
            writer.close()
            self._links.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if request is None:
            return
        problem = self._problem(request)
        self.asked.append(f"{request.method} {request.path} {problem.status if problem else 'passed'}")
        if problem is not None:
            await drain(request, reader)
            await send(writer, problem)
            return
        assert self._socket is not None
        far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        try:
            far_writer.write(_passed_on(request))
            link = _Link(self)
            jobs = [
                asyncio.ensure_future(link.carry(reader, far_writer, up=True)),
                asyncio.ensure_future(link.carry(far_reader, writer, up=False)),
            ]
            await link.watch(jobs)
        finally:
            far_writer.close()

    def _problem(self, request: Request) -> Answer | None:
        if self._gone:
            return _error(self.faults.gone_status, "no such runtime")
        token = request.headers.get(TOKEN_HEADER) or request.query.get(TOKEN_PARAMETER, "")
        if self._tokens.get(token, 0.0) <= time.monotonic():
            return _error(401, "proxy token missing, wrong or expired")
        if self._socket is None or time.monotonic() < self._opens_at:
            return _error(503, "the runtime is starting")
        return None

    def sent_up(self, size: int) -> None:
        """Count what visitors send, for the token that expires in the middle of it."""
        if self.faults.expire_after_bytes is not None:
            self.faults.expire_after_bytes -= size
            if self.faults.expire_after_bytes <= 0:
                self.faults.expire_after_bytes = None
                self.expire_tokens()


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._passed = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        """One way, until its end; an end of the visitor's sending is none of the answer."""
        while data := await reader.read(BLOCK):
            self._passed += len(data)
            limit = self._proxy.faults.cut_after_bytes
            if limit is not None and self._passed >= limit:
                raise ConnectionResetError
            if up:
                self._proxy.sent_up(len(data))
            writer.write(data)
            await writer.drain()
        if up:
            raise ConnectionResetError

    async def watch(self, jobs: list[asyncio.Future[None]]) -> None:
        try:
            await asyncio.wait(
                jobs, timeout=self._proxy.faults.cut_after_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not jobs[1].done() or jobs[1].exception():
                raise ConnectionResetError
        finally:
            for job in jobs:
                job.cancel()
            with contextlib.suppress(Exception):
                await asyncio.gather(*jobs, return_exceptions=True)


def _passed_on(request: Request) -> bytes:
    """The request as it came, but for one: the connection ends with the answer, unless it becomes a WebSocket."""
    lines = list(request.lines)
    if "upgrade" not in request.headers:
        lines = [line for line in lines if not line.lower().startswith("connection:")]
        lines.append("Connection: close")
    return "\r\n".join([f"{request.method} {request.target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def _error(status: int, message: str) -> Answer:
    return Answer(status, json.dumps({"message": message}).encode())
