"""Starting the steward over a remote shell: one command, whatever that shell is and says first."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Protocol

from launcher.errors import RemoteError, Unreachable
from launcher.hosts.archive import agent_archive
from launcher.hosts.steward import Channel

# Runs on any Python 3, so that an old one can say that it is too old. Only from 3.8 on does it go further.
STUB = """
import os, sys, hashlib
digest, size, mark, root = sys.argv[1:5]
def say(words):
    os.write(1, ("\\n" + mark + " " + words + "\\n").encode())
if sys.version_info < (3, 8):
    say("old %d.%d.%d" % sys.version_info[:3])
    sys.exit(1)
root = bytes.fromhex(root[1:]).decode() or os.path.expanduser("~/.launcher")
folder = os.path.join(root, "agent")
path = os.path.join(folder, digest + ".pyz")
def good(data):
    return hashlib.sha256(data).hexdigest() == digest
def store(data):
    os.makedirs(folder, 0o700, exist_ok=True)
    temporary = path + ".%d.tmp" % os.getpid()
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fd = os.open(folder, 0)
    os.fsync(fd)
    os.close(fd)
try:
    with open(path, "rb") as file:
        data = file.read()
except OSError:
    data = b""
if not good(data):
    say("need")
    data = b""
    while len(data) < int(size):
        piece = os.read(0, int(size) - len(data))
        if not piece:
            sys.exit(1)
        data += piece
    try:
        store(data)
    except OSError as error:
        say("disk " + str(error))
        sys.exit(1)
if not good(data):
    say("bad")
    sys.exit(1)
say("ready")
sys.path.insert(0, path)
from launcher.agent.serve import main
main(["--root", root])
"""
MAX_NOISE = 1 << 20
START_S = 30.0


class Restorable(Channel, Protocol):
    """A channel to which bytes read too far can be given back."""

    def give_back(self, data: bytes) -> None: ...


@dataclass(frozen=True)
class Start:
    """How a steward is started: the command to run there and the mark of its own lines."""

    command: str
    mark: str


def plan(root: str = "") -> Start:
    """One simple command of letters, digits and one pair of quotes: the same to sh, csh and fish."""
    archive, digest = agent_archive()
    mark = "launcher-" + secrets.token_hex(8)
    program = f"exec(bytes.fromhex('{STUB.encode().hex()}').decode())"
    words = f"{digest} {len(archive)} {mark} r{root.encode().hex()}"
    return Start(f'python3 -I -B -c "{program}" {words}', mark)


def begin(channel: Restorable, start: Start, name: str) -> None:
    """See the steward through its start: past the shell's chatter, with the archive if it is asked for."""
    lines = _Lines(channel, start.mark, name)
    answer = lines.next()
    if answer == "need":
        channel.write(agent_archive()[0])
        answer = lines.next()
    if answer == "ready":
        channel.give_back(lines.rest)
        return
    channel.close()
    raise _trouble(answer, name)


def _trouble(answer: str, name: str) -> RemoteError:
    kind, _, detail = answer.partition(" ")
    if kind == "old":
        return RemoteError(f"{name} has Python {detail:.20}", "install Python 3.8 or newer there as python3")
    if kind == "disk":
        return RemoteError(f"{name}: cannot store the agent: {detail:.300}", "free some disk there")
    return RemoteError(f"{name}: the agent did not arrive whole", "try again")


class _Lines:
    """The stub's own lines out of all that a login shell prints."""

    def __init__(self, channel: Channel, mark: str, name: str) -> None:
        self._channel = channel
        self._mark = b"\n" + mark.encode() + b" "
        self._name = name
        self._deadline = time.monotonic() + START_S
        self.rest = b""

    def next(self) -> str:
        while True:
            _, found, after = self.rest.partition(self._mark)
            line, end, rest = after.partition(b"\n")
            if found and end:
                self.rest = rest
                return line.decode("utf-8", "replace")
            self._more()

    def _more(self) -> None:
        if len(self.rest) > MAX_NOISE:
            raise RemoteError(
                f"{self._name}: its shell prints without end", "look at its .bashrc or .profile"
            )
        try:
            data = self._channel.read(1 << 16)
        except TimeoutError:
            data = b" "
        if time.monotonic() > self._deadline:
            raise Unreachable(f"{self._name}: no Python answered in {START_S:.0f} s")
        if not data:
            raise _no_python(self._name, self._channel.last_words())
        self.rest += data


def _no_python(name: str, words: str) -> RemoteError:
    if "not found" in words or "Unknown command" in words or "No such file" in words:
        return RemoteError(
            f"{name} has no python3 ({words:.200})",
            "install Python 3.8 or newer there, on the PATH that plain ssh commands have",
        )
    return RemoteError(f"{name}: the steward did not start: {words[-300:] or 'no word why'}")
