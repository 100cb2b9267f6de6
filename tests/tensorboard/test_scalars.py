"""Metrics as event files: what TensorBoard's own reader finds in them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.tensorboard.scalars import event, events, file_header, masked_crc32c
from tests.tensorboard.reader import read

NOW = 1_700_000_000.25


def lines(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() + b"\n" for value in values]


def test_the_reader_finds_each_number_under_its_step_and_time(tmp_path: Path) -> None:
    values = [
        {"step": 0, "loss": 0.5, "val": {"acc": 0.25}},
        {"step": -3, "loss": float("nan")},
        {"step": 2**40, "loss": float("-inf"), "größe": 1},
    ]
    data, last = events(lines(*values), -1, NOW)
    path = tmp_path / "events.out.tfevents.x"
    path.write_bytes(file_header(NOW) + data)
    assert read(path) == [
        ["brain.Event:2", 0, NOW, {}],
        ["", 0, NOW, {"loss": "0.5", "val/acc": "0.25"}],
        ["", -3, NOW, {"loss": "nan"}],
        ["", 2**40, NOW, {"loss": "-inf", "größe": "1.0"}],
    ]
    assert last == 2**40


def test_the_reader_refuses_a_record_with_a_flipped_bit(tmp_path: Path) -> None:
    data = bytearray(file_header(NOW) + event(1, {"loss": 0.5}, NOW))
    data[-8] ^= 1
    (tmp_path / "tfevents").write_bytes(data)
    with pytest.raises(subprocess.CalledProcessError):
        read(tmp_path / "tfevents")


def test_the_checksum_is_that_of_the_castagnoli_polynomial() -> None:
    crc = 0xE3069283  # of "123456789", RFC 3720's check value
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_line_without_a_step_counts_on() -> None:
    assert events(lines({"loss": 1.0}, {"loss": 1.0}), -1, NOW) == (
        event(0, {"loss": 1.0}, NOW) + event(1, {"loss": 1.0}, NOW),
        1,
    )
    assert events(lines({"step": 7, "loss": 1.0}, {"acc": 1.0}), -1, NOW)[1] == 8


@pytest.mark.parametrize(
    "line",
    [b"{", b"[1]", b"\xff", b'{"step": 1}', b'{"step": 1, "note": "text", "list": [1]}', b"[" * 10_000],
)
def test_what_holds_no_number_is_left_out(line: bytes) -> None:
    assert events([line], 3, NOW)[0] == b""


def test_numbers_beyond_all_floats_become_infinite(tmp_path: Path) -> None:
    data, _ = events([b'{"step": 1e99, "a": 1e300, "b": -' + b"9" * 400 + b', "c": true}\n'], 4, NOW)
    (tmp_path / "tfevents").write_bytes(data)
    assert read(tmp_path / "tfevents") == [["", 5, NOW, {"a": "inf", "b": "-inf", "c": "1.0"}]]


def test_a_line_of_ten_thousand_numbers_or_a_deep_one_stays_bounded() -> None:
    wide = json.dumps({f"n{i}": 1.0 for i in range(10_000)}).encode()
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    assert len(events([wide], 0, NOW)[0]) < 30_000
    assert events([deep], 0, NOW)[0] == b""
