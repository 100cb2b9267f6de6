"""Makes sure that a Docker Engine answers on this machine, and stops it at the end if it was started here."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import IO

from tests.servers.programs import CACHE_FOLDER, ProgramFailed, find, need, output

SOCKET = "/var/run/docker.sock"
START_TIMEOUT_S = 60


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The path of an engine's socket; an engine that was already there is left as it was."""
    with _one_at_a_time():
        process = None if answers() else _start()
    try:
        yield SOCKET
    finally:
        if process is not None:
            _stop(process)


def answers(path: str = SOCKET) -> bool:
    """Whether an engine answers behind this unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    try:
        connection.sock.connect(path)
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    os.makedirs(CACHE_FOLDER, exist_ok=True)
    with open(os.path.join(CACHE_FOLDER, "engine.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start() -> subprocess.Popen[bytes]:
    need(dockerd="docker.io", iptables="iptables", ip="iproute2")
    _bridge()
    log_path = os.path.join(CACHE_FOLDER, "dockerd.log")
    with open(log_path, "ab") as log:
        process = _dockerd(log)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            with open(log_path, errors="replace") as file:
                raise ProgramFailed(f"dockerd does not answer: {file.read()[-2000:]}")
        time.sleep(0.1)
    return process


def _dockerd(log: IO[bytes]) -> subprocess.Popen[bytes]:
    program = find("dockerd")
    assert program is not None
    pidfile = os.path.join(CACHE_FOLDER, "dockerd.pid")
    # an own session: Ctrl-C at the tests must not take the engine away before the containers are removed
    return subprocess.Popen(
        [program, "--pidfile", pidfile],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _bridge() -> None:
    """Where dockerd may not create its bridge by itself, it takes one that is there."""
    if os.path.exists("/sys/class/net/docker0"):
        return
    with contextlib.suppress(ProgramFailed):
        output(["ip", "link", "add", "docker0", "type", "bridge"])
        output(["ip", "addr", "add", "172.17.0.1/16", "dev", "docker0"])
        output(["ip", "link", "set", "docker0", "up"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
