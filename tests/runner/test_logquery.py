"""Choosing lines of a log."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from launcher.agent import records
from launcher.errors import SpecError
from launcher.runner.context import LogQuery
from launcher.runner.logquery import chosen, since_time


def line(seq: int, text: str, minute: int = 0) -> bytes:
    return records.log_line(seq, f"2026-01-01T00:{minute:02}:00.000Z", 0, 0, "stdout", text)


def texts(log: bytes | Path, query: LogQuery) -> list[str]:
    import json

    return [json.loads(x)["text"] for block in chosen(log, query) for x in block.split(b"\n") if x]


LOG = b"".join(line(n, f"step {n}\n", n) for n in range(1, 11))


def test_the_last_lines_are_chosen() -> None:
    assert texts(LOG, LogQuery(tail=2)) == ["step 9\n", "step 10\n"]


def test_an_expression_chooses_by_text_and_not_by_the_rest_of_the_line() -> None:
    assert texts(LOG, LogQuery(grep="step 1")) == ["step 1\n", "step 10\n"]
    assert texts(LOG, LogQuery(grep="stdout")) == []


def test_a_time_chooses_what_came_since() -> None:
    assert texts(LOG, LogQuery(since="2026-01-01T00:09:00+00:00")) == ["step 9\n", "step 10\n"]


def test_a_duration_counts_back_from_now() -> None:
    now = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    assert since_time("2h", now) == "2026-01-01T10:00:00.000Z"


def test_a_torn_last_line_of_a_file_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(LOG + b'{"v":1,"seq":11')
    assert len(texts(path, LogQuery())) == 10


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert texts(tmp_path / "none", LogQuery(tail=3)) == []


@pytest.mark.parametrize("query", [LogQuery(grep="("), LogQuery(since="yesterday")])
def test_nonsense_is_one_clear_line(query: LogQuery) -> None:
    with pytest.raises(SpecError):
        list(chosen(LOG, query))
