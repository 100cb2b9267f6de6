"""Docker's Engine API over its Unix socket, with nothing but http.client."""

import contextlib
import http.client
import json
import os
import socket
from urllib.parse import quote as _quote

from launcher.agent.operation import Failure

TIMEOUT_S = 60.0
MAX_BODY = 16 << 20
BLOCK = 256 << 10


def docker(operation):
    """One request to the engine: JSON or a tar in, JSON or text out, or a stream of the answer's bytes."""
    args = operation.args
    body, headers = _body(operation)
    with Call(args.get("timeout") or TIMEOUT_S, args.get("socket")) as call:
        operation.on_cancel(call.abort)
        answer = call.ask(args["method"], args["path"], body, dict(headers, **args.get("headers") or {}))
        if args.get("stream") and answer.status < 400:
            _stream(operation, answer)
            return {"status": answer.status, "body": None}
        return {"status": answer.status, "body": value(answer)}


def launch_container(operation):
    """Create a container, attach to its stdin, start it, and hand it the line of secrets: in one go.

    A container of that name with all our labels is ours, from an attempt whose answer was lost: adopt it.
    """
    args = operation.args
    payload = operation.payload()
    status, body = request("POST", "/containers/create?name=" + quote(args["name"]), args["config"])
    adopted = status == 409
    if adopted:
        identity, state = _adopt(args)
        if state != "created":
            return {"id": identity, "adopted": True, "status": state}
    elif status == 201:
        identity = body["Id"]
    else:
        raise Failure("missing" if status == 404 else "docker", message(status, body))
    _start(operation, identity, payload)
    return {"id": identity, "adopted": adopted, "status": "running"}


def kill(name, number):
    """Send a signal to a container; 0 when it does not run."""
    status, body = request("POST", "/containers/%s/kill?signal=%d" % (quote(name), number))
    if status in (404, 409):
        return 0
    if status >= 400:
        raise Failure("docker", message(status, body))
    return 1


def last_words(name):
    """The end of a container's log; "" when it has none."""
    with Call(TIMEOUT_S) as call:
        path = "/containers/%s/logs?stdout=1&stderr=1&tail=20" % quote(name)
        answer = call.ask("GET", path, None, {})
        data = answer.read(MAX_BODY) if answer.status == 200 else b""
    said, at = b"", 0
    while at + 8 <= len(data):  # frames: stream, three zeros, length, bytes
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        said += data[at + 8 : at + 8 + size]
        at += 8 + size
    return said.decode("utf-8", "replace").strip()


def request(method, path, body=None, timeout_s=TIMEOUT_S):
    """(status, body) of one small request."""
    data = None if body is None else json.dumps(body).encode()
    with Call(timeout_s) as call:
        answer = call.ask(method, path, data, {"Content-Type": "application/json"})
        return answer.status, value(answer)


def quote(name):
    return _quote(str(name), safe="")


def message(status, body):
    """What the engine says is wrong."""
    text = body.get("message") if isinstance(body, dict) else body
    return "Docker answered %d: %s" % (status, text or "nothing")


def socket_path(given=None):
    """Where the engine listens: as asked, as DOCKER_HOST says, the usual place, or the user's own engine."""
    host = os.environ.get("DOCKER_HOST", "")
    if given or host.startswith("unix://"):
        return given or host[len("unix://") :]
    own = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), "docker.sock")
    usual = "/var/run/docker.sock"
    return own if not os.path.exists(usual) and os.path.exists(own) else usual


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout_s):
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Call:
    """One connection to the engine, whose faults are told as such."""

    def __init__(self, timeout_s, given=None):
        self._path = socket_path(given)
        self._connection = _Connection(self._path, timeout_s)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self._connection.close()
        if isinstance(error, (OSError, http.client.HTTPException)):
            raise Failure("docker", "Docker at %s: %s" % (self._path, error or kind.__name__)) from error

    def ask(self, method, path, body, headers):
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            headers = dict(headers, **{"Transfer-Encoding": "chunked"})
        self._connection.request(method, path, body=body, headers=headers, encode_chunked=chunked)
        return self._connection.getresponse()

    def attach(self, path):
        """The raw connection to a container's stdin."""
        self._connection.putrequest("POST", path)
        self._connection.putheader("Connection", "Upgrade")
        self._connection.putheader("Upgrade", "tcp")
        self._connection.putheader("Content-Length", "0")
        self._connection.endheaders()
        raw = self._connection.sock
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 1 << 16:
            piece = raw.recv(4096)
            if not piece:
                break
            head += piece
        status = head.split(None, 2)[1:2]
        if status not in ([b"101"], [b"200"]):
            raise Failure("docker", "cannot attach: %s" % head.decode("utf-8", "replace")[:500])
        return raw

    def abort(self):
        """From another thread: end a request that waits."""
        with contextlib.suppress(AttributeError, OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)


def _adopt(args):
    status, found = request("GET", "/containers/%s/json" % quote(args["name"]))
    if status != 200:
        raise Failure("docker", message(status, found))
    wanted = args["config"].get("Labels") or {}
    labels = found["Config"].get("Labels") or {}
    if not wanted or any(labels.get(name) != value for name, value in wanted.items()):
        raise Failure("exists", "a container named %s is there, and not ours" % args["name"])
    return found["Id"], found["State"]["Status"]


def _start(operation, identity, payload):
    """Attach before the start, so that not a byte of stdin is lost."""
    with Call(TIMEOUT_S) as call:
        raw = call.attach("/containers/%s/attach?stream=1&stdin=1" % identity)
        status, body = request("POST", "/containers/%s/start" % identity)
        if status not in (204, 304):
            raise Failure("docker", message(status, body))
        raw.sendall(payload)
        raw.shutdown(socket.SHUT_WR)
        kept = raw.dup()
    operation.linger(lambda: _await_end(kept))


def _await_end(raw):
    """The engine ends the connection once the container has all of stdin; an old one, when the container ends."""
    raw.settimeout(2.0)
    try:
        while raw.recv(4096):
            pass
    except OSError:
        pass
    finally:
        raw.close()


def _body(operation):
    given = operation.args.get("body")
    if given is not None:
        return json.dumps(given).encode(), {"Content-Type": "application/json"}
    pieces = operation.uploads()
    first = next(pieces, None)
    if first is None:
        return None, {}
    return _chain(first, pieces), {"Content-Type": "application/x-tar"}


def _chain(first, rest):
    yield first
    for piece in rest:
        yield piece


def _stream(operation, answer):
    while True:
        data = answer.read1(BLOCK)
        if not data:
            return
        operation.send(data)


def value(answer):
    """The body of an answer: JSON, else text."""
    data = answer.read(MAX_BODY)
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode("utf-8", "replace")
