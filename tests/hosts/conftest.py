"""A client with an empty home folder, and real servers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.hosts.ssh import SSHAddress, SSHHost
from tests.servers.sshd import SSHD


@pytest.fixture(autouse=True)
def client_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of who runs the tests: no keys, no known hosts, no ssh-agent."""
    home = tmp_path / "client"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture(scope="session")
def sshd() -> Iterator[SSHD]:
    """One server for all tests that leave it as they found it."""
    with SSHD() as server:
        yield server


@pytest.fixture
def reach() -> Iterator[Callable[..., SSHHost]]:
    """`reach(server, **address)`: a host whose key is pinned, unless the address says otherwise."""
    hosts: list[SSHHost] = []

    def reach(server: SSHD, ask: Callable[[str], bool] | None = None, **address: object) -> SSHHost:
        known = {"user": server.user, "port": server.port, "key": str(server.key_path)}
        pinned = {} if "host_key" in address else {"host_key": server.fingerprint()}
        hosts.append(SSHHost(SSHAddress(**{"host": server.host, **known, **pinned, **address}), ask))
        return hosts[-1]

    yield reach
    for host in hosts:
        host.close()
