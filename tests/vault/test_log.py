"""The log at home: every line checked, no gap, no torn end, and where to read on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError
from launcher.vault import Home
from launcher.vault.loglines import MAX_LINE_BYTES, check
from tests.vault.helpers import TIME, lines


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "r")
    with home.writer():
        yield home


def one(**changes: object) -> bytes:
    value = {"v": 1, "seq": 1, "time": TIME, "segment": 0, "rank": 0, "stream": "stdout", "text": "x"}
    return records.line({**value, **changes})


def test_lines_are_byte_equal_to_what_came(home: Home) -> None:
    texts = [
        "plain\n",
        'quote " and \\ and \x00\x1f\x7f\n',
        "ümläut 日本語 😀\n",
        "\u2028\x85 no line ends",
        "",
    ]
    raw = b"".join(records.log_line(n, TIME, 0, 0, "stderr", text) for n, text in enumerate(texts, 1))
    raw += records.log_line(len(texts) + 1, TIME, 0, 0, "launcher", "\ufffd", "/w==")
    assert home.append_log(raw, 0) == len(raw)
    assert home.log_path.read_bytes() == raw
    assert (home.last_seq, home.position(0)) == (6, len(raw))
    assert home.segment_digest(0) == (len(raw), hashlib.sha256(raw).hexdigest())


def test_lines_may_come_cut_anywhere(home: Home) -> None:
    raw, rest = lines(1, 50, text="some text\n"), b""
    for start in range(0, len(raw), 97):
        block = rest + raw[start : start + 97]
        rest = block[home.append_log(block, 0) :]
    assert (rest, home.log_path.read_bytes()) == (b"", raw)


def test_the_largest_event_that_the_agent_can_write_fits(home: Home) -> None:
    text = "\x01" * records.MAX_TEXT_BYTES
    raw = records.log_line(1, TIME, 0, 0, "stdout", text, "A" * (records.MAX_TEXT_BYTES * 4 // 3 // 4 * 4))
    assert len(raw) <= MAX_LINE_BYTES
    assert home.append_log(raw, 0) == len(raw)


WRONG = {
    "a gap": one(seq=2),
    "seq 0": one(seq=0),
    "seq as text": one(seq="1"),
    "seq as truth": one(seq=True),
    "seq as 1.0": one(seq=1.0),
    "another segment": one(segment=1),
    "another rank": one(rank=1),
    "another version": one(v=2),
    "an unknown stream": one(stream="stdin"),
    "no time": one(time="yesterday"),
    "a number as text": one(text=1),
    "a number as b64": one(b64=1),
    "an unknown key": one(extra=1),
    "a missing key": b'{"v":1,"seq":1,"time":"%s","segment":0,"rank":0,"stream":"stdout"}\n' % TIME.encode(),
    "a key twice": one()[:-2] + b',"seq":1}\n',
    "half a surrogate pair": one()[:-3] + rb'\ud800"}' + b"\n",
    "no JSON": b"hello\n",
    "an empty line": b"\n",
    "a list": b"[1]\n",
    "NaN": one()[:-2] + b',"b64":NaN}\n',
    "not UTF-8": one().replace(b'"x"', b'"\xff"'),
    "a raw control character": one().replace(b'"x"', b'"\x01"'),
    "two values": one()[:-1] + one(),
    "nested without end": b"[" * 100_000 + b"\n",
    "a number without end": b'{"v":1,"seq":' + b"9" * 5000 + b"}\n",
    "too long": one(text="x" * MAX_LINE_BYTES),
    "too long and unended": b"x" * (MAX_LINE_BYTES + 1),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_line_that_is_not_the_next_one_is_refused(home: Home, what: str) -> None:
    with pytest.raises(IntegrityError, match="goes wrong at line 1"):
        home.append_log(WRONG[what], 0)
    assert (home.log_path.read_bytes(), home.last_seq) == (b"", 0)
    good = lines(1, 3)
    bad = WRONG[what].replace(b'"seq":1', b'"seq":4')
    with pytest.raises(IntegrityError, match="goes wrong at line 4"):
        home.append_log(good + bad + lines(5, 1), 0)
    assert home.log_path.read_bytes() == good


def test_a_line_written_in_another_way_is_a_line(home: Home) -> None:
    raw = json.dumps(json.loads(one(text="ü"))).encode() + b"\n" + lines(2, 1)
    assert home.append_log(raw, 0) == len(raw)
    home.unlock()
    with home.writer():
        assert home.last_seq == 2
        home.try_lock()


@pytest.mark.parametrize("torn", [b'{"v":1,"seq":4', b"\0" * 5000, b"\0\0\n\0", b"x\n" * 3, lines(4, 1)[:-1]])
def test_what_a_crash_tore_is_dropped(home: Home, torn: bytes) -> None:
    raw = lines(1, 3)
    home.append_log(raw, 0)
    home.unlock()
    with home.log_path.open("ab") as file:
        file.write(torn)
    assert Home(home.path).tail(0)[1].startswith(raw)
    with home.writer():
        assert (home.last_seq, home.position(0), home.log_path.read_bytes()) == (3, len(raw), raw)
        home.append_log(lines(4, 2), 0)
        assert home.log_path.read_bytes() == lines(1, 5)
        home.try_lock()


def test_a_later_segment_goes_on_with_the_next_number(home: Home) -> None:
    first, second = lines(1, 10), lines(11, 5, segment=1)
    home.append_log(first, 0)
    assert home.close_segments(1) == len(first)
    home.append_log(second, 1)
    assert home.log_path.read_bytes() == first + second
    assert (home.position(0), home.position(1), home.position(2)) == (len(first), len(second), 0)
    assert home.segment_digest(1) == (len(second), hashlib.sha256(second).hexdigest())


def test_late_lines_of_a_closed_segment_go_to_a_file_of_their_own(home: Home) -> None:
    whole = lines(1, 20)
    first, late = whole[: len(lines(1, 9))], whole[len(lines(1, 9)) :]
    home.append_log(first, 0)
    home.close_segments(1)
    half = len(lines(10, 4))
    home.append_log(late[:half], 0)  # before the next segment has said a word
    home.append_log(lines(10, 3, segment=1), 1)
    home.append_log(late[half:], 0)
    assert home.log_path.read_bytes() == first + lines(10, 3, segment=1)
    assert (home.path / "late.0.jsonl").read_bytes() == late
    assert home.position(0) == len(whole)
    assert home.segment_digest(0) == (len(whole), hashlib.sha256(whole).hexdigest())
    with pytest.raises(IntegrityError):
        home.append_log(lines(22, 1), 0)
    home.unlock()
    with home.writer():
        assert (home.position(0), home.position(1)) == (len(whole), len(lines(10, 3, segment=1)))
        home.try_lock()


def test_a_segment_that_said_nothing_leaves_no_trace(home: Home) -> None:
    home.append_log(lines(1, 2), 0)
    home.close_segments(1)
    home.close_segments(2)
    home.append_log(lines(3, 2, segment=2), 2)
    assert [home.position(n) for n in range(4)] == [len(lines(1, 2)), 0, len(lines(3, 2, segment=2)), 0]
    home.append_log(lines(3, 1, segment=1), 1)
    assert (home.path / "late.1.jsonl").read_bytes() == lines(3, 1, segment=1)


def test_positions_are_right_in_long_logs_of_many_segments(home: Home) -> None:
    expected, seq = [], 1
    for segment in range(30):
        block = lines(seq, segment % 5 * 7, segment, text="x" * (segment * 997 % 3000))
        home.close_segments(segment)
        home.append_log(block, segment)
        seq += segment % 5 * 7
        expected.append(len(block))
    assert [home.position(segment) for segment in range(30)] == expected


def test_an_onlooker_sees_whole_lines(home: Home) -> None:
    raw = lines(1, 30_000)
    home.append_log(raw, 0)
    other, position, seen = Home(home.path), 0, b""
    while block := other.tail(position)[1]:
        position, block = other.tail(position)
        assert block.endswith(b"\n")
        seen += block
    assert (seen, other.last_seq) == (raw, 30_000)


def test_a_link_in_place_of_the_log_is_refused(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "r")
    (tmp_path / "elsewhere").write_bytes(b"precious")
    home.log_path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LauncherError, match="a link or a file is in the way"):
        home.try_lock()
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_lines_are_on_the_disk_within_a_second(home: Home, tmp_path: Path) -> None:
    home.append_log(lines(1, 1), 0)
    file = home._writer.log._files[records.LOG]  # type: ignore[union-attr]
    assert file._timer is not None
    time.sleep(1.3)
    assert file._timer is None
    home.append_log(lines(2, 1), 0)
    home.sync()
    assert file._timer is None


def test_checking_keeps_up_with_any_network() -> None:
    raw = lines(1, 200_000, text="epoch 3 step 1200 loss 0.41532 acc 0.91\n")
    begin = time.process_time()
    assert check(raw, 0, 1).count == 200_000
    assert 200_000 / (time.process_time() - begin) > 200_000


def test_a_hostile_line_costs_no_more_than_its_length() -> None:
    for text in (b"\\" * 400_000, b'\\"' * 200_000, b"\\u0000" * 60_000 + b"\\u"):
        begin = time.process_time()
        raw = one().replace(b'"x"', b'"' + text)
        assert check(raw, 0, 1).count == 0
        assert time.process_time() - begin < 1.0


def test_every_prefix_of_a_home_log_is_mended(tmp_path: Path) -> None:
    raw = lines(1, 4, text="ü\n")
    for size in range(len(raw) + 1):
        home = Home.create(tmp_path / "r")
        home.log_path.write_bytes(raw[:size])
        with home.writer():
            kept = raw[:size].count(b"\n")
            assert (home.last_seq, home.position(0)) == (kept, len(lines(1, kept, text="ü\n")))
    assert os.listdir(tmp_path) == ["r"]
