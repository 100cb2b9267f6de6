"""A server that lies: nothing wrong is published, nothing outside is touched, nothing is fetched for ever."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError
from launcher.run import Artifact, File
from launcher.vault import Home
from tests.vault.helpers import checkpoint, folder, giving, output, sha

HIDDEN = ".launcher"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("precious")
    home = Home(tmp_path / "in" / "r")
    with home.writer():
        yield home
        snapshot = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} - {"in", "in/r"}
        assert {p for p in snapshot if not p.startswith("in/r/")} == {"outside", "outside/precious"}
        assert (tmp_path / "outside/precious").read_text() == "precious"


def published(home: Home) -> list[str]:
    found = (p.relative_to(home.path) for p in home.path.rglob("*") if not p.is_dir() or p.is_symlink())
    return sorted(str(p) for p in found if p.parts[0] not in (HIDDEN, records.LOG))


def never(path: str, offset: int) -> Iterator[bytes]:
    raise AssertionError("nothing of it should have been asked for")


NAMES = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../r2/x",
    "a/../../x",
    "a/..",
    "a//b",
    "a/",
    "./a",
    "a/.",
    "nul\0",
    "\ud800",
    "x" * 3000,
    "/".join("x" * 100),
    "~/x/../..",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [output, checkpoint])
def test_a_name_that_leads_elsewhere_is_refused(
    home: Home, name: str, make: Callable[[str, bytes], Artifact]
) -> None:
    with pytest.raises(IntegrityError):
        home.publish(make(name, b"x"), never, 0)
    assert published(home) == []


BASE = checkpoint("a", b"abc")
FILE = BASE.files[0]
TREE = folder("f", {"x": b"1", "y/z": b"2"})


def with_files(*files: File) -> Artifact:
    below = [(f.path.removeprefix("checkpoints/f/"), f.size_bytes, f.sha256) for f in files]
    return replace(TREE, files=files, digest=records.tree_digest(below))


SHAPES: dict[str, Any] = {
    "a kind of its own": replace(BASE, kind="config"),
    "a negative number": replace(BASE, number=-1),
    "a number that is none": replace(BASE, number="1"),
    "no files": replace(BASE, files=()),
    "two files that are no folder": replace(BASE, files=(FILE, FILE)),
    "another digest": replace(BASE, digest=sha(b"other")),
    "a negative size": replace(BASE, files=(replace(FILE, size_bytes=-1),)),
    "a size that is none": replace(BASE, files=(replace(FILE, size_bytes=3.0),)),
    "a size beyond all disks": replace(BASE, files=(replace(FILE, size_bytes=1 << 60),)),
    "a hash that is a path": replace(BASE, digest="../x", files=(replace(FILE, sha256="../x"),)),
    "a hash in capitals": replace(
        BASE, digest=FILE.sha256.upper(), files=(replace(FILE, sha256=FILE.sha256.upper()),)
    ),
    "a short hash": replace(BASE, digest="ab", files=(replace(FILE, sha256="ab"),)),
    "a file of another name": replace(BASE, files=(replace(FILE, path="checkpoints/b"),)),
    "a checkpoint elsewhere": replace(BASE, files=(replace(FILE, path="a"),)),
    "a checkpoint in a folder": checkpoint("deep/a", b"abc"),
    "an output among the checkpoints": output("checkpoints/a", b"abc"),
    "an output that is a folder": replace(TREE, kind="output"),
    "a file twice": with_files(*TREE.files, TREE.files[0]),
    "a file that is a folder, too": with_files(*TREE.files, replace(TREE.files[0], path="checkpoints/f/y")),
    "a file outside of its folder": with_files(replace(TREE.files[0], path="checkpoints/g/x")),
    "a file that climbs out": with_files(replace(TREE.files[0], path="checkpoints/f/../../../x")),
    "a folder with another digest": replace(TREE, digest=sha(b"")),
    "a million files": with_files(*(File(f"checkpoints/f/{n}", 0, sha(b"")) for n in range(100_001))),
}


@pytest.mark.parametrize("what", SHAPES)
def test_what_does_not_fit_together_is_refused_before_a_byte_is_asked_for(home: Home, what: str) -> None:
    with pytest.raises(IntegrityError):
        home.publish(SHAPES[what], never, 0)
    assert published(home) == []


def endless(path: str, offset: int) -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


STREAMS = {
    "other bytes": giving(b"abd"),
    "nothing": giving(b""),
    "too little": giving(b"ab"),
    "too much": giving(b"abcd"),
    "endless bytes": endless,
    "one huge block": giving(b"x" * 50_000_000, block=50_000_000),
}


@pytest.mark.parametrize("what", STREAMS)
def test_wrong_bytes_are_never_published(home: Home, what: str) -> None:
    for artifact in (BASE, checkpoint("best", b"abc", 2), output("model", b"abc", 3)):
        with pytest.raises(IntegrityError, match="is not the announced"):
            home.publish(artifact, STREAMS[what], 0)
    assert published(home) == []
    assert home.checkpoints() == []
    sizes = [p.stat().st_size for p in (home.path / HIDDEN / "partial").iterdir()]
    assert sum(sizes) <= 3
    home.publish(BASE, giving(b"abc"), 0)
    assert published(home) == ["checkpoints/a"]


def test_one_wrong_file_keeps_its_whole_folder_away(home: Home) -> None:
    with pytest.raises(IntegrityError):
        home.publish(TREE, giving({"checkpoints/f/x": b"1", "checkpoints/f/y/z": b"3"}), 0)
    assert published(home) == []
    asked: list[str] = []

    def opener(path: str, offset: int) -> Iterator[bytes]:
        asked.append(path)
        yield b"2"

    home.publish(TREE, opener, 0)
    assert asked == ["checkpoints/f/y/z"]
    assert published(home) == ["checkpoints/f/x", "checkpoints/f/y/z"]


def test_wrong_bytes_leave_the_older_version_standing(home: Home) -> None:
    home.publish(BASE, giving(b"abc"), 0)
    with pytest.raises(IntegrityError):
        home.publish(checkpoint("a", b"xyz", 2), giving(b"xyx"), 0)
    assert (home.path / "checkpoints/a").read_bytes() == b"abc"
    assert [c.number for c in home.checkpoints()] == [1]


def test_files_in_another_order_than_asked_for_are_refused(home: Home) -> None:
    def reader(wanted: Any) -> Iterator[tuple[int, bytes]]:
        yield 1, b"b"
        yield 0, b"a"

    with pytest.raises(IntegrityError):
        home.publish_all([output("a", b"a", 1), output("b", b"b", 2)], reader, 0)
    assert published(home) == []


LINKS = ["checkpoints", "plots", "plots/deep", HIDDEN + "/partial", HIDDEN + "/staging"]


@pytest.mark.parametrize("place", LINKS)
def test_a_planted_link_leads_nowhere(home: Home, tmp_path: Path, place: str) -> None:
    home.unlock()
    link = home.path / place
    if link.is_dir():
        link.rmdir()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "outside")

    def publish() -> None:
        with home.writer():
            home.publish(BASE, giving(b"abc"), 0)
            home.publish(output("plots/deep/precious", b"x", 2), giving(b"x"), 0)

    with pytest.raises(LauncherError, match="link"):
        publish()
    assert sorted(os.listdir(tmp_path / "outside")) == ["precious"]
    link.unlink()
    assert home.try_lock()


@pytest.mark.parametrize("name", ["index.jsonl", "lock", "metrics.0.jsonl"])
def test_a_link_among_our_own_files_is_refused(home: Home, tmp_path: Path, name: str) -> None:
    home.unlock()
    link = home.path / HIDDEN / name
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "outside/precious")
    with pytest.raises(LauncherError, match="a link or a file is in the way"):
        home.try_lock()
    link.unlink()
    assert home.try_lock()


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo"])
@pytest.mark.parametrize("name", ["checkpoints/a", "capsule.json", "partial"])
def test_what_stands_under_the_final_name_is_replaced_never_followed(
    home: Home, tmp_path: Path, kind: str, name: str
) -> None:
    path = home.path / (f"{HIDDEN}/partial/{FILE.sha256}" if name == "partial" else name)
    path.parent.mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "outside" / ("precious" if kind == "link" else "new"))
    home.write_capsule({"id": "a"})
    with_link = name == "partial"
    try:
        home.publish(BASE, giving(b"abc"), 0)
    except LauncherError:
        assert with_link
        path.unlink()
        home.publish(BASE, giving(b"abc"), 0)
    assert stat.S_ISREG((home.path / "checkpoints/a").lstat().st_mode)
    assert stat.S_ISREG((home.path / "capsule.json").lstat().st_mode)
    assert (home.path / "checkpoints/a").read_bytes() == b"abc"


def test_a_folder_of_the_user_is_not_replaced(home: Home) -> None:
    (home.path / "plots").mkdir()
    (home.path / "plots/mine.txt").write_text("mine")
    with pytest.raises(LauncherError, match="in the way"):
        home.publish(output("plots", b"x"), giving(b"x"), 0)
    assert (home.path / "plots/mine.txt").read_text() == "mine"
    assert (home.path / "plots").is_dir()


def test_a_link_in_an_old_folder_is_removed_not_followed(home: Home, tmp_path: Path) -> None:
    home.publish(TREE, giving({"checkpoints/f/x": b"1", "checkpoints/f/y/z": b"2"}), 0)
    (home.path / "checkpoints/f/link").symlink_to(tmp_path / "outside")
    home.publish(folder("f", {"x": b"3"}, 2), giving(b"3"), 0)
    assert published(home) == ["checkpoints/f/x"]


def test_nothing_is_opened_for_writing_outside(tmp_path: Path) -> None:
    """The kernel's word: every file made or renamed while hostile and good things come lies in the run's folder."""
    program = """
import sys
from tests.vault.helpers import checkpoint, folder, giving, output
from tests.vault.test_hostile import NAMES, SHAPES
from launcher.vault import Home
from launcher.errors import LauncherError
home = Home(sys.argv[1])
with home.writer():
    everything = [output(n, b"x", 50) for n in NAMES] + list(SHAPES.values())
    everything += [checkpoint("good", b"x"), folder("f", {"deep/x": b"x"}, 2), output("a/b", b"x", 3)]
    for artifact in everything:
        try:
            home.publish(artifact, giving(b"x"), 0)
        except LauncherError:
            pass
"""
    trace, target = tmp_path / "trace", tmp_path / "in" / "r"
    calls = "trace=openat,mkdirat,mkdir,renameat,renameat2,rename,linkat,symlinkat"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", calls, sys.executable, "-B", "-c", program]
    subprocess.run([*command, str(target)], check=True)
    happened = [line for line in trace.read_text().splitlines() if " = -1 " not in line]
    made = [line for line in happened if re.search("O_CREAT|O_WRONLY|O_RDWR|rename|mkdir|link", line)]
    made = [line for line in made if "/dev/" not in line]
    outside = [line for line in made if str(target) not in line and f'"{target.parent}"' not in line]
    assert len(made) > 15
    assert outside == []


def test_publishing_from_two_threads_is_one_after_the_other(home: Home) -> None:
    artifacts = [checkpoint(f"e{n}", b"%d" % n * 1000, n) for n in range(20)]
    errors: list[BaseException] = []

    def work(mine: list[Artifact]) -> None:
        try:
            for artifact in mine:
                home.publish(artifact, giving(b"%d" % artifact.number * 1000), 0)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(artifacts[n::3],)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(home.checkpoints()) == 20
