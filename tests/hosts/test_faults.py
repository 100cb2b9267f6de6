"""Bad networks between a client and a real sshd."""

import hashlib
import os
import time

import pytest

from launcher.errors import LauncherError, Unreachable
from tests.servers.faultproxy import FaultProxy, Faults

SIZE = 8 << 20


@pytest.fixture
def proxied(sshd, reach):
    """`proxied(rtt_s=…)`: (host, proxy) with a bad network in between."""
    proxies = []

    def make(**faults):
        proxy = FaultProxy(sshd.host, sshd.port, Faults(**faults)).__enter__()
        proxies.append(proxy)
        return reach(sshd, host=proxy.host, port=proxy.port), proxy

    yield make
    for proxy in proxies:
        proxy.__exit__(None, None, None)


@pytest.fixture
def big(sshd):
    data = os.urandom(SIZE)
    (sshd.home / "fault-file").write_bytes(data)
    return str(sshd.home / "fault-file"), data


def fetch(host, path, offset=0):
    data = bytearray()
    try:
        for _, piece in host.steward().stream("read", ranges=[[path, offset, None]]):
            data += piece
    except LauncherError as error:
        return bytes(data), error
    return bytes(data), None


def test_a_silent_network_is_noticed_and_the_next_call_connects_anew(proxied):
    host, proxy = proxied()
    steward = host.steward()
    proxy.faults.silent.set()
    start = time.monotonic()
    with pytest.raises(Unreachable):
        steward.call("stat", path=".")
    assert time.monotonic() - start < 20
    proxy.faults.silent.clear()
    assert host.steward() is not steward
    assert host.steward().call("stat", path=".")["kind"] == "folder"


def test_a_stream_that_falls_silent_is_noticed(proxied, sshd):
    (sshd.home / "segment").mkdir(exist_ok=True)
    host, proxy = proxied()
    stream = host.steward().stream("run_script", argv=["sh", "-c", "echo up; sleep 100"])
    next(stream)
    proxy.faults.silent.set()
    start = time.monotonic()
    with pytest.raises(Unreachable):
        next(stream)
    assert time.monotonic() - start < 20


def test_a_cut_connection_is_noticed_at_once(proxied):
    host, proxy = proxied()
    stream = host.steward().stream("run_script", argv=["sh", "-c", "echo up; sleep 100"])
    next(stream)
    start = time.monotonic()
    proxy.cut()
    with pytest.raises(Unreachable):
        next(stream)
    assert time.monotonic() - start < 2
    assert host.steward().call("stat", path=".")["kind"] == "folder"


def test_a_file_comes_home_through_many_cuts_without_being_read_twice(proxied, big):
    path, wanted = big
    host, _ = proxied(cut_after=1_500_000)
    got, cuts = b"", 0
    while len(got) < SIZE:
        piece, error = fetch(host, path, len(got))
        got += piece
        cuts += error is not None
        assert cuts < 100
    assert cuts >= 3
    assert hashlib.sha256(got).digest() == hashlib.sha256(wanted).digest()


def test_flipped_bits_never_reach_us(proxied, big):
    path, wanted = big
    for at in (3_000_000, 4_000_001, 5_000_002):
        host, _ = proxied(flip_at=at)
        got, error = fetch(host, path)
        assert isinstance(error, Unreachable)
        assert got == wanted[: len(got)]


def test_flipped_bits_in_the_handshake_are_an_error_not_a_hang(proxied):
    for at in (10, 60, 400, 1200, 1500):
        host, _ = proxied(flip_at=at)
        start = time.monotonic()
        with pytest.raises(LauncherError):
            host.steward()
        assert time.monotonic() - start < 35


def test_an_upload_goes_on_where_a_cut_left_it(proxied, sshd):
    data = os.urandom(SIZE)
    digest = hashlib.sha256(data).hexdigest()
    host, proxy = proxied(rate=20e6)
    steward = host.steward()

    def pieces():
        yield data[: 5 << 20]
        time.sleep(1)
        proxy.cut()
        time.sleep(1)
        yield data[5 << 20 :]

    with pytest.raises(Unreachable):
        steward.call("put", pieces(), path="cut", size=SIZE, sha256=digest, offset=0)
    offset = host.steward().call("partial", sha256=digest)["offset"]
    assert 3 << 20 < offset <= 5 << 20
    host.steward().call("put", data[offset:], path="cut", size=SIZE, sha256=digest, offset=offset)
    assert (sshd.home / ".launcher/cut").read_bytes() == data


def test_a_far_machine_takes_one_round_trip_a_request(proxied):
    host, _ = proxied(rtt_s=0.2)
    steward = host.steward()
    steward.call("have", files=[])
    start = time.monotonic()
    for _ in range(5):
        steward.call("have", files=[])
    assert (time.monotonic() - start) / 5 < 0.35


def test_a_slow_line_is_not_taken_for_a_dead_one(proxied, sshd):
    (sshd.home / "slow").write_bytes(os.urandom(1 << 20))
    host, _ = proxied(rate=50_000)
    host.steward()
    got, error = fetch(host, str(sshd.home / "slow"))
    assert error is None
    assert len(got) == 1 << 20


def test_a_login_that_is_cut_anywhere_is_no_refusal(proxied):
    for at in range(0, 4000, 250):
        host, proxy = proxied(cut_after=at)
        try:
            host.steward()
        except LauncherError as error:
            assert isinstance(error, Unreachable), f"cut after {at} bytes: {error!r}"  # noqa: PT017 (which byte, matters)
        proxy.cut()
