"""HTTP: reads requests, lets faults happen, writes answers."""

from __future__ import annotations

import http.server
import json
import math
import socket
import struct
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

from tests.emulators.verda import actions, routes
from tests.emulators.verda.accounts import Accounts, Credential
from tests.emulators.verda.limits import Asked, Limits
from tests.emulators.verda.problem import Problem, code_of
from tests.emulators.verda.routes import Reply
from tests.emulators.verda.settings import Answer
from tests.emulators.verda.world import World

PREFIX = "/v1"
LOST = 0  # the status of an answer that never comes
PAGE_OF_A_PROXY = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body><center><h1>{0}</h1></center></body>\r\n</html>\r\n"
)


@dataclass(frozen=True)
class Served:
    """What handlers share."""

    world: World
    accounts: Accounts
    limits: Limits


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet an answer

    def __init__(self, served: Served, *args: Any) -> None:
        self._served = served
        super().__init__(*args)

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = parts.path[len(PREFIX) :] if parts.path.startswith(PREFIX + "/") else ""
        try:
            body = json.loads(data or b"{}")
        except ValueError:
            body = data.decode(errors="replace")
        reply = self._replied(path, parts.query, body)
        asked = Asked(self.command, path, parts.query, body, self._served.limits.clock(), reply.status)
        self._served.limits.note(asked)
        try:
            if reply.status == LOST:
                raise BrokenPipeError
            self._write(reply)
        except ConnectionError:
            self._reset()

    def _replied(self, path: str, query: str, body: Any) -> Reply:
        """The answer, or the fault that comes in its place."""
        fault = self._served.world.faults.take(self.command, path)
        reply = Reply(LOST)
        if fault is None or fault.works:
            for _ in range(2 if fault and fault.twice else 1):
                reply = self._worked(path, query, body)
        if fault is None:
            return reply
        time.sleep(fault.late_wall_s)
        if fault.lost:
            return Reply(LOST)
        return _faulty(fault, body) if fault.status else reply

    def _worked(self, path: str, query: str, body: Any) -> Reply:
        headers: dict[str, str] = {}
        try:
            if not isinstance(body, dict):
                raise Problem(400, "Unexpected token in JSON")
            credential = None if routes.is_public(path) else self._asking()
            if credential is not None:
                headers = self._limited(path)
            reply = self._answer(path, query, body, credential)
        except Problem as problem:
            more = getattr(problem, "headers", {})
            return Reply(problem.status, problem.body, {**headers, **more})
        return Reply(reply.status, reply.body, {**headers, **reply.headers})

    def _asking(self) -> Credential:
        return self._served.accounts.asking(self.headers.get("Authorization", ""))

    def _answer(self, path: str, query: str, body: Any, credential: Credential | None) -> Reply:
        if (self.command, path) == ("POST", "/oauth2/token"):
            return routes.token(self._served.accounts, body)
        world = self._served.world
        call = routes.call_of(world, urllib.parse.parse_qsl(query), body, credential)
        return routes.answer(world, self.command, path, call)

    def _limited(self, path: str) -> dict[str, str]:
        headers, wait_s = self._served.limits.enter(self.command, path)
        if wait_s and self._served.world.settings.limits_rate:
            problem = Problem(429, "Too many requests")
            problem.headers = {**headers, "Retry-After": str(math.ceil(wait_s))}  # type: ignore[attr-defined]
            raise problem
        return headers

    def _write(self, reply: Reply) -> None:
        data, kind = _bytes(reply)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _reset(self) -> None:
        """Away, as when a machine between the two has died."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _faulty(fault: Answer, body: Any) -> Reply:
    headers = {"Retry-After": f"{fault.retry_after_s:g}"} if fault.retry_after_s is not None else {}
    if fault.html:
        return Reply(fault.status, PAGE_OF_A_PROXY.format(f"{fault.status} {fault.message}"), headers)
    if fault.body is not None:
        return Reply(fault.status, fault.body, headers)
    if fault.status == 207:
        return Reply(207, actions.refused(body), headers)
    return Reply(fault.status, {"code": code_of(fault.status), "message": fault.message}, headers)


def _bytes(reply: Reply) -> tuple[bytes, str]:
    if reply.body is None:
        return b"", "application/json; charset=utf-8"
    if isinstance(reply.body, bytes):
        return reply.body, "application/json; charset=utf-8"
    if isinstance(reply.body, str):
        return reply.body.encode(), "text/html; charset=utf-8"
    return json.dumps(reply.body).encode(), "application/json; charset=utf-8"
