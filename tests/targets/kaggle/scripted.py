"""A server that answers as it was told, byte by byte: for what no honest Kaggle would send."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.targets.kaggle.api import KaggleAPI
from launcher.targets.kaggle.auth import Credentials, LegacyKey
from launcher.targets.kaggle.wire import Patience

KEY = "a-legacy-key-0123456789"


@dataclass(frozen=True)
class Reply:
    """An answer. Without a length in `headers` the body ends when the connection does."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def of(value: Any, status: int = 200) -> Reply:
    """JSON, with its length."""
    data = json.dumps(value).encode()
    return Reply(data, status, {"Content-Type": "application/json", "Content-Length": str(len(data))})


def sse(*pieces: bytes, **headers: str) -> Reply:
    """A log stream that is cut after its last piece."""
    return Reply(pieces, 200, {"Content-Type": "text/event-stream", **headers})


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.server.answer(self)  # type: ignore[attr-defined]

    do_GET = do_PUT = do_POST

    def log_message(self, *args: Any) -> None:
        pass


class Scripted(http.server.ThreadingHTTPServer):
    """`with Scripted(GetKernel=[reply, …]) as server:` by the last part of the path; the last reply stays."""

    daemon_threads = True

    def __init__(self, **replies: Sequence[Reply]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.replies = {name: list(several) for name, several in replies.items()}
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.sent_bytes = 0
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Scripted:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def api(self, **patience: Any) -> KaggleAPI:
        """Our client; its waits are written down and take no time."""
        found = Credentials((LegacyKey("alice", KEY, "kaggle.json"),))
        return KaggleAPI(self.url, found, Patience(**{"sleep": self.waits.append, **patience}))

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are the point

    def answer(self, handler: Handler) -> None:
        name = handler.path.partition("?")[0].rpartition("/")[2]
        length = int(handler.headers.get("Content-Length") or 0)
        body = b""
        while length > 0 and (data := handler.rfile.read(min(length, 1 << 16))):
            length -= len(data)
            body += data if len(body) < 1 << 20 else b""
        with self._lock:
            self.asked.append((name, dict(handler.headers), body))
            several = self.replies[name]
            reply = several.pop(0) if len(several) > 1 else several[0]
        handler.send_response(reply.status)
        for key, value in reply.headers.items():
            handler.send_header(key, value)
        handler.end_headers()
        for piece in [reply.body] if isinstance(reply.body, bytes) else reply.body:
            handler.wfile.write(piece)
            self.sent_bytes += len(piece)
