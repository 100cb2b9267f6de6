"""Is this the machine that it should be? known_hosts, pinned fingerprints, and the question to the user."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import AuthError

Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Known:
    """One key that a known_hosts file gives for a host; marker is "", "@revoked" or "@cert-authority"."""

    marker: str
    kind: str
    blob: bytes


@dataclass(frozen=True)
class Expected:
    """What we know of a host before we see its key."""

    name: str  # as in known_hosts: host, or [host]:port
    keys: Sequence[Known]
    pinned: str | None
    file: Path  # where a confirmed key is written down

    @property
    def kinds(self) -> list[str]:
        return [key.kind for key in self.keys if key.marker == ""]


def expected(name: str, files: Sequence[Path], pinned: str | None) -> Expected:
    keys = [key for file in files for key in known_keys(_lines(file), name)]
    return Expected(name, keys, pinned, files[0])


def check(kind: str, blob: bytes, host: Expected, ask: Ask | None) -> None:
    """AuthError if the host's key changed, is revoked or not the pinned one, or if nobody vouches for it."""
    shown = fingerprint(blob)
    if any(key.marker == "@revoked" and key.blob == blob for key in host.keys):
        raise AuthError(f"the key of {host.name} ({shown}) is marked as revoked in known_hosts")
    if host.pinned is not None:
        if hmac.compare_digest(host.pinned.rstrip("="), shown):
            return
        raise AuthError(
            f"{host.name} shows the host key {shown}, not the given {host.pinned}",
            "this may be another machine, or someone in between: give a new key only if you know why",
        )
    plain = [key for key in host.keys if key.marker == ""]
    if any(key.blob == blob for key in plain):
        return
    if plain:
        raise AuthError(
            f"the host key of {host.name} has changed: it is now {shown} ({kind})",
            f"if you know why, remove the old one: ssh-keygen -R '{host.name}'",
        )
    if ask is None or not ask(shown):
        raise AuthError(
            f"{host.name} is unknown; it shows the host key {shown} ({kind})",
            f"if that is its key: launcher target add NAME ssh://… --host-key {shown}",
        )
    remember(host, kind, blob)


def fingerprint(blob: bytes) -> str:
    """SHA256:… as ssh-keygen -l prints it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return "SHA256:" + digest


def known_name(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"


def known_keys(lines: Iterable[str], name: str) -> list[Known]:
    """The keys that a known_hosts file gives for a name; lines that make no sense are passed over."""
    found = []
    for line in lines:
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or not _matches(fields[0], name):
            continue
        try:
            found.append(Known(marker, fields[1], base64.b64decode(fields[2], validate=True)))
        except (binascii.Error, ValueError):
            continue
    return found


def remember(host: Expected, kind: str, blob: bytes) -> None:
    """Write a key that the user has confirmed where OpenSSH would."""
    host.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry = f"{host.name} {kind} {base64.b64encode(blob).decode()}\n"
    old = _text(host.file)
    with host.file.open("a", encoding="utf-8") as file:
        if not old:
            host.file.chmod(0o600)
        file.write(("" if not old or old.endswith("\n") else "\n") + entry)


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        return _hashed(patterns, name)
    good = False
    for pattern in patterns.split(","):
        if fnmatch.fnmatchcase(name.lower(), _glob(pattern.lstrip("!").lower())):
            if pattern.startswith("!"):
                return False
            good = True
    return good


def _glob(pattern: str) -> str:
    """known_hosts has only * and ?; fnmatch would take the [ of [host]:port for a set."""
    return pattern.replace("[", "[[]")


def _hashed(field: str, name: str) -> bool:
    try:
        _, _, salt, digest = field.split("|")
        mac = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1)
        return hmac.compare_digest(mac.digest(), base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


def _lines(file: Path) -> list[str]:
    return _text(file).splitlines()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
