"""What a machine can do for us: the protocol that LocalHost and SSHHost share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from launcher.hosts.steward import Channel, Steward


class Host(Protocol):
    """A machine that we can reach."""

    name: str
    far: bool  # over a network, where compressing pays

    def steward(self) -> Steward:
        """The server there; connects on first use, and again after it was lost."""

    def agent_path(self) -> str:
        """Where the agent's archive lies there, relative to the steward's root."""

    def channel(self, argv: Sequence[str]) -> Channel:
        """The standard streams of a process there."""

    def dial(self, path: str) -> Any:
        """A connection to a Unix socket there, good enough for http.client (makefile, sendall, recv, …)."""

    def forward(
        self, local_port: int, remote_port: int, address: str = "127.0.0.1", relay: Sequence[str] = ()
    ) -> AbstractContextManager[int]:
        """A port of this machine (loopback only; 0: any) that leads to one there, while the context lasts.

        `relay` are the words of a process there that is asked for each connection refused at that address.
        """

    def shell(self, argv: Sequence[str] = ()) -> int:
        """This terminal, there: a login shell or `argv`; its exit code."""

    def close(self) -> None: ...
