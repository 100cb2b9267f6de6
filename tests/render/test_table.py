"""Tables align, drop empty columns, and let no cell break a line."""

from __future__ import annotations

import pytest

from launcher.render.table import elapsed, pairs, size, table


def test_columns_are_aligned_and_empty_ones_left_out() -> None:
    text = table(["RUN", "NOTE", "STATE"], [["a", "", "running"], ["long-name", None, "failed"]])
    assert text == "RUN        STATE\na          running\nlong-name  failed"


def test_a_cell_cannot_break_a_table() -> None:
    assert table(["A"], [["x\n\x1b[2Jy"]]) == "A\nx y"


def test_pairs_leave_out_what_has_no_value() -> None:
    assert pairs([("state", "failed"), ("exit code", 0), ("parent", None), ("note", "")]) == (
        "state      failed\nexit code  0"
    )


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (44_800_000, "44.8 MB"), (5e15, "5000.0 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (59.9, "59 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (273_600, "3 d 4 h")],
)
def test_elapsed_times(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text
