"""A web server on loopback for downloads: ranges, cuts in the middle, redirects, and what was asked of it."""

from __future__ import annotations

import http.server
import re
import threading
from types import TracebackType


class Web:
    """`with Web() as web:`; `web.files` maps a path to bytes, or to (status, location)."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | tuple[int, str]] = {}
        self.cut_after: int | None = None  # bytes of an answer, then the connection breaks
        self.asked: list[tuple[str, str | None]] = []  # path and Range of each request
        self.sent_bytes = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append((self.path, self.headers.get("Range")))
                found = web.files.get(self.path)
                if found is None:
                    self.send_error(404)
                elif isinstance(found, tuple):
                    self.send_response(found[0])
                    self.send_header("Location", found[1])
                    self.end_headers()
                else:
                    self._send(found)

            def _send(self, data: bytes) -> None:
                asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
                start = int(asked[1]) if asked else 0
                if asked and start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206 if asked else 200)
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                rest = data[start:]
                cut = rest if web.cut_after is None else rest[: web.cut_after]
                self.wfile.write(cut)
                web.sent_bytes += len(cut)
                self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        return Handler
