"""A run's home after a kill at any moment, on a full disk, and with two who want to write it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.run import Artifact
from launcher.vault import Home, digest_of
from tests.crash import kill_at, points, some
from tests.vault.helpers import checkpoint, folder, giving, lines, output

POINTS = 40

OLD = [
    checkpoint("last", b"last 1" * 500, 1),
    folder("step", {"w": b"w1" * 500, "deep/s": b"s1"}, 2),
    output("plots/a", b"plot 1", 3),
    checkpoint("e1", b"e1", 4),
]
NEW = [
    checkpoint("last", b"last 2" * 500, 5),
    folder("step", {"w": b"w2" * 700, "deep/s": b"s1", "deep/t": b"w2" * 700}, 6),
    output("plots", b"plot 2", 7),
    checkpoint("e2", b"e2", 8),
]
CONTENTS = {
    "checkpoints/last": b"last %d" * 500,
    "checkpoints/step/w": b"w2" * 700,
    "checkpoints/step/deep/s": b"s1",
    "checkpoints/step/deep/t": b"w2" * 700,
    "plots": b"plot 2",
    "plots/a": b"plot 1",
    "checkpoints/e1": b"e1",
    "checkpoints/e2": b"e2",
}

PROGRAM = """
import sys
from tests.vault.test_crash import bring_new
bring_new(sys.argv[1])
"""


def bring_old(path: str | Path) -> None:
    contents = {**CONTENTS, "checkpoints/last": b"last 1" * 500, "checkpoints/step/w": b"w1" * 500}
    home = Home(path, keep=3)
    with home.writer():
        for artifact in OLD:
            home.publish(artifact, giving(contents), 0)
        home.append_log(lines(1, 5), 0)
        home.append_metrics(b'{"step": 1}\n{"step": 2}\n', 0)


def bring_new(path: str | Path) -> None:
    """What a second segment does that goes on from wherever this was stopped before."""
    contents = {**CONTENTS, "checkpoints/last": b"last 2" * 500}
    log, metrics = lines(6, 5, segment=1), b'{"step": 2, "again": 1}\n{"step": 3}\n'
    home = Home(path, keep=3)
    with home.writer():
        home.close_segments(1)
        for part in range(2):
            home.append_log(log[home.position(1) : len(log) // 2 + part * len(log)], 1)
            home.append_metrics(metrics[home.metrics_position(1) : 24 + part * 24], 1)
            for artifact in (
                home.missing(1, NEW)[part * 2 : part * 2 + 2] if not part else home.missing(1, NEW)
            ):
                home.publish(artifact, giving(contents, block=500), 1)
        home.write_capsule({"id": "r"})


def test_a_kill_at_any_write_leaves_the_old_or_the_new_and_never_neither(tmp_path: Path) -> None:
    bring_old(tmp_path / "old")
    _copy(tmp_path / "old", tmp_path / "whole")
    found = points(PROGRAM, [str(tmp_path / "whole")], tmp_path / "trace")
    expected = _all(tmp_path / "whole")
    assert len(found) > 2 * POINTS
    for point in some(found, POINTS):
        path = tmp_path / "r"
        _copy(tmp_path / "old", path)
        kill_at(point, PROGRAM, [str(path)])
        _check_whole(path)
        bring_new(path)
        assert _all(path) == expected, point
        assert os.listdir(path / ".launcher/staging") == os.listdir(path / ".launcher/partial") == [], point
        shutil.rmtree(path)


def _check_whole(path: Path) -> None:
    """As anyone would find it, before launcher has mended anything."""
    old, new = ({a.name: a.digest for a in artifacts} for artifacts in (OLD, NEW))
    assert digest_of(path / "checkpoints/last") in (old["last"], new["last"])
    assert digest_of(path / "checkpoints/step") in (old["step"], new["step"])
    plots = path / "plots"
    assert plots.read_bytes() == b"plot 2" if plots.is_file() else (plots / "a").read_bytes() == b"plot 1"
    for artifact in Home(path).checkpoints():
        assert digest_of(artifact.path) == artifact.digest
    newest = Home(path).newest_checkpoint()
    assert newest
    assert newest.order >= (0, 4)
    assert (path / "log.jsonl").read_bytes().startswith(lines(1, 5))
    metrics = (path / "metrics.jsonl").read_bytes()
    joined = b'{"step": 1}\n{"step": 2, "again": 1}\n{"step": 3}\n'
    assert metrics == b'{"step": 1}\n{"step": 2}\n' or joined.startswith(metrics)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _all(path: Path) -> dict[str, bytes]:
    files = (p for p in path.rglob("*") if p.is_file() and ".launcher" not in p.parts)
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def test_the_end_of_the_undisturbed_run_is_what_was_meant(tmp_path: Path) -> None:
    bring_old(tmp_path / "r")
    bring_new(tmp_path / "r")
    found = _all(tmp_path / "r")
    assert found.pop("log.jsonl") == lines(1, 5) + lines(6, 5, segment=1)
    assert found.pop("metrics.jsonl") == b'{"step": 1}\n{"step": 2, "again": 1}\n{"step": 3}\n'
    assert b'"id": "r"' in found.pop("capsule.json")
    wanted = ["last", "step/w", "step/deep/s", "step/deep/t", "e2"]
    assert set(found) == {"plots", *(f"checkpoints/{name}" for name in wanted)}
    assert found["checkpoints/step/deep/t"] == b"w2" * 700


def test_where_names_cannot_be_exchanged_the_next_writer_finishes(tmp_path: Path) -> None:
    """A filesystem without RENAME_EXCHANGE: several renames instead of one, killed at each."""
    failing = "renameat2:error=EINVAL"
    bring_old(tmp_path / "old")
    _copy(tmp_path / "old", tmp_path / "whole")
    found = points(PROGRAM, [str(tmp_path / "whole")], tmp_path / "trace", failing)
    expected = _all(tmp_path / "whole")
    renames = [point for point in found if point.call in ("rename", "renameat")]
    assert len(renames) > 10
    for point in renames:
        path = tmp_path / "r"
        _copy(tmp_path / "old", path)
        kill_at(point, PROGRAM, [str(path)], failing)
        with Home(path).writer():
            _check_whole(path)
        bring_new(path)
        assert _all(path) == expected, point
        shutil.rmtree(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=60", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_what_came_is_kept(small_disk: Path) -> None:
    data = os.urandom(1_500_000)
    artifact = checkpoint("big", data)
    home = Home(small_disk / "r")
    filler = small_disk / "filler"

    def filling(path: str, offset: int) -> Iterator[bytes]:
        for start in range(offset, len(data), 100_000):
            if start == 1_000_000:
                filler.write_bytes(b"x" * 900_000)  # somebody else takes the rest of the disk
            yield data[start : start + 100_000]

    with home.writer():
        with pytest.raises(LauncherError, match=f"the disk at {small_disk} is full") as e:
            home.publish(artifact, filling, 0)
        assert "free some space" in e.value.hint
        assert not (home.path / "checkpoints/big").exists()
        kept = home.partial_size(artifact.files[0])
        assert kept >= 900_000
        filler.unlink()
        offsets = []

        def rest(path: str, offset: int) -> Iterator[bytes]:
            offsets.append(offset)
            return giving(data)(path, offset)

        home.publish(artifact, rest, 0)
        assert offsets == [kept]
    assert (home.path / "checkpoints/big").read_bytes() == data


def test_what_cannot_fit_is_not_begun(small_disk: Path) -> None:
    def never(path: str, offset: int) -> Iterator[bytes]:
        raise AssertionError("nothing should have been asked for")

    home = Home(small_disk / "r")
    huge = checkpoint("huge", b"x")
    file = type(huge.files[0])("checkpoints/huge", 1 << 50, huge.digest)
    with home.writer():
        with pytest.raises(LauncherError, match=r"full: it has .* left, 1125899906\.8 MB are needed"):
            home.publish(Artifact(1, "checkpoint", "huge", (file,), huge.digest, 1 << 50), never, 0)
        assert os.listdir(home.path / ".launcher/partial") == []


def test_a_log_that_does_not_fit_is_taken_back_to_its_last_whole_block(small_disk: Path) -> None:
    home = Home(small_disk / "r")
    block = lines(1, 10_000)
    with home.writer():
        home.append_log(lines(1, 5000), 0)
        with pytest.raises(LauncherError, match="is full"):
            home.append_log(lines(5001, 15_000), 0)
        assert home.last_seq == 5000
        home.append_log(lines(5001, 5000), 0)
    assert home.log_path.read_bytes() == block


def test_a_disk_without_room_for_more_files_says_so(small_disk: Path) -> None:
    home = Home(small_disk / "r")

    def publish_many() -> None:
        for n in range(100):
            home.publish(output(f"o{n}", b"%d" % n, n), giving(b"%d" % n), 0)

    with home.writer():
        with pytest.raises(LauncherError, match="no room for more files"):
            publish_many()
        came = len(home.outputs())
        assert 20 < came < 60
        (home.path / "o0").unlink()
        (home.path / "o1").unlink()
        home.publish(output("late", b"x", 1000), giving(b"x"), 0)
        assert len(home.outputs()) == came - 1


def test_who_waits_takes_over_when_the_writer_is_killed(tmp_path: Path) -> None:
    program = """
import sys, time
from launcher.vault import Home
from tests.vault.helpers import lines
home = Home(sys.argv[1])
with home.writer():
    home.append_log(lines(1, 3), 0)
    print("holding", flush=True)
    time.sleep(60)
"""
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "r")], stdout=subprocess.PIPE)
    assert writer.stdout
    assert writer.stdout.readline() == b"holding\n"
    home = Home(tmp_path / "r")
    assert not home.try_lock()
    assert home.tail(0)[1] == lines(1, 3)
    writer.kill()
    writer.wait()
    writer.stdout.close()
    begin = time.monotonic()
    with home.writer():
        assert home.last_seq == 3
    assert time.monotonic() - begin < 1


def test_two_who_write_in_turn_lose_nothing(tmp_path: Path) -> None:
    program = """
import sys
from launcher.vault import Home
from tests.vault.helpers import checkpoint, giving, lines
me = int(sys.argv[2])
home = Home(sys.argv[1])
for n in range(12):
    with home.writer():
        home.append_log(lines(home.last_seq + 1, 7), 0)
        number = home.last_seq
        home.publish(checkpoint(f"e{number}", b"%d" % number, number), giving(b"%d" % number), 0)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "r")]
    processes = [subprocess.Popen([*command, str(n)]) for n in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    home = Home(tmp_path / "r")
    assert home.log_path.read_bytes() == lines(1, 2 * 12 * 7)
    assert [c.name for c in home.checkpoints()] == [f"e{7 * n}" for n in range(1, 25)]
