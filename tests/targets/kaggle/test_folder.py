"""A session's log put back together from its live output, and the segment's folder from its outputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from launcher.agent import records
from launcher.targets.kaggle.said import METRICS, Said

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def line(seq: int, text: str = "x\n") -> str:
    return records.log_line(seq, "2026-01-01T00:00:00.000Z", 0, 0, "stdout", text).decode()


def gathered(said: Said, pieces: Sequence[str], stream: str = "stdout") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in pieces:
        for path, data in said.take(stream, piece):
            found[path] = found.get(path, b"") + data
    return found


def cut(text: str, places: Sequence[int]) -> Iterator[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    yield from (text[a:b] for a, b in itertools.pairwise(ends))


@given(st.lists(TEXTS, max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
def test_wherever_events_end_the_lines_are_the_agents_byte_for_byte(
    texts: list[str], places: list[int]
) -> None:
    lines = [line(number, text) for number, text in enumerate(texts, 1)]
    metrics = [f'{{"step":{number}}}\n' for number in range(3)]
    whole = (
        "launcher: session 4711\n" + "".join(lines) + "".join(f"launcher:metrics {one}" for one in metrics)
    )
    said = Said()
    found = gathered(said, list(cut(whole, places)))
    assert found.get(records.LOG, b"") == "".join(lines).encode()
    assert found[METRICS] == "".join(metrics).encode()
    assert said.session == "4711"
    assert said.ran == bool(lines)


def test_a_line_that_came_before_is_left_out_and_after_a_gap_nothing_more_is_given() -> None:
    said = Said(first_seq=5)
    found = gathered(said, [line(5), line(6), line(5), line(6), line(7), line(9), line(10)])
    assert found[records.LOG] == (line(5) + line(6) + line(7)).encode()


def test_a_line_without_its_end_is_kept_back() -> None:
    said = Said()
    assert gathered(said, [line(1), line(2)[:-1]])[records.LOG] == line(1).encode()
    assert gathered(said, ["\n"])[records.LOG] == line(2).encode()


def test_words_of_the_notebook_and_of_others_are_for_the_screen_alone() -> None:
    said = Said()
    found = gathered(said, ["launcher: building the environment\nWARNING: something\n" + line(1)])
    assert found[records.SAID] == b"launcher: building the environment\nWARNING: something\n"
    assert said.words == "building the environment"
    assert gathered(said, [line(2)], "stderr") == {records.SAID: line(2).encode()}


def test_only_a_number_is_a_sessions_number() -> None:
    said = Said()
    gathered(said, ["launcher: session 12; rm -rf\n"])
    assert said.session == ""


def test_an_endless_line_does_not_fill_the_memory() -> None:
    said = Said()
    for _ in range(100):
        assert gathered(said, ["x" * (1 << 20)]) == {}
    assert sum(len(rest) for rest in said._rest.values()) <= 1 << 20
