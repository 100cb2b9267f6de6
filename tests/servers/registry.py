"""A real image registry on a loopback port, for pulls."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator

from tests.servers.gpu_server import free_port
from tests.servers.programs import ProgramFailed, find, need

CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The registry's `host:port`; engines take loopback without TLS."""
    need(**{"docker-registry": "docker-registry"})
    with tempfile.TemporaryDirectory(prefix="launcher-registry-") as folder:
        port = free_port()
        path = os.path.join(folder, "config.yml")
        with open(path, "w") as file:
            file.write(CONFIG.format(folder=folder, port=port))
        program = find("docker-registry")
        assert program is not None
        with subprocess.Popen([program, "serve", path], stderr=subprocess.DEVNULL) as process:
            try:
                _wait(port)
                yield f"127.0.0.1:{port}"
            finally:
                process.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/")
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                return
        time.sleep(0.1)
    raise ProgramFailed("the registry does not answer")
