"""A server that answers as it is told, true to no protocol, and remembers what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from launcher.targets.colab.runtime import RuntimeLine
from launcher.targets.colab.told import Runtime


@dataclass(frozen=True)
class Reply:
    """`body` may be an endless iterator; then no Content-Length is sent."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Seen], Reply]


class Hostile:
    """`server.answers = [Reply(…), …]`: one after the other, the last one again and again; or a function."""

    def __init__(self) -> None:
        self.answers: list[Reply] | Answering = [Reply(404)]
        self.seen: list[Seen] = []
        self.sent_bytes = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hostile:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody answers any more."""
        self._server.shutdown()
        self._server.server_close()

    def line(self) -> RuntimeLine:
        """As if this were a runtime."""
        now = time.time()
        runtime = Runtime("hostile", "", self.url, "proxy-token", now + 3600, renew_at=now + 3600)
        return RuntimeLine(runtime, lambda: runtime)

    def next_reply(self, seen: Seen) -> Reply:
        self.seen.append(seen)
        if callable(self.answers):
            return self.answers(seen)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _handler(hostile: Hostile) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = hostile.next_reply(Seen(self.command, self.path, headers, body))
            self.send_response(reply.status)
            sized = isinstance(reply.body, bytes)
            standing = {"Content-Length": str(len(reply.body))} if isinstance(reply.body, bytes) else {}
            for name, value in {**standing, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for block in [reply.body] if sized else reply.body:
                    self.wfile.write(block)  # type: ignore[arg-type]
                    hostile.sent_bytes += len(block)  # type: ignore[arg-type]
            except OSError:
                pass  # the visitor has had enough

        do_GET = do_POST = do_PUT = do_DELETE = respond

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
