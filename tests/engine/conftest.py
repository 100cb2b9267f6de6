"""Hosts and engines for the tests of images and containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from launcher.hosts.ssh import SSHAddress, SSHHost
from tests.servers.gpu_server import GPUServer

Reach = Callable[[GPUServer], SSHHost]


@pytest.fixture
def reach() -> Iterator[Reach]:
    """`reach(server)`: launcher's own SSH connection to a server."""
    hosts: list[SSHHost] = []

    def connect(server: GPUServer) -> SSHHost:
        address = SSHAddress(
            user=server.user,
            host=server.host,
            port=server.port,
            key=server.key_path,
            host_key=server.fingerprint,
        )
        hosts.append(SSHHost(address, None))
        return hosts[-1]

    yield connect
    for host in hosts:
        host.close()
