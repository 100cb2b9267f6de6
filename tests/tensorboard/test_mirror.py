"""A segment's event files, followed: whole, anew when replaced, and never outside the scratch folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.errors import IntegrityError
from launcher.hosts.steward import Steward
from launcher.target import Range
from launcher.targets.folder import MachineFolder
from launcher.tensorboard import mirror as mirrors
from launcher.tensorboard.mirror import Look, Mirror
from launcher.tensorboard.shown import Shown


@dataclass
class Place:
    """A segment's folder on this machine, followed through a real steward."""

    out: Path
    folder: MachineFolder
    mirror: Mirror

    def look(self) -> Look:
        return self.mirror.look(self.folder)  # type: ignore[arg-type]

    def here(self) -> dict[str, bytes]:
        return contents(self.mirror.folder)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def place(steward: Steward, tmp_path: Path) -> Place:
    out = tmp_path / "segment" / "out"
    out.mkdir(parents=True)
    folder = MachineFolder(steward, str(out.parent), None)
    return Place(out, folder, Mirror(tmp_path / "scratch" / "run", tmp_path / "scratch" / "raw.jsonl"))


def test_event_files_at_any_depth_are_copied_as_they_grow(place: Place) -> None:
    path = place.out / "tb" / "val" / "events.out.tfevents.1.host"
    path.parent.mkdir(parents=True)
    (place.out / "model.bin").write_bytes(b"no event file")
    path.write_bytes(b"one")
    assert place.look() == Look(True, False, False)
    assert place.look() == Look(False, False, False)
    with path.open("ab") as file:
        file.write(b" two")
    place.look()
    assert place.here() == {"tb/val/events.out.tfevents.1.host": b"one two"}


def test_a_segment_without_outputs_yet_is_empty(place: Place) -> None:
    place.out.rmdir()
    assert place.look() == Look(False, False, False)


def test_a_large_file_comes_in_pieces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "PIECE_BYTES", 1000)
    data = os.urandom(2500)
    (place.out / "tfevents").write_bytes(data)
    assert [place.look().more for _ in range(3)] == [True, True, False]
    assert place.here() == {"tfevents": data}


@pytest.mark.parametrize("new", [b"B", b"BB" * 100, b"B" * 100])
def test_a_file_that_shrank_or_was_replaced_is_copied_anew(place: Place, new: bytes) -> None:
    path = place.out / "tfevents"
    path.write_bytes(b"A" * 100)
    place.look()
    (place.out / "new").write_bytes(new)
    os.replace(place.out / "new", path)
    os.utime(path, (1, 1))
    while place.look().more:
        pass
    assert place.here() == {"tfevents.1": new}
    path.write_bytes(b"C" * 300)
    while place.look().more:
        pass
    assert place.here() == {"tfevents.2": b"C" * 300}


def test_links_are_not_followed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tfevents").write_bytes(b"secret")
    (place.out / "linked").symlink_to(tmp_path / "elsewhere")
    (place.out / "tfevents").symlink_to(tmp_path / "elsewhere" / "tfevents")
    place.look()
    assert place.here() == {}


def test_the_copy_is_never_written_through_a_link_to_home(place: Place, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "tfevents").write_bytes(b"of the first segment")
    shown = Shown("run", home, tmp_path / "shown")
    shown.link_home()
    assert contents(shown.folder) == {"tfevents": b"of the first segment"}
    (place.out / "tfevents").write_bytes(b"of the second")
    shown.look(1, place.folder)  # type: ignore[arg-type]
    assert (home / "tfevents").read_bytes() == b"of the first segment"
    assert contents(shown.folder) == {"tfevents.1": b"of the second"}


@dataclass
class Hostile:
    """A folder that says what it likes."""

    files: dict[str, int]
    data: bytes = b"x"
    asked: list[Range] = field(default_factory=list)

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        return [(name, size, 0.0) for name, size in self.files.items()]

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        self.asked = list(wanted)
        for index, one in enumerate(wanted):
            if one.length:
                yield index, self.data


NAMES = ["../tfevents", "/etc/tfevents", "a/../../tfevents", "a//tfevents", "./tfevents", "tf\0events", ""]
NAMES += [
    "tfevents\n",
    "tfevents\x1b[2J",
    "tfevents\udcff",
    "x" * 300 + "tfevents",
    "d/" * 20 + "tfevents",
    "..",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_left_out(place: Place, tmp_path: Path, name: str) -> None:
    before = contents(tmp_path)
    hostile = Hostile({name: 1})
    assert place.mirror.look(hostile) == Look(False, False, True)  # type: ignore[arg-type]
    assert (hostile.asked, contents(tmp_path)) == ([], before)


def test_metrics_below_the_top_are_not_the_jobs(place: Place) -> None:
    place.mirror.look(Hostile({"deep/metrics.jsonl": 1}))  # type: ignore[arg-type]
    assert place.mirror.metrics_now() is None


def test_more_bytes_than_were_asked_for_are_refused(place: Place) -> None:
    with pytest.raises(IntegrityError, match="more than it was asked for"):
        place.mirror.look(Hostile({"tfevents": 3}, b"four"))  # type: ignore[arg-type]


def test_a_size_without_bytes_does_not_keep_us_busy(place: Place) -> None:
    hostile = Hostile({"tfevents": 1 << 60}, b"")
    assert place.mirror.look(hostile) == Look(True, False, False)  # type: ignore[arg-type]
    assert max(one.length or 0 for one in hostile.asked) <= mirrors.PIECE_BYTES


def test_a_name_that_is_a_file_and_a_folder_is_shown_as_one_of_them(place: Place) -> None:
    place.mirror.look(Hostile({"tfevents": 1, "tfevents/tfevents": 1}))  # type: ignore[arg-type]
    assert list(place.here()) == ["tfevents"]


def test_files_and_bytes_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "MAX_FILES", 3)
    monkeypatch.setattr(mirrors, "MAX_BYTES", 2)
    hostile = Hostile({f"{n}.tfevents": 1 for n in range(9)})
    assert place.mirror.look(hostile).full  # type: ignore[arg-type]
    assert place.mirror.look(hostile) == Look(False, False, True)  # type: ignore[arg-type]
    assert len(place.here()) == 2
