"""A terminal on a machine behind SSH: the system's `ssh` where there is one, else a pty of our own."""

from __future__ import annotations

import base64
import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launcher.hosts.hostkeys import known_name
from launcher.hosts.lean import paramiko
from launcher.hosts.sshconfig import Way

BLOCK = 32 << 10


def run(transport: paramiko.Transport, way: Way, argv: Sequence[str]) -> int:
    """The exit code of a login shell, or of `argv`, on this terminal; the host key was found good."""
    program = shutil.which("ssh")
    if program is None:
        return _own_terminal(transport, argv)
    key = transport.get_remote_server_key()
    with tempfile.TemporaryDirectory(prefix="launcher-ssh-") as folder:
        known = Path(folder) / "known_hosts"
        name = way.known_as or known_name(way.host, way.port)
        known.write_text(f"{name} {key.get_name()} {base64.b64encode(key.asbytes()).decode()}\n")
        return subprocess.call([program, *options(way, known), way.host, *_command(argv)])


def options(way: Way, known: Path) -> list[str]:
    """What `ssh` must be told so that it does as we did."""
    words = ["-t", "-p", str(way.port), "-l", way.user]
    words += ["-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null"]
    words += ["-o", "StrictHostKeyChecking=yes"]
    if way.known_as:
        words += ["-o", f"HostKeyAlias={way.known_as}"]
    if way.explicit:
        words += [word for key in way.keys for word in ("-i", str(key))]
    if way.only_keys:
        words += ["-o", "IdentitiesOnly=yes"]
    if way.command:
        words += ["-o", f"ProxyCommand={way.command}"]
    elif way.jumps:
        words += ["-J", ",".join(map(str, way.jumps))]
    return [*words, "--"]


def _command(argv: Sequence[str]) -> list[str]:
    return [shlex.join(argv)] if argv else []


def _own_terminal(transport: paramiko.Transport, argv: Sequence[str]) -> int:
    channel = transport.open_session()
    size = shutil.get_terminal_size()
    channel.get_pty("xterm-256color", size.columns, size.lines)
    if argv:
        channel.exec_command(shlex.join(argv))
    else:
        channel.invoke_shell()
    with _raw_terminal():
        _join(channel)
    return channel.recv_exit_status()


def _join(channel: paramiko.Channel) -> None:
    """Keys there, screen here, until the other side ends."""
    sources = [channel, sys.stdin]
    while True:
        ready = select.select(sources, [], [])[0]
        if channel in ready:
            data = channel.recv(BLOCK)
            if not data:
                return
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        if sys.stdin in ready:
            keys = os.read(sys.stdin.fileno(), BLOCK)
            if keys:
                channel.sendall(keys)
            else:
                channel.shutdown_write()
                sources.remove(sys.stdin)


class _raw_terminal:
    """Every key goes there, Ctrl-C too, until the context ends."""

    def __enter__(self) -> None:
        import termios
        import tty

        self._old = None
        if sys.stdin.isatty():
            self._old = termios.tcgetattr(sys.stdin)
            tty.setraw(sys.stdin)

    def __exit__(self, *_: object) -> None:
        import termios

        if self._old is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._old)
