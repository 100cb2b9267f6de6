"""What is compressed on all cores is one file for every reader."""

from __future__ import annotations

import os
import subprocess

import pytest

from launcher.engine.squeeze import MEMBER_BYTES, Squeezer


@pytest.mark.parametrize("size", [0, 1, MEMBER_BYTES, 3 * MEMBER_BYTES + 5])
def test_gzip_reads_it_as_one_file(size: int) -> None:
    data = (os.urandom(1 << 16) + bytes(1 << 16)) * (size // (1 << 17) + 1)
    out = bytearray()
    with Squeezer(out.extend) as squeezed:
        for at in range(0, size, 1 << 20):
            squeezed.write(data[at : min(size, at + (1 << 20))])
    done = subprocess.run(["gzip", "-dc"], input=bytes(out), capture_output=True, check=True)
    assert done.stdout == data[:size]
    assert len(out) < 0.6 * size + 1000


def test_the_same_bytes_give_the_same_file() -> None:
    files = []
    for step in (1 << 20, 777_777):
        out = bytearray()
        with Squeezer(out.extend) as squeezed:
            for at in range(0, 2 * MEMBER_BYTES, step):
                squeezed.write(bytes(min(step, 2 * MEMBER_BYTES - at)))
        files.append(bytes(out))
    assert files[0] == files[1]


def test_an_error_of_the_writer_is_the_callers() -> None:
    def write() -> None:
        with Squeezer(bytearray().extend) as squeezed:
            squeezed.write(bytes(9 << 20))
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write()


def test_an_error_of_the_sink_is_the_callers() -> None:
    def full(_: bytes) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        with Squeezer(full) as squeezed:
            squeezed.write(b"x")
