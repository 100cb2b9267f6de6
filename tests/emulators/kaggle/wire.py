"""HTTP: reads requests, also those that come as to a proxy, and writes answers, streams, ranges and faults."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.kaggle.blobs import range_of
from tests.emulators.kaggle.outputs import byte_range, etag, modified, open_signed, stream
from tests.emulators.kaggle.problem import Problem
from tests.emulators.kaggle.routes import Call, Site, answer, known
from tests.emulators.kaggle.sessions import Session
from tests.emulators.kaggle.settings import Answer

RPC = re.compile(r"(?:/api)?/v1/([\w.]+)/(\w+)")
LOGS = re.compile(r"(?:/api)?/v1/kernels/logs/stream/([^/]+)/([^/]+)")
CHUNK_BYTES = 1 << 16
OURS = ("localhost", "127.0.0.1")


class Cut(Exception):
    """The connection is to be closed as it is."""


@dataclass
class Served:
    """What handlers share: the site, and what was asked of it: `(call, body)` in order."""

    site: Site
    url: str
    asked: list[tuple[str, Any]] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an event of a log is a small packet

    def __init__(self, served: Served, *args: Any) -> None:
        self._served, self._site = served, served.site
        self._left = 0  # bytes of this request's body that were not read
        super().__init__(*args)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_PUT(self) -> None:
        self._guarded(self._put)

    def log_message(self, *args: Any) -> None:
        pass

    def _guarded(self, handle: Any) -> None:
        self._left = int(self.headers.get("Content-Length") or 0)
        try:
            handle()
        except Problem as problem:
            self._json({"code": problem.status, "message": problem.message}, problem.status)
        except Cut:
            self._cut()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _post(self) -> None:
        base, path, _ = self._where()
        body = json.loads(self._body() or b"{}")
        if path == "/requests/GetUserSecretByLabelRequest":
            return self._json(self._secret(body))
        match = RPC.fullmatch(path)
        if match is None or not known(match[1], match[2]):
            raise Problem(404, f"no such method: {path}")
        self._served.asked.append((match[2], body))
        fault = self._fault(match[2])
        if match[2] == "GetKernelSessionLogsStream":
            return self._log(self._session(body), float(body.get("waitForLogsUrlSeconds") or 0))
        reply = answer(self._site, Call(match[2], body, base, self.headers.get("Authorization", "")))
        if fault is not None:
            raise Cut
        return self._json(reply)

    def _get(self) -> None:
        _, path, target = self._where()
        if path.startswith("/signed/"):
            return self._file(target)
        match = LOGS.fullmatch(path)
        if match is None:
            raise Problem(404, f"no such page: {path}")
        self._served.asked.append(("logs", path))
        self._fault("logs")
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
        body = {"userName": match[1], "kernelSlug": match[2], "versionLabel": query.get("versionLabel", "")}
        return self._log(self._session(body), 0)

    def _put(self) -> None:
        """An upload, in the way of Google's resumable uploads."""
        _, path, _ = self._where()
        self._served.asked.append(("upload", self.headers.get("Content-Range")))
        blob = self._site.blobs.of_key(path.rpartition("/")[2])
        fault = self._fault("upload")
        start, total = range_of(self.headers.get("Content-Range"), blob.size_bytes)
        if total != blob.size_bytes or (start or 0) > blob.arrived:
            raise Problem(400, "the range does not fit the upload")
        if start is not None:
            with open(blob.path, "r+b") as file:
                file.truncate(start)
                file.seek(start)
                for chunk in self._chunks(fault.after_bytes if fault else None):
                    file.write(chunk)
        if fault is not None:
            raise Cut
        if blob.complete:
            return self._json({})
        headers = {"Range": f"bytes=0-{blob.arrived - 1}"} if blob.arrived else {}
        return self._head(308, headers, 0)

    def _file(self, target: str) -> None:
        self._served.asked.append(("output", target))
        fault = self._fault("output")
        path = open_signed(target, self._site.kernels.sessions)
        status, start, length = byte_range(path, self.headers)
        headers = {"ETag": etag(path), "Last-Modified": modified(path), "Accept-Ranges": "bytes"}
        size = path.stat().st_size
        if status != 200:
            span = f"{start}-{start + length - 1}" if status == 206 else "*"
            headers["Content-Range"] = f"bytes {span}/{size}"
        self._head(status, headers, length)
        most = length if fault is None else min(length, fault.after_bytes or 0)
        with open(path, "rb") as file:
            file.seek(start)
            while most > 0 and (chunk := file.read(min(CHUNK_BYTES, most))):
                self.wfile.write(chunk)
                most -= len(chunk)
        if fault is not None:
            raise Cut

    def _session(self, body: dict[str, Any]) -> Session:
        authorization = self.headers.get("Authorization", "")
        account, _ = self._site.accounts.asking(authorization, self._site.faults.legacy_refused)
        if number := body.get("kernelSessionId"):
            for session in self._site.kernels.sessions:
                if session.id == number and session.account is account:
                    return session
            raise Problem(403, "Permission 'kernelSessions.get' was denied")
        return self._site.kernels.session(account, body)

    def _log(self, session: Session, wait_s: float) -> None:
        if session.over:
            data = session.log.array().encode()
            self._head(200, {"Content-Type": "application/octet-stream"}, len(data))
            self.wfile.write(data)
            return
        if session.state == "QUEUED" and wait_s:
            session.log.after(0, wait_s)
        self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}, None)
        for frames in stream(session, self._site.faults):
            if frames is None:
                raise Cut
            if frames:  # an empty chunk would be the end
                self.wfile.write(b"%x\r\n%s\r\n" % (len(frames), frames))
        self.wfile.write(b"0\r\n\r\n")

    def _secret(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the `kaggle_secrets` module in a session asks."""
        account = self._site.accounts.of_token(
            self.headers.get("X-Kaggle-Authorization", "")[len("Bearer ") :]
        )
        value = account.secrets.get(body.get("Label", "")) if account else None
        if value is None:
            return {"wasSuccessful": False, "errors": ["No user secrets exist for kernel id and label."]}
        return {"wasSuccessful": True, "result": {"Secret": value, "SecretType": "String"}}

    def _fault(self, call: str) -> Answer | None:
        """Raises the fault that is due now; returns the one that comes after the work."""
        fault = self._site.faults.take(call)
        if fault is None or not fault.status:
            return fault
        self._drain()
        data = json.dumps({"code": fault.status, "message": fault.message}).encode()
        headers = {"Content-Type": "application/json"}
        if fault.retry_after_s is not None:
            headers["Retry-After"] = f"{fault.retry_after_s:g}"
        self._head(fault.status, headers, len(data))
        self.wfile.write(data)
        raise BrokenPipeError

    def _where(self) -> tuple[str, str, str]:
        """Where the caller reaches us, the path, and the whole target; strangers' hosts are not served."""
        parts = urllib.parse.urlsplit(self.path)
        if parts.scheme and parts.hostname not in OURS:
            raise Problem(502, f"the emulator is no way to {parts.hostname}")
        base = f"{parts.scheme}://{parts.netloc}" if parts.scheme else self._served.url
        return base, parts.path, urllib.parse.urlunsplit(("", "", *parts[2:]))

    def _body(self) -> bytes:
        return b"".join(self._chunks(None))

    def _chunks(self, most: int | None) -> Any:
        while self._left > 0 and (most is None or most > 0):
            wanted = min(CHUNK_BYTES, self._left, most if most is not None else CHUNK_BYTES)
            data = self.rfile.read(wanted)
            if not data:
                raise Cut
            self._left -= len(data)
            most = most - len(data) if most is not None else None
            yield data

    def _drain(self) -> None:
        for _ in self._chunks(None):
            pass

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        self._drain()
        if self._site.settings.omit_defaults and status == 200:
            value = without_defaults(value)
        data = json.dumps(value).encode()
        self._head(status, {"Content-Type": "application/json"}, len(data))
        self.wfile.write(data)

    def _head(self, status: int, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


def without_defaults(value: Any) -> Any:
    """What proto3's JSON leaves out: zeros, empty texts and lists, each enum's first value."""
    if isinstance(value, list):
        return [without_defaults(one) for one in value]
    if not isinstance(value, dict):
        return value
    empty: list[Any] = ["", 0, [], {}, None, "QUEUED", "NOT_YET_PERSISTED"]
    return {key: without_defaults(one) for key, one in value.items() if one not in empty}
