"""As much of HTTP/1.1 as the emulator speaks itself: one request a connection."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import urllib.parse
from dataclasses import dataclass, field

HEAD_BYTES = 64 << 10
XSSI_PREFIX = ")]}'\n"


@dataclass(frozen=True)
class Request:
    """`lines` are the header lines as they came, for passing them on; `headers` have lower-case names."""

    method: str
    target: str
    lines: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return urllib.parse.unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2]))


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    kind: str = "application/json"

    def encoded(self) -> bytes:
        head = (
            f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}\r\nContent-Type: {self.kind}\r\n"
        )
        return f"{head}Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n".encode() + self.body


def guarded_json(value: object) -> Answer:
    """JSON behind the prefix that keeps other sites from running it as a script."""
    return Answer(200, (XSSI_PREFIX + json.dumps(value)).encode())


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request's head; None when the other side has closed or does not speak HTTP."""
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return None
    first, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return None
    pairs = (line.partition(":") for line in lines)
    return Request(
        words[0], words[1], tuple(lines), {name.lower(): value.strip() for name, _, value in pairs}
    )


async def drain(request: Request, reader: asyncio.StreamReader) -> None:
    """Take a body that nobody wants: who is still sending would see a reset instead of the answer."""
    left = int(request.headers.get("content-length", "0"))
    while left > 0 and (data := await reader.read(min(left, 1 << 20))):
        left -= len(data)


async def send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    with contextlib.suppress(OSError):
        writer.write(answer.encoded())
        await writer.drain()


async def get_over(socket_path: str, target: str) -> bytes | None:
    """The body of a GET over a unix socket; None when it is not answered with 200."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket_path)
    except OSError:
        return None
    try:
        writer.write(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(-1), 5)).partition(b"\r\n\r\n")
        return body if b" 200 " in head.partition(b"\r\n")[0] else None
    except (OSError, TimeoutError):
        return None
    finally:
        writer.close()
