"""Log in with keys: those asked for first, then the agent's, then the default ones, as OpenSSH does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launcher.errors import AuthError, Unreachable
from launcher.hosts.lean import paramiko
from launcher.hosts.sshconfig import Way

MIN_RSA_BITS = 2048
TIMEOUT = "Authentication timeout."  # paramiko (5.1) has no class of its own for it


def log_in(transport: paramiko.Transport, way: Way) -> None:
    """AuthError names every key that was tried and why others were not."""
    tried: list[str] = []
    for name, key in candidates(way, tried):
        try:
            transport.auth_publickey(way.user, key)
        except paramiko.BadAuthenticationType as error:
            raise AuthError(
                f"{way.host} takes no keys, only {', '.join(error.allowed_types)}",
                "allow PubkeyAuthentication there",
            ) from error
        except Exception as error:  # a broken connection surfaces as whatever broke in paramiko's thread
            tried.append(name)
            if not transport.is_active() or str(error) == TIMEOUT:
                raise _ended(way, tried, error) from error
            if not isinstance(error, paramiko.SSHException):
                raise
            continue
        if transport.is_authenticated():
            return
        tried.append(f"{name} (accepted, but the server wants a second factor)")
    raise _refused(way, tried)


def candidates(way: Way, notes: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """(name, key) in the order to try them; keys that cannot be used are noted."""
    held = {key.asbytes(): key for key in _agent_keys()}
    offered: set[bytes] = set()
    files = [path for path in way.keys if way.explicit or path.exists()]
    if way.explicit:
        yield from _files(files, held, offered, notes)
    if not way.only_keys:
        for blob, key in held.items():
            if blob not in offered:
                offered.add(blob)
                yield f"ssh-agent {key.get_name()} {key.fingerprint}", key
    if not way.explicit:
        yield from _files(files, held, offered, notes)


def _files(
    files: list[Path], held: dict[bytes, paramiko.AgentKey], offered: set[bytes], notes: list[str]
) -> Iterator[tuple[str, paramiko.PKey]]:
    for path in files:
        public = _public(path)
        if public in offered:
            continue
        key: paramiko.PKey | str = held[public] if public in held else load(path)
        if isinstance(key, str):
            notes.append(f"{path} ({key})")
            continue
        if key.asbytes() not in offered:
            offered.add(key.asbytes())
            yield str(path), key


def load(path: Path) -> paramiko.PKey | str:
    """The private key in a file, or why it cannot be used."""
    try:
        key = paramiko.PKey.from_path(path)
    except FileNotFoundError:
        return "not there"
    except (paramiko.PasswordRequiredException, TypeError):
        return "has a passphrase: ssh-add it"
    except (paramiko.SSHException, OSError, ValueError) as error:
        return f"cannot be read: {error}"
    if isinstance(key, paramiko.RSAKey) and key.get_bits() < MIN_RSA_BITS:
        return f"too weak: RSA of {key.get_bits()} bits"
    return key


def _agent_keys() -> tuple[paramiko.AgentKey, ...]:
    try:
        return paramiko.Agent().get_keys()
    except (paramiko.SSHException, OSError):
        return ()


def _public(path: Path) -> bytes:
    """The public half beside a key file, so that the agent's copy can be used for one with a passphrase."""
    try:
        return bytes(paramiko.pkey.PublicBlob.from_file(f"{path}.pub").key_blob)
    except (OSError, ValueError, IndexError):
        return b""


def _refused(way: Way, tried: list[str]) -> AuthError:
    who = f"{way.user}@{way.host}"
    if not tried:
        return AuthError(
            f"there is no SSH key to log in to {who} with", f"ssh-keygen, then ssh-copy-id {who}"
        )
    return AuthError(
        f"{who} accepts none of our keys; tried: {'; '.join(tried)}", f"ssh-copy-id {who}, or give --key FILE"
    )


def _ended(way: Way, tried: list[str], error: Exception) -> AuthError | Unreachable:
    """Who ends the connection after several keys may mean them; before an answer to the first, it says nothing."""
    if len(tried) > 1 and str(error) != TIMEOUT:
        refused = _refused(way, tried)
        return AuthError(f"{refused.message} (then it ended the connection)", refused.hint)
    return Unreachable(f"{way.host} ended the connection while we logged in: {error}")
