"""A machine behind SSH as a host: one connection, on which everything else is a channel."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from launcher.errors import RemoteError
from launcher.hosts import archive, bootstrap
from launcher.hosts.forward import Forward, Piped
from launcher.hosts.hostkeys import Ask
from launcher.hosts.sshconfig import SSHAddress, resolve
from launcher.hosts.steward import Steward

if TYPE_CHECKING:
    import paramiko

    from launcher.hosts.sshchannel import SSHChannel

__all__ = ["SSHAddress", "SSHHost"]


class SSHHost:
    """`launcher.hosts.host.Host` over SSH. Connects on first use, and again after Unreachable."""

    far = True

    def __init__(self, address: SSHAddress, ask: Ask | None = None, name: str = "", root: str = "") -> None:
        self.address = address
        self.name = name or str(address)
        self._ask = ask
        self._root = root
        self._lock = threading.RLock()
        self._transport: paramiko.Transport | None = None
        self._steward: Steward | None = None

    def steward(self) -> Steward:
        with self._lock:
            if self._steward is not None and self._steward.alive:
                return self._steward
            self.close()  # half-open: whatever the old connection still carries is lost
            start = bootstrap.plan(self._root)
            channel = self._exec(start.command)
            bootstrap.begin(channel, start, self.name)
            self._steward = Steward(channel, self.name, channel.rtt_s)
            return self._steward

    def agent_path(self) -> str:
        return archive.agent_path()

    def channel(self, argv: Sequence[str]) -> SSHChannel:
        return self._exec(shlex.join(argv))

    def dial(self, path: str) -> Any:
        """Without a process there where the server allows it, else through `docker system dial-stdio`."""
        from launcher.hosts import sshchannel

        try:
            return sshchannel.open_unix(self.transport(), path, self.name)
        except RemoteError:
            session = self.transport().open_session(timeout=sshchannel.OPEN_S)
            session.exec_command(shlex.join(["docker", "-H", f"unix://{path}", "system", "dial-stdio"]))
            return session

    @contextlib.contextmanager
    def forward(
        self, local_port: int, remote_port: int, address: str = "127.0.0.1", relay: Sequence[str] = ()
    ) -> Iterator[int]:
        from launcher.hosts import sshchannel

        def dial() -> Any:
            try:
                return sshchannel.open_port(self.transport(), address, remote_port, self.name)
            except RemoteError:
                if not relay:
                    raise
                return Piped(self.steward(), relay)

        self.transport()  # a fault shows now, not at the first visitor
        with Forward(local_port, dial) as port:
            yield port

    def shell(self, argv: Sequence[str] = ()) -> int:
        from launcher.hosts import sshshell

        return sshshell.run(self.transport(), resolve(self.address), argv)

    def transport(self) -> paramiko.Transport:
        """The live connection; opened if there is none."""
        with self._lock:
            if self._transport is None or not self._transport.is_active():
                from launcher.hosts import sshtransport

                self._transport = sshtransport.open_transport(resolve(self.address), self._ask)
            return self._transport

    def close(self) -> None:
        with self._lock:
            steward, self._steward = self._steward, None
            transport, self._transport = self._transport, None
        if transport is not None:
            from launcher.hosts import sshtransport

            sshtransport.close(transport)  # first: it ends writers that a dead network holds up
        if steward is not None:
            steward.close()

    def _exec(self, command: str) -> SSHChannel:
        from launcher.hosts.sshchannel import SSHChannel

        return SSHChannel(self.transport(), command, self.name)
