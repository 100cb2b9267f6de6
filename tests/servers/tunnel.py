"""A server's Docker socket here, through the real ssh: for tests that ask its engine what happened."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator

from tests.servers import engine
from tests.servers.gpu_server import GPUServer
from tests.servers.programs import ProgramFailed, find


@contextlib.contextmanager
def forwarded_docker(server: GPUServer) -> Iterator[str]:
    """The path of a unix socket that leads to the server's engine."""
    ssh, *words = server.ssh_command()
    with tempfile.TemporaryDirectory(prefix="launcher-tunnel-") as folder:
        path = os.path.join(folder, "docker.sock")
        forward = [find(ssh) or ssh, "-nNT", "-oExitOnForwardFailure=yes", "-L", f"{path}:{engine.SOCKET}"]
        with subprocess.Popen([*forward, *words]) as process:
            try:
                _wait(process, path)
                yield path
            finally:
                process.terminate()


def _wait(process: subprocess.Popen[bytes], path: str) -> None:
    deadline = time.monotonic() + 20
    while not engine.answers(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ProgramFailed("the tunnel to the server's engine does not stand")
        time.sleep(0.05)
