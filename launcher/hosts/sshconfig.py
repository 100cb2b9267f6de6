"""Where an SSH address leads and who we are there: the address, ~/.ssh/config, OpenSSH's defaults."""

from __future__ import annotations

import getpass
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import SpecError

CONFIG = Path("~/.ssh/config")
KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
MAX_INCLUDES = 16


@dataclass(frozen=True)
class SSHAddress:
    """What a target says: user@host:port, perhaps a key file and the host key's fingerprint."""

    host: str
    user: str | None = None
    port: int | None = None
    key: str | None = None
    host_key: str | None = None
    only_key: bool = False  # offer `key` and no other

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class Way:
    """All that a connection needs to know, resolved."""

    host: str
    port: int
    user: str
    keys: Sequence[Path]
    explicit: bool  # keys were asked for; the default ones are not tried then
    only_keys: bool
    host_key: str | None
    known_as: str | None  # HostKeyAlias
    known_hosts: Sequence[Path]
    jumps: Sequence[SSHAddress] = field(default_factory=tuple)
    command: str | None = None  # ProxyCommand


def resolve(address: SSHAddress, config: Path = CONFIG) -> Way:
    options = lookup(address, config.expanduser())
    keys = [address.key] if address.key else list(options.get("identityfile", ()))
    explicit = bool(keys)
    if not explicit:
        keys = [f"~/.ssh/{name}" for name in DEFAULT_KEYS]
    return Way(
        host=options.get("hostname", address.host),
        port=address.port or int(options.get("port", 22)),
        user=address.user or options.get("user") or getpass.getuser(),
        keys=[Path(key).expanduser() for key in keys],
        explicit=explicit,
        only_keys=address.only_key or options.get("identitiesonly", "no") == "yes",
        host_key=address.host_key,
        known_as=options.get("hostkeyalias"),
        known_hosts=_known_hosts(options),
        jumps=_jumps(options),
        command=_command(options),
    )


def lookup(address: SSHAddress, config: Path) -> Mapping[str, Any]:
    """The options that ~/.ssh/config gives for the host."""
    text = _read(config, 0)
    if not text:
        return {}
    from launcher.hosts.lean import paramiko

    try:
        parsed = paramiko.SSHConfig.from_file(io.StringIO(_own_words(address) + text))
        return dict(parsed.lookup(address.host))
    except (paramiko.SSHException, ImportError, ValueError) as error:
        raise SpecError(f"{config}: {error}", "mend it, or give the server's address and --key") from error


def jump(text: str) -> SSHAddress:
    """[user@]host[:port] of one ProxyJump; IPv6 in brackets."""
    text = text.removeprefix("ssh://")
    user, _, rest = text.rpartition("@")
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, ""
    return SSHAddress(host.strip("[]"), user or None, int(port) if port.isdigit() else None)


def _own_words(address: SSHAddress) -> str:
    """What the address says comes first, and so wins; also in the %p and %r of a ProxyCommand."""
    port = f"  Port {address.port}\n" if address.port else ""
    user = f"  User {address.user}\n" if address.user else ""
    return f"Host {address.host}\n{port}{user}Host *\n"


def _read(path: Path, depth: int) -> str:
    """The file with its Include lines replaced by what they name (paramiko knows no Include)."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(part for line in lines for part in _expand(line, path, depth)) + "\n"


def _expand(line: str, path: Path, depth: int) -> list[str]:
    words = line.replace("=", " ", 1).split()
    if not words or words[0].lower() != "include":
        return [line]
    if depth >= MAX_INCLUDES:
        return []
    return [
        _read(file, depth + 1) for pattern in words[1:] for file in _glob(pattern.strip('"'), path.parent)
    ]


def _glob(pattern: str, folder: Path) -> list[Path]:
    full = folder / Path(pattern).expanduser()
    return sorted(Path(full.anchor).glob(str(full.relative_to(full.anchor))))


def _known_hosts(options: Mapping[str, Any]) -> list[Path]:
    own = options.get("userknownhostsfile", "").split() or KNOWN_HOSTS
    everyone = options.get("globalknownhostsfile", "").split() or SYSTEM_KNOWN_HOSTS
    return [Path(file).expanduser() for file in (*own, *everyone)]


def _jumps(options: Mapping[str, Any]) -> list[SSHAddress]:
    text = options.get("proxyjump") or "none"
    return [] if text.lower() == "none" else [jump(part.strip()) for part in text.split(",")]


def _command(options: Mapping[str, Any]) -> str | None:
    text = options.get("proxycommand")
    return None if text is None or text.lower() == "none" else str(text)
