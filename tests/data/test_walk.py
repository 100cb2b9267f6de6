"""Which files a source has; what cannot travel is one line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from launcher.data.walk import files_of
from launcher.errors import SpecError


def names(source: Path) -> list[str]:
    return [file.path for file in files_of(source)]


def refusal(source: Path) -> str:
    with pytest.raises(SpecError) as error:
        files_of(source)
    assert "\n" not in error.value.message
    assert error.value.exit_code == 2
    return error.value.message


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "ü\n.png").write_text("1")
    (folder / ".hidden").write_text("2")
    return folder


def test_all_regular_files_are_found_sorted(source: Path) -> None:
    (source / "empty folder").mkdir()
    assert names(source) == [".hidden", "a b/ü\n.png"]


def test_a_single_file_has_no_path_inside(source: Path) -> None:
    assert names(source / ".hidden") == [""]


def test_a_link_within_the_source_counts_as_what_it_leads_to(source: Path) -> None:
    (source / "link").symlink_to(".hidden")
    (source / "folder link").symlink_to("a b")
    assert names(source) == [".hidden", "a b/ü\n.png", "folder link/ü\n.png", "link"]


def test_the_source_itself_may_be_a_link(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    assert names(tmp_path / "link") == names(source)


def test_a_link_that_leads_out_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "source2").write_text("secret")  # its path begins like the source's
    (source / "link").symlink_to(tmp_path / "source2")
    assert "link is a link that leads out of the source" in refusal(source)


@pytest.mark.parametrize("target", ["..", ".", "back"])
def test_a_link_in_a_circle_is_refused(source: Path, target: str) -> None:
    (source / "a b" / "back").symlink_to(target)
    assert "back" in refusal(source)


def test_a_link_that_leads_nowhere_is_refused(source: Path) -> None:
    (source / "dangling").symlink_to("gone")
    assert "dangling: no such file or directory" in refusal(source)


def test_sockets_and_pipes_are_refused(source: Path) -> None:
    os.mkfifo(source / "pipe")
    assert "pipe is a FIFO" in refusal(source)
    (source / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "s"))
        assert "s is a device or socket" in refusal(source)


def test_a_name_that_is_not_text_is_refused(source: Path) -> None:
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.png")).write_text("x")
    assert "has a name that is not UTF-8" in refusal(source)


def test_what_is_not_there_or_empty_is_refused(source: Path, tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone")
    (tmp_path / "empty" / "er").mkdir(parents=True)
    assert "has no files" in refusal(tmp_path / "empty")
    assert "device" in refusal(Path("/dev/null"))


def test_the_home_of_a_run_comes_without_what_launcher_keeps_there(source: Path) -> None:
    (source / ".launcher").mkdir()
    (source / ".launcher" / "lock").write_text("")
    assert ".launcher/lock" in names(source)
    (source / "capsule.json").write_text("{}")
    assert names(source) == [".hidden", "a b/ü\n.png", "capsule.json"]
