"""exec, ssh and forward reach a live job behind every door."""

from __future__ import annotations

import concurrent.futures
import hashlib
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.cli.terminal import Terminal
from tests.servers.gpu_server import free_port
from tests.targets.conftest import Door

SERVE = """
import hashlib, http.server, sys
port = int(sys.argv[1])

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = hashlib.sha256(self.path.encode()).digest() * 50_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print(sys.prefix, flush=True)
http.server.ThreadingHTTPServer((sys.argv[2], port), Handler).serve_forever()
"""


def live(door: Door, address: str = "127.0.0.1") -> tuple[int, str]:
    """A job that serves HTTP on a port: (the port, its sys.prefix)."""
    port = free_port()
    job = door.laptop.job("serves", SERVE, run=f"python train.py {port} {address}")
    door.laptop.ok("run", str(job), "--on", door.target, "-d")
    prefix = door.laptop.wait_for(lambda: door.laptop.ok("logs", "last").out, "the first line")
    return port, prefix.strip()


@pytest.fixture
def forwarded(door: Door) -> Iterator[Any]:
    """`forwarded(port)`: the URL here that leads to that port of the live job."""
    started = []

    def forward(port: int) -> str:
        here = free_port()
        process = door.laptop.start("forward", "last", f"{here}:{port}")
        started.append(process)
        assert process.stderr is not None
        assert f"http://127.0.0.1:{here}" in process.stderr.readline().decode()
        return f"http://127.0.0.1:{here}"

    yield forward
    for process in started:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, process.stderr and process.stderr.read()


def expected(path: str) -> bytes:
    return hashlib.sha256(path.encode()).digest() * 50_000


def get(url: str, path: str) -> bytes:
    with urllib.request.urlopen(url + path, timeout=20) as answer:
        body: bytes = answer.read()
    return body


def test_a_command_runs_in_the_jobs_environment_and_folder(door: Door) -> None:
    _, prefix = live(door)

    done = door.laptop.launcher(
        "exec",
        "last",
        "--",
        "sh",
        "-c",
        "ls; python -c 'import sys; print(sys.prefix)'; echo bad >&2; exit 7",
    )

    assert (done.code, done.out, done.err) == (7, f"train.py\n{prefix}\n", "bad\n")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_of_the_job_is_reached_wherever_it_listens(door: Door, forwarded: Any, address: str) -> None:
    port, _ = live(door, address)
    url = forwarded(port)

    paths = [f"/{number}" for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda path: get(url, path), paths))

    assert bodies == [expected(path) for path in paths]


def test_a_port_where_nobody_listens_is_a_closed_connection(door: Door, forwarded: Any) -> None:
    live(door)
    url = forwarded(1)

    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 20) as visitor:
        visitor.settimeout(20)
        assert visitor.recv(1) == b""


def test_a_terminal_opens_where_the_job_runs(door: Door) -> None:
    _, prefix = live(door)
    person = cast(Any, SimpleNamespace(folder=door.laptop.work, environ=door.laptop.env))

    terminal = Terminal([sys.executable, "-m", "launcher", "ssh", "last"], person)
    terminal.type(
        "test -t 0 && test -e train.py && python -c 'import sys; print(\"in\", sys.prefix)'; exit 3\n"
    )

    assert terminal.end() == 3, terminal.said
    assert f"in {prefix}" in terminal.said
