"""What goes over the wire for data: only contents that the machine lacks, and what was in flight once more."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.data.source import Source, keep
from launcher.data.take import take
from launcher.errors import Refused, Unreachable
from launcher.hosts.local import LocalHost
from launcher.hosts.steward import Channel, Steward
from launcher.runner.sources import result
from launcher.target import Step
from launcher.targets.data import bring, lacking


class Counting:
    """A channel that counts what is written, and breaks after so many bytes."""

    def __init__(self, channel: Channel, limit: int | None = None) -> None:
        self._channel, self._limit = channel, limit
        self.sent = 0

    def read(self, size: int, least: int = 1) -> bytes:
        return self._channel.read(size, least)

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        if self._limit is not None and self.sent > self._limit:
            raise Unreachable("cut")
        self._channel.write(data)

    def close(self) -> None:
        self._channel.close()

    def last_words(self) -> str:
        return self._channel.last_words()


class Bench:
    """A source here and a machine's root, to which new connections are made."""

    def __init__(self, folder: Path) -> None:
        self.source, self.root, self._kept = folder / "source", folder / "root", folder / "kept"
        self._host = LocalHost(self.root)
        self._host.steward()  # puts the agent there

    def taken(self) -> Source:
        files = result(take(self.source, self._kept))
        digest = keep(self._kept, files)
        size = sum(size for _, size, _ in files)
        return Source("train", str(self.source), self._kept, digest, len(files), size)

    def bring(self, source: Source, limit: int | None = None) -> tuple[int, list[Step]]:
        """Bytes that went out, and the steps."""
        agent = str(self.root / self._host.agent_path())
        words = ["python3", "-I", "-B", agent, "serve", "--root", str(self.root)]
        channel = Counting(self._host.channel(words), limit)
        steward = Steward(channel)
        steps = []
        try:
            for step in bring(steward, [source]):
                steps.append(step)
        finally:
            steward.close()
        return channel.sent, steps

    def lacking(self, source: Source) -> dict[str, int]:
        return lacking(self._host.steward(), [source])

    def whole(self, source: Source) -> bool:
        answer: Any = self._host.steward().call("data_have", digests=[source.digest])
        return answer["whole"] == [True]

    def close(self) -> None:
        self._host.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    (made.source / "many").mkdir(parents=True)
    for n in range(1000):
        (made.source / "many" / f"{n:04}").write_bytes(os.urandom(2000))
    (made.source / "large").write_bytes(os.urandom(5 << 20))
    (made.source / "twin").write_bytes((made.source / "large").read_bytes())
    yield made
    made.close()


CONTENT = 1000 * 2000 + (5 << 20)
LISTS = 1000 * 250  # what is said about a file: its name, size and hash, twice


def test_contents_travel_once_and_then_only_what_changed(bench: Bench) -> None:
    source = bench.taken()
    assert bench.lacking(source) == {"train": CONTENT}

    sent, steps = bench.bring(source)

    assert CONTENT < sent < CONTENT + LISTS
    assert bench.whole(source)
    assert [s.done_bytes for s in steps] == [*sorted(s.done_bytes for s in steps[:-1]), 1]
    assert (steps[-1].done_bytes, steps[-1].total_bytes) == (1, 1)
    assert bench.bring(source)[0] < 500

    (bench.source / "many" / "0500").write_bytes(os.urandom(3000))
    (bench.source / "many" / "0501").rename(bench.source / "moved")
    again = bench.taken()
    assert bench.lacking(again) == {"train": 3000}
    assert 3000 < bench.bring(again)[0] < 3000 + LISTS
    assert bench.whole(again)
    assert bench.whole(source)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
def test_a_cut_upload_goes_on_and_loses_only_what_was_in_flight(bench: Bench, share: float) -> None:
    source = bench.taken()
    limit = int(CONTENT * share)
    with pytest.raises(Unreachable):
        bench.bring(source, limit)
    assert not bench.whole(source)

    sent, _ = bench.bring(source)

    assert sent < CONTENT - limit + LISTS + (3 << 20)
    assert bench.whole(source)


def test_a_file_that_changes_before_it_is_sent_is_named_and_nothing_gets_its_name(bench: Bench) -> None:
    source = bench.taken()
    (bench.source / "many" / "0007").write_bytes(b"x" * 2000)
    (bench.source / "large").unlink()
    (bench.source / "twin").unlink()

    with pytest.raises(Refused, match=r"data train has changed since the run: many/0007, twin$"):
        bench.bring(source)

    assert not bench.whole(source)
    assert not (bench.root / "data" / "blobs" / hashlib.sha256(b"x" * 2000).hexdigest()).exists()


def test_at_most_five_of_those_that_changed_are_named(bench: Bench) -> None:
    source = bench.taken()
    for n in range(9):
        (bench.source / "many" / f"{n:04}").write_bytes(b"x")
    with pytest.raises(Refused, match=r"many/0000, .*many/0004 and 4 more$"):
        bench.bring(source)
