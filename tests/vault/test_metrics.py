"""Metrics of several segments become one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import IntegrityError
from launcher.vault import Home
from launcher.vault.metrics import join, step
from tests.vault.helpers import giving, output


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "r")
    with home.writer():
        yield home


def at(*steps: int, tag: str = "") -> bytes:
    return b"".join(b'{"step": %d, "loss": 0.5, "tag": "%s"}\n' % (n, tag.encode()) for n in steps)


def joined(home: Home) -> bytes:
    return (home.path / "metrics.jsonl").read_bytes()


def test_lines_come_as_they_are(home: Home) -> None:
    raw = b'{"step": 1}\nnot json at all\n\n{"loss": NaN}\r\n{"step": 2.5}\n'
    assert home.append_metrics(raw + b'{"step": 3', 0) == len(raw)
    assert joined(home) == raw
    assert home.metrics_position(0) == len(raw)


def test_a_resumed_segment_replaces_the_steps_it_takes_again(home: Home) -> None:
    home.append_metrics(at(1, 2, 3, 4, 5, tag="a") + b'{"note": "stays"}\n', 0)
    home.close_segments(1)
    home.append_metrics(b'{"note": "early"}\n', 1)
    assert joined(home).endswith(b'{"note": "stays"}\n{"note": "early"}\n')
    home.append_metrics(at(4, 5, tag="b"), 1)
    home.append_metrics(at(6, tag="b"), 1)
    wanted = at(1, 2, 3, tag="a") + b'{"note": "stays"}\n{"note": "early"}\n' + at(4, 5, 6, tag="b")
    assert joined(home) == wanted
    assert home.metrics_position(1) == len(b'{"note": "early"}\n' + at(4, 5, 6, tag="b"))


def test_a_fenced_segment_adds_nothing(home: Home) -> None:
    home.append_metrics(at(1), 0)
    home.close_segments(1)
    home.append_metrics(at(2), 0)
    assert joined(home) == at(1)


@pytest.mark.parametrize("lost", ["all", "end", "link"])
def test_the_joined_file_is_made_anew_from_what_is_home(home: Home, tmp_path: Path, lost: str) -> None:
    home.append_metrics(at(1, 2, 3), 0)
    home.append_metrics(at(2, 4), 1)
    home.unlock()
    path = home.path / "metrics.jsonl"
    whole = path.read_bytes()
    if lost == "end":
        path.write_bytes(whole[:-5])
    else:
        path.unlink()
    if lost == "link":
        (tmp_path / "elsewhere").write_bytes(b"precious")
        path.symlink_to(tmp_path / "elsewhere")
    with home.writer():
        assert joined(home) == whole == at(1) + at(2, 4)
        assert not path.is_symlink()
        home.try_lock()
    assert lost != "link" or (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_a_torn_line_at_home_is_fetched_again(home: Home) -> None:
    home.append_metrics(at(1, 2), 0)
    home.unlock()
    with (home.path / ".launcher/metrics.0.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "lo')
    with home.writer():
        assert home.metrics_position(0) == len(at(1, 2))
        home.append_metrics(at(3), 0)
        assert joined(home) == at(1, 2, 3)
        home.try_lock()


def test_the_whole_file_at_the_end_is_what_counts(home: Home) -> None:
    home.append_metrics(at(1, 2, 3, tag="a"), 0)
    home.close_segments(1)
    home.append_metrics(at(3), 1)
    data = at(3, 4) + b'{"step": 5, "no": "line end"}'
    artifact = output("metrics.jsonl", data)
    assert home.missing(1, [artifact]) == [artifact]
    assert home.publish(artifact, giving(data), 1) == home.path / "metrics.jsonl"
    assert joined(home) == at(1, 2, tag="a") + data + b"\n"
    assert home.missing(1, [artifact]) == []


def test_an_endless_line_is_refused(home: Home) -> None:
    with pytest.raises(IntegrityError, match="more than 1 MiB"):
        home.append_metrics(b"x" * (2 << 20), 0)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"step": 7, "loss": 1}', 7),
        (b'{"step":7}', 7),
        (b'{"loss": 1, "step": 1e3}', 1000.0),
        (b'{"step": "7"}', None),
        (b'{"step": true}', None),
        (b'{"step": NaN}', None),
        (b'{"step": 7', None),
        (b"[7]", None),
        (b"", None),
    ],
)
def test_a_step_is_a_number(line: bytes, found: float | None) -> None:
    assert step(line) == found


def test_three_segments_join_in_their_order() -> None:
    a, b, c = ([b'{"step":%d}\n' % n for n in steps] for steps in ([1, 2, 3, 4], [3, 4, 5, 6], [2, 3]))
    assert join([a, b, c]) == [*a[:1], *c]
    assert join([a, [], [b"x\n"], b]) == [*a[:2], b"x\n", *b]
