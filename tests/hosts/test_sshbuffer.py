"""Bytes that wait in a channel."""

import os
import subprocess
import sys
import threading
import time

import pytest
from paramiko.buffered_pipe import PipeTimeout

from launcher.hosts.sshbuffer import PieceBuffer


def test_bytes_come_out_in_order_in_any_cut():
    data = os.urandom(100_000)
    buffer = PieceBuffer()
    for at in range(0, len(data), 777):
        buffer.feed(data[at : at + 777])
    assert len(buffer) == len(data)
    out = b""
    for size in (1, 776, 1, 777, 778, 5000, 10**6):
        assert buffer.read_ready()
        out += buffer.read(size)
    assert out == data
    assert not buffer.read_ready()


def test_an_empty_buffer_waits_and_a_closed_one_ends():
    buffer = PieceBuffer()
    with pytest.raises(PipeTimeout):
        buffer.read(10, 0.05)
    threading.Timer(0.05, buffer.feed, [b"late"]).start()
    assert buffer.read(10, 5) == b"late"
    buffer.feed(b"rest")
    buffer.close()
    assert buffer.empty() == b"rest"
    assert buffer.read(10) == b""


def test_a_reader_of_many_bytes_is_woken_once_and_never_left_waiting():
    buffer = PieceBuffer()
    buffer.least = 300
    feeds = [threading.Timer(0.05 * number, buffer.feed, [bytes(100)]) for number in (1, 2, 3)]
    for feed in feeds:
        feed.start()
    assert len(buffer.read(1000, 5)) == 300
    buffer.least = 300
    buffer.feed(bytes(10))
    start = time.monotonic()
    assert len(buffer.read(1000, 0.2)) == 10
    assert time.monotonic() - start < 2
    buffer.least = 300
    threading.Timer(0.05, buffer.close).start()
    assert buffer.read(1000, 5) == b""


def test_a_backlog_does_not_make_reading_slow():
    buffer = PieceBuffer()
    for _ in range(2048):
        buffer.feed(bytes(32 << 10))
    start = time.process_time()
    while len(buffer):
        buffer.read(64 << 10)
    assert time.process_time() - start < 1


def test_naming_a_host_loads_neither_paramiko_nor_anything_big():
    code = (
        "import sys; import launcher.hosts.local, launcher.hosts.ssh as s; s.SSHHost(s.SSHAddress('x'));"
        "print([m for m in ('paramiko', 'cryptography', 'docker', 'requests', 'asyncio') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
