"""Bytes become numbered events and nothing of them is lost, however they arrive."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.agent import events, masking, records
from tests.agent.segment import SegmentFolder, exact

ORDER = {"segment": 2, "rank": 0, "first_seq": 7}
CHUNKS = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"\n", "é€😀".encode(), b"\xe2\x82", b"a" * 70_000])
)


def logged(path: Path, chunks: list[bytes], forms: Any = (), silences: bool = False) -> list[dict[str, Any]]:
    """The events of one stream that arrived in these chunks."""
    path.unlink(missing_ok=True)
    log = events.Log(str(path), ORDER)
    stream = events.Stream(log, "stdout", forms)
    now = 0.0
    for chunk in chunks:
        stream.feed(chunk, now)
        if silences:
            now += 1.0
            stream.tick(now)
    stream.end()
    log.close()
    data = path.read_bytes()
    assert log.digest()["size"] == len(data)
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events") / "log.jsonl"


@given(chunks=CHUNKS, silences=st.booleans())
def test_the_joined_texts_are_the_bytes_and_the_numbers_have_no_gap(
    path: Path, chunks: list[bytes], silences: bool
) -> None:
    found = logged(path, chunks, silences=silences)
    assert b"".join(exact(event) for event in found) == b"".join(chunks)
    assert [event["seq"] for event in found] == list(range(7, 7 + len(found)))
    assert all(event["text"] and len(exact(event)) <= records.MAX_TEXT_BYTES for event in found)


@given(chunks=CHUNKS)
def test_an_event_ends_at_a_newline_or_at_64_kib_whatever_the_chunks(path: Path, chunks: list[bytes]) -> None:
    whole = logged(path, [b"".join(chunks)])
    assert [exact(event) for event in logged(path, chunks)] == [exact(event) for event in whole]
    for event in whole[:-1]:
        data = exact(event)
        assert data.endswith(b"\n") or len(data) > records.MAX_TEXT_BYTES - 4
        assert b"\n" not in data[:-1]


@example(text="\n\U00010000", size=4, silences=True)
@given(text=st.text(), size=st.integers(1, 7), silences=st.booleans())
def test_valid_text_never_becomes_base64_however_it_is_chopped(
    path: Path, text: str, size: int, silences: bool
) -> None:
    data = text.encode()
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert not any("b64" in event for event in logged(path, chunks, silences=silences and size >= 4))


def test_the_64_kib_cut_spares_characters(path: Path) -> None:
    data = b"x" * (records.MAX_TEXT_BYTES - 1) + "€uro\n".encode()
    found = logged(path, [data])
    assert [len(exact(event)) for event in found] == [records.MAX_TEXT_BYTES - 1, 7]
    assert not any("b64" in event for event in found)


def test_silence_spares_half_a_character_once(path: Path) -> None:
    log = events.Log(str(path.with_name("half.jsonl")), ORDER)
    stream = events.Stream(log, "stdout")
    stream.feed(b"a\xe2\x82", 0.0)
    stream.tick(0.4)
    assert log.last_seq == 6
    stream.tick(0.6)
    stream.feed(b"\xac", 0.7)
    stream.tick(1.3)
    log.close()
    texts = [json.loads(line)["text"] for line in path.with_name("half.jsonl").read_bytes().splitlines()]
    assert texts == ["a", "€"]


def test_bytes_that_are_not_utf_8_keep_their_exact_value_beside_a_readable_one(path: Path) -> None:
    [event] = logged(path, [b"caf\xe9 \xed\xa0\x80\n"])
    assert event["text"].startswith("caf\ufffd ")
    assert exact(event) == b"caf\xe9 \xed\xa0\x80\n"


def test_a_line_is_what_records_says(path: Path) -> None:
    logged(path, ['tab\t quote" back\\ bell\a €\n'.encode(), b"plain\n"])
    for line in path.read_bytes().splitlines(keepends=True):
        event = json.loads(line)
        assert line == records.log_line(event["seq"], event["time"], 2, 0, "stdout", event["text"])


@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_a_secret_never_shows_however_it_is_chopped(path: Path, cuts: list[int]) -> None:
    secret = "hunter2-is-my-secret"
    data = f"a {secret} b\n{secret}{secret}\nhunter2-is no, {secret[:-1]}".encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(edges)]
    forms = masking.patterns([secret])
    for silences in (False, True):
        found = logged(path, chunks, forms, silences)
        text = b"".join(exact(event) for event in found).decode()
        assert text == f"a *** b\n******\nhunter2-is no, {secret[:-1]}"


def test_a_full_disk_leaves_whole_lines_and_an_honest_count(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "log.jsonl"
    log = events.Log(str(path), ORDER)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        log.append_text("stdout", ["x" * 100] * 50)
        good = log.digest()
        log.append_text("stdout", ["y" * 100] * 500)
        log.append_text("stdout", ["z"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(log.lost, OSError)
    assert log.lost_bytes > 50_000
    assert log.digest() == good
    log.recover()
    log.say("the disk was full")
    log.close()
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [event["seq"] for event in found] == list(range(7, 58))
    assert found[-1]["text"] == "the disk was full\n"


def test_all_bytes_come_through_a_real_job_exactly(segment: SegmentFolder) -> None:
    code = "import os; d = bytes(range(256)) * 400; [os.write(1, d[i:i+977]) for i in range(0, len(d), 977)]"
    segment.run([sys.executable, "-c", code])
    assert segment.bytes_of("stdout") == bytes(range(256)) * 400


def test_escape_sequences_are_kept_as_they_are(segment: SegmentFolder) -> None:
    segment.run(["printf", "\\033[31mred\\033[0m\\r\\033]52;c;aGk=\\007\\n"])
    assert segment.bytes_of("stdout") == b"\x1b[31mred\x1b[0m\r\x1b]52;c;aGk=\x07\n"
    assert (segment.path / "log.jsonl").read_bytes().count(b"\x1b") == 0


def test_a_prompt_without_newline_shows_after_half_a_second(segment: SegmentFolder) -> None:
    segment.start("printf 'epoch 1: '; sleep 30")
    segment.until_said("epoch 1: ")


def test_a_line_of_100_mb_costs_little_memory(segment: SegmentFolder) -> None:
    line = "import os, sys\nfor _ in range(1600): os.write(1, b'x' * 65536)\nos.write(1, b'\\n')\n"
    peak = "import runpy, shutil, sys, atexit\n"
    peak += "atexit.register(lambda: shutil.copy('/proc/self/status', sys.argv[2] + '/status'))\n"
    peak += "runpy.run_module('launcher.agent', run_name='__main__')\n"
    end = segment.run(
        [sys.executable, "line.py"], files={"line.py": line}, agent=[sys.executable, "-B", "-c", peak, "run"]
    )
    assert end["log"]["size"] > 1600 * 65536
    assert len(segment.bytes_of("stdout")) == 1600 * 65536 + 1
    status = (segment.path / "status").read_text().split()
    assert int(status[status.index("VmHWM:") + 1]) < 64 * 1024


def test_a_line_is_in_the_log_within_milliseconds(segment: SegmentFolder) -> None:
    code = "import time\nfor _ in range(40): print(time.time(), flush=True); time.sleep(0.02)"
    segment.start([sys.executable, "-c", code])
    delays: list[float] = []
    log = segment.path / "log.jsonl"
    segment.until(log.exists)
    with log.open("rb") as file:
        while len(delays) < 40:
            for line in file.readlines():
                event = json.loads(line)
                if event["stream"] == "stdout":
                    delays.append(time.time() - float(event["text"]))
            os.stat(log)
            time.sleep(0.0005)
    # Our own look every half millisecond is in it, and the machine may be busy: the median is typical.
    assert sorted(delays)[20] < 0.02
    segment.wait()
