"""A source is hashed once, and again only where stat says that something may have changed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.agent import records
from launcher.data import seen
from launcher.data.source import Source, contents, keep
from launcher.data.take import changed, take
from launcher.errors import IntegrityError, SpecError


def taken(source: Path, kept: Path) -> tuple[list[Any], int]:
    """The contents, and how many bytes were announced to be hashed."""
    steps, announced = take(source, kept), 0
    while True:
        try:
            _, announced = next(steps)
        except StopIteration as end:
            return end.value, announced


def take_often(source: Path, kept: Path) -> None:
    for _ in range(50):  # one look may fall between two writes
        taken(source, kept)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    for n in range(300):
        (folder / "sub" / f"{n:03}").write_bytes(b"%d" % n)
    (folder / "large").write_bytes(os.urandom(9 << 20))
    return folder


def settle(kept: Path, source: Path, years: float = 1) -> None:
    """As if the hashes had been taken long after the last write."""
    known = seen.load(kept, str(source))
    later = time.time_ns() + int(years * 3e16)
    seen.save(kept, str(source), {p: seen.Seen(s.identity, s.sha256, later) for p, s in known.items()})


def poison(kept: Path) -> None:
    """Other hashes in the cache: whoever reads them has not read the file."""
    for path in (kept / "seen").iterdir():
        value = json.loads(path.read_bytes())
        value["files"] = {p: [*line[:4], "0" * 64, line[5]] for p, line in value["files"].items()}
        path.write_text(json.dumps(value))


def test_every_file_is_hashed(source: Path, tmp_path: Path) -> None:
    files, _ = taken(source, tmp_path / "kept")
    assert len(files) == 301
    for path, size, sha256 in files:
        data = (source / path).read_bytes()
        assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_an_unchanged_source_is_not_read_again(source: Path, tmp_path: Path) -> None:
    taken(source, tmp_path / "kept")
    settle(tmp_path / "kept", source)
    poison(tmp_path / "kept")

    again, _ = taken(source, tmp_path / "kept")

    assert {sha256 for _, _, sha256 in again} == {"0" * 64}


def test_a_file_written_just_before_it_was_hashed_is_read_again(source: Path, tmp_path: Path) -> None:
    first, _ = taken(source, tmp_path / "kept")
    poison(tmp_path / "kept")
    assert taken(source, tmp_path / "kept")[0] == first


def test_only_what_changed_is_read_again(source: Path, tmp_path: Path) -> None:
    first, _ = taken(source, tmp_path / "kept")
    settle(tmp_path / "kept", source)
    poison(tmp_path / "kept")
    before = (source / "sub/007").stat()
    (source / "sub/007").write_bytes(b"X")  # as long as before, and with the same time
    os.utime(source / "sub/007", ns=(before.st_atime_ns, before.st_mtime_ns))

    again = {path: sha256 for path, _, sha256 in taken(source, tmp_path / "kept")[0]}

    assert again["sub/007"] == hashlib.sha256(b"X").hexdigest()
    assert [path for path, sha256 in again.items() if sha256 != "0" * 64] == ["sub/007"]
    assert len(first) == len(again)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"v":1,"files":{"a":[]}}', '{"v":1,"files":[1]}', '{"v":99}']
)
def test_a_damaged_cache_only_costs_time(source: Path, tmp_path: Path, text: str) -> None:
    first, _ = taken(source, tmp_path / "kept")
    for path in (tmp_path / "kept" / "seen").iterdir():
        path.write_text(text)
    assert taken(source, tmp_path / "kept")[0] == first


def test_a_file_that_changes_meanwhile_is_one_line(source: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        with (source / "large").open("r+b") as file:
            while not stop.is_set():
                file.seek(0)
                file.write(os.urandom(16))
                file.flush()
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(SpecError, match="large changed while it was hashed"):
            take_often(source, tmp_path / "kept")
    finally:
        stop.set()
        writer.join()


def test_the_list_is_kept_under_its_digest(source: Path, tmp_path: Path) -> None:
    files, _ = taken(source, tmp_path / "kept")
    digest = keep(tmp_path / "kept", files)
    assert digest == records.tree_digest(files)
    found = Source("train", str(source), tmp_path / "kept", digest, len(files), 1)
    assert contents(found) == files
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700

    (tmp_path / "kept" / f"{digest}.json").write_text("[]")
    with pytest.raises(IntegrityError, match="cannot be used"):
        contents(found)


def test_what_differs_from_a_recorded_list_is_named(source: Path, tmp_path: Path) -> None:
    files, _ = taken(source, tmp_path / "kept")
    recorded = Source("train", str(source), tmp_path / "kept", records.tree_digest(files), len(files), 1)
    assert changed(recorded, files) == []
    (source / "sub/001").write_text("other")
    (source / "sub/002").unlink()
    (source / "sub/003").write_text("3")  # written again, and the same
    (source / "new").write_text("not recorded")
    assert changed(recorded, files) == ["sub/001", "sub/002"]
