"""A paramiko Transport to a machine: connected, its host key checked, logged in, and tuned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from launcher.errors import AuthError, LauncherError, RemoteError, Unreachable
from launcher.hosts import hostkeys, sshauth, sshsocket
from launcher.hosts.lean import paramiko
from launcher.hosts.sshconfig import Way, resolve

# Ours to choose, unlike OpenSSH's 2 MiB, which caps it at 40 MB/s over 50 ms.
WINDOW_BYTES = 64 << 20
PACKET_BYTES = 128 << 10
HANDSHAKE_S = 15.0
LOGIN_S = 30.0
# A stream that ends while keys are exchanged again stalls paramiko for 30 s and breaks (it waits in the
# thread that it waits for). 2^36 bytes is what AES-GCM allows under one key.
REKEY_BYTES = 1 << 36
REKEY_PACKETS = 1 << 31
# GCM first: twice as fast as paramiko's own first choice, which has a MAC on top.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
WEAK = {
    "ciphers": ["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc", "blowfish-cbc"],
    "macs": ["hmac-md5", "hmac-md5-96", "hmac-sha1", "hmac-sha1-96"],
    "kex": [
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
    ],
    "keys": ["ssh-rsa", "ssh-dss"],
    "pubkeys": ["ssh-rsa", "ssh-dss"],
}
RSA_KINDS = ("rsa-sha2-512", "rsa-sha2-256")
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", *RSA_KINDS)


def open_transport(way: Way, ask: hostkeys.Ask | None) -> paramiko.Transport:
    """Connect, through jump hosts where asked, and log in."""
    name = way.known_as or hostkeys.known_name(way.host, way.port)
    host = hostkeys.expected(name, way.known_hosts, way.host_key)
    try:
        transport = _greet(way, host, ask, kinds_first(host.kinds))
    except _OtherKind:
        transport = _try_kinds(way, host, ask)
    try:
        sshauth.log_in(transport, way)
    except BaseException:
        transport.close()
        raise
    # Should the server ever choose to exchange keys anew, that is no reason to give up early.
    transport.packetizer.REKEY_BYTES = REKEY_BYTES
    transport.packetizer.REKEY_PACKETS = REKEY_PACKETS
    return transport


def close(transport: paramiko.Transport) -> None:
    """Close a transport and those that it goes through."""
    sock = transport.sock
    transport.close()
    if isinstance(sock, paramiko.Channel) and sock.get_transport() is not None:
        close(sock.get_transport())


def kinds_first(known: list[str]) -> tuple[str, ...]:
    """Ask for a kind of key that we know first, so that a server with several shows that one."""
    names = [kind for name in known for kind in (RSA_KINDS if name == "ssh-rsa" else (name,))]
    return tuple(kind for kind in dict.fromkeys([*names, *KINDS]) if kind in KINDS)


class _OtherKind(Exception):
    """The pinned fingerprint may be that of another of the server's keys."""


def _try_kinds(way: Way, host: hostkeys.Expected, ask: hostkeys.Ask | None) -> paramiko.Transport:
    """A fingerprint does not say of which kind its key is: ask for each."""
    error: LauncherError | None = None
    for kind in KINDS:
        try:
            return _greet(way, host, ask, (kind,), last=True)
        except (AuthError, RemoteError) as refused:
            error = refused if isinstance(refused, AuthError) or error is None else error
    raise error or AuthError(f"{host.name} shows another host key than {host.pinned}")


def _greet(
    way: Way, host: hostkeys.Expected, ask: hostkeys.Ask | None, kinds: tuple[str, ...], last: bool = False
) -> paramiko.Transport:
    """A transport whose host key has been found good."""
    transport = _handshake(way, ask, kinds)
    try:
        key = transport.get_remote_server_key()
        blob = key.asbytes()
        if host.pinned and not last and hostkeys.fingerprint(blob) != host.pinned.rstrip("="):
            raise _OtherKind
        hostkeys.check(key.get_name(), blob, host, ask)
    except BaseException:
        transport.close()
        raise
    return transport


def _handshake(way: Way, ask: hostkeys.Ask | None, kinds: tuple[str, ...]) -> paramiko.Transport:
    transport = paramiko.Transport(
        _socket(way, ask),
        default_window_size=WINDOW_BYTES,
        default_max_packet_size=PACKET_BYTES,
        disabled_algorithms=WEAK,
    )
    options = transport.get_security_options()
    options.ciphers = CIPHERS
    options.key_types = kinds
    transport.banner_timeout = transport.handshake_timeout = HANDSHAKE_S
    transport.auth_timeout = LOGIN_S
    transport.daemon = True
    try:
        transport.start_client(timeout=HANDSHAKE_S)
    except Exception as error:  # harmed bytes surface as whatever they broke in paramiko's parser
        transport.close()
        raise _no_agreement(way, error) from error
    return transport


def _no_agreement(way: Way, error: Exception) -> LauncherError:
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return RemoteError(
            f"{way.host} port {way.port}: no safe algorithm in common: {error}",
            "its SSH server is too old or set up too strictly",
        )
    return Unreachable(
        f"{way.host} port {way.port}: no SSH handshake: {error or 'it ended the connection'}",
        "is that the port of an SSH server? it may also be too busy: try again",
    )


def _socket(way: Way, ask: hostkeys.Ask | None) -> Any:
    if way.command:
        return paramiko.ProxyCommand(way.command)
    if not way.jumps:
        return sshsocket.connect(way.host, way.port)
    *before, last = way.jumps
    base = resolve(last)
    # A jump host may itself say how it is reached, unless the list says so or it would jump through itself.
    jumps = before or (() if (base.host, base.port) == (way.host, way.port) else base.jumps)
    outer = open_transport(replace(base, jumps=jumps), ask)
    return outer.open_channel("direct-tcpip", (way.host, way.port), ("127.0.0.1", 0), timeout=HANDSHAKE_S)
