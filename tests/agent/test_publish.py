"""Only what is complete is published, once, with its true hash."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.agent import hashing, proc, publish, records
from tests.agent.segment import SegmentFolder

SAVE = """
import os, sys, time
out = os.environ["LAUNCHER_OUT"] + "/checkpoints"
os.makedirs(out, exist_ok=True)
def save(name, data):
    with open(f"{out}/{name}.tmp", "wb") as file:
        file.write(data)
    os.replace(f"{out}/{name}.tmp", f"{out}/{name}")
"""


def test_a_renamed_checkpoint_is_published_while_the_job_runs(segment: SegmentFolder) -> None:
    segment.start([sys.executable, "-c", SAVE + "time.sleep(0.3); save('a.pt', b'one'); time.sleep(30)"])
    [line] = segment.until(lambda: (segment.path / "manifest.jsonl").exists() and segment.manifest())
    assert (line["n"], line["kind"], line["name"], line["folder"], line["size"]) == (
        1,
        "checkpoint",
        "a.pt",
        False,
        3,
    )
    assert line["digest"] == sha256(b"one")
    assert line["files"] == [{"path": "checkpoints/a.pt", "size": 3, "sha256": sha256(b"one")}]


def test_the_first_checkpoint_is_the_first_however_fast_it_comes(segment: SegmentFolder) -> None:
    script = SAVE + "for n in range(5): save('%d.pt' % n, b'x%d' % n); time.sleep(0.1)"
    segment.run([sys.executable, "-c", script])
    assert [line["name"] for line in segment.manifest("checkpoint")] == [f"{n}.pt" for n in range(5)]


def test_what_was_written_later_waits_for_what_must_hold_still(segment: SegmentFolder) -> None:
    in_place = "open(out + '/0.pt', 'w').write('x'); time.sleep(0.1)\n"
    segment.start(
        [sys.executable, "-c", SAVE + "time.sleep(0.5)\n" + in_place + "save('1.pt', b'y'); time.sleep(30)"]
    )
    manifest = segment.path / "manifest.jsonl"
    names = segment.until(lambda: manifest.exists() and len(segment.manifest()) == 2 and segment.manifest())
    assert [line["name"] for line in names] == ["0.pt", "1.pt"]


def test_a_file_that_is_open_for_writing_is_known_to_be(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("w"):
        assert proc.written_by_someone(str(path))
    with path.open():
        assert not proc.written_by_someone(str(path))


def test_each_rename_over_the_same_name_is_a_new_version(segment: SegmentFolder) -> None:
    segment.start(
        [sys.executable, "-c", SAVE + "for n in range(3): save('last.pt', b'v%d' % n); time.sleep(1)"]
    )
    segment.wait()
    lines = segment.manifest("checkpoint")
    assert [line["digest"] for line in lines] == [sha256(b"v%d" % n) for n in range(3)]
    assert [line["n"] for line in lines] == [1, 2, 3]


def test_what_ends_in_tmp_is_never_published(segment: SegmentFolder) -> None:
    segment.run(
        [sys.executable, "-c", SAVE + "open(out + '/half.pt.tmp', 'w').write('x'); save('b.pt', b'')"]
    )
    assert [line["name"] for line in segment.manifest()] == ["b.pt"]


def test_a_folder_is_one_checkpoint(segment: SegmentFolder) -> None:
    code = (
        SAVE + "os.makedirs(out + '/step-5.tmp/inner'); open(out + '/step-5.tmp/inner/x', 'wb').write(b'x');"
    )
    code += "open(out + '/step-5.tmp/w', 'wb').write(b'ww'); os.rename(out + '/step-5.tmp', out + '/step-5')"
    segment.run([sys.executable, "-c", code])
    [line] = segment.manifest()
    files = [("inner/x", 1, sha256(b"x")), ("w", 2, sha256(b"ww"))]
    assert (line["name"], line["folder"], line["size"]) == ("step-5", True, 3)
    assert line["digest"] == records.tree_digest(files)
    assert [file["path"] for file in line["files"]] == ["checkpoints/step-5/inner/x", "checkpoints/step-5/w"]


def test_a_checkpoint_that_is_written_in_place_is_published_when_it_holds_still(
    segment: SegmentFolder,
) -> None:
    code = SAVE + "f = open(out + '/a.pt', 'wb', 0)\nfor n in range(8): f.write(b'x'); time.sleep(0.4)\n"
    segment.start([sys.executable, "-c", code + "time.sleep(30)"])
    [line] = segment.until(lambda: (segment.path / "manifest.jsonl").exists() and segment.manifest())
    assert line["size"] == 8


def test_no_torn_checkpoint_is_published_while_the_job_overwrites_it(segment: SegmentFolder) -> None:
    code = SAVE + "for n in range(60): save('last.pt', b'%08d' % n * 200_000)\n"
    segment.run([sys.executable, "-c", code])
    wanted = {sha256(b"%08d" % n * 200_000): n for n in range(60)}
    published = [wanted[line["digest"]] for line in segment.manifest("checkpoint")]
    assert published == sorted(published)
    assert published[-1] == 59
    assert {line["size"] for line in segment.manifest("checkpoint")} == {1_600_000}


def test_links_fifos_and_sockets_are_skipped_with_a_word(segment: SegmentFolder) -> None:
    code = SAVE + (
        "os.symlink('/etc/passwd', out + '/link.pt'); os.mkfifo(out + '/fifo.pt');"
        "os.symlink('/etc', out + '/../etc'); os.makedirs(out + '/f.tmp'); os.symlink('x', out + '/f.tmp/l');"
        "open(out + '/f.tmp/real', 'w').close(); os.rename(out + '/f.tmp', out + '/f'); time.sleep(0.5)"
    )
    segment.run([sys.executable, "-c", code])
    skipped = {line["name"]: line["why"] for line in segment.manifest("skipped")}
    assert skipped == {
        "checkpoints/link.pt": "a link",
        "checkpoints/fifo.pt": "a FIFO",
        "checkpoints/f/l": "a link",
        "etc": "a link",
    }
    assert [line["name"] for line in segment.manifest("checkpoint")] == ["f"]
    assert segment.said().count("skipped ") == 4


def test_a_name_that_is_not_utf_8_is_skipped(segment: SegmentFolder) -> None:
    code = SAVE + "open(os.fsencode(out) + b'/caf\\xe9.pt', 'w').close(); save('ok.pt', b'1')"
    segment.run([sys.executable, "-c", code])
    assert [line["name"] for line in segment.manifest("skipped")] == ["checkpoints/caf\\xe9.pt"]
    assert [line["name"] for line in segment.manifest("checkpoint")] == ["ok.pt"]


def test_all_other_files_are_outputs_under_their_own_paths(segment: SegmentFolder) -> None:
    code = SAVE + (
        "save('a.pt', b'1'); os.makedirs(out + '/../plots/deep');"
        "[open(out + '/../' + name, 'w').write(name) for name in "
        "('metrics.jsonl', 'log.jsonl', 'capsule.json', 'plots/deep/Ünï \\n.png')]"
    )
    segment.run([sys.executable, "-c", code])
    outputs = {line["name"]: line["digest"] for line in segment.manifest("output")}
    names = ["capsule.json", "log.jsonl", "metrics.jsonl", "plots/deep/Ünï \n.png"]
    assert outputs == {name: sha256(name.encode()) for name in names}


def test_a_folder_of_checkpoints_that_is_a_link_leads_nowhere(segment: SegmentFolder) -> None:
    segment.run("mkdir elsewhere; echo x > elsewhere/a.pt; ln -s $PWD/elsewhere $LAUNCHER_OUT/checkpoints")
    assert [(line["kind"], line["name"]) for line in segment.manifest()] == [("skipped", "checkpoints")]


def test_a_checkpoint_that_vanished_again_is_forgotten(segment: SegmentFolder) -> None:
    code = (
        SAVE
        + "for n in range(50): save(f'{n}.pt', b'x' * 100_000); os.unlink(f'{out}/{n}.pt')\nsave('z.pt', b'')"
    )
    end = segment.run([sys.executable, "-c", code])
    assert end["state"] == "succeeded"
    assert segment.manifest("checkpoint")[-1]["name"] == "z.pt"


def test_a_kill_in_the_middle_of_deleting_a_checkpoint_makes_no_new_version(segment: SegmentFolder) -> None:
    script = SAVE + (
        "def published(name):\n"
        "    while not any(name in line for line in open(out + '/../../manifest.jsonl')): time.sleep(0.05)\n"
        "os.mkdir(out + '/a.tmp')\n"
        "for name in 'xyz': open(out + '/a.tmp/' + name, 'w').write(name)\n"
        "os.rename(out + '/a.tmp', out + '/a'); published('checkpoints/a')\n"
        "save('b.pt', b'newer'); published('b.pt')\n"
        "os.unlink(out + '/a/x'); os.kill(os.getpid(), 9)"
    )
    segment.run([sys.executable, "-c", script])
    assert [line["name"] for line in segment.manifest("checkpoint")] == ["a", "b.pt"]


def test_without_inotify_a_look_twice_a_second_finds_them(tmp_path: Path) -> None:
    published = publisher(tmp_path)
    published.start()
    (tmp_path / "out" / "checkpoints").mkdir()
    (tmp_path / "out" / "checkpoints" / "a.pt").write_bytes(b"1")
    wait_for(lambda: published.published == 1)
    published.finish()
    assert published.error is None


def test_a_manifest_that_cannot_be_written_is_an_error_not_a_silence(tmp_path: Path) -> None:
    published = publisher(tmp_path)
    unwritable = os.open(os.devnull, os.O_RDONLY)  # closing it instead would close somebody else's file later
    os.dup2(unwritable, published._manifest._file.fileno())
    os.close(unwritable)
    published.start()
    (tmp_path / "out" / "x").write_text("1")
    published.finish()
    assert isinstance(published.error, OSError)


@pytest.mark.parametrize("change", ["remove", "link", "socket", "fifo"])
def test_what_is_no_longer_a_file_when_it_is_opened_is_not_hashed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    with socket.socket(socket.AF_UNIX) as server:
        if change == "link":
            path.symlink_to("/etc/passwd")
        elif change == "socket":
            server.bind(str(path))
        elif change == "fifo":
            os.mkfifo(path)
        with pytest.raises(hashing.Changed):
            hashing.hash_file(str(path))


def test_a_file_that_grows_under_the_hash_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 30_000_000)
    done = threading.Event()

    def grow() -> None:
        with path.open("ab", 0) as file:
            while not done.wait(0.0005):
                file.write(b"y")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(hashing.Changed):
            hashing.hash_file(str(path))
    finally:
        done.set()
        writer.join()


def publisher(folder: Path) -> Any:
    """One that hears nothing from the system and must look for itself."""
    (folder / "out").mkdir()
    said: list[str] = []
    return publish.Publisher(
        str(folder / "out"), publish.Manifest(str(folder / "manifest.jsonl")), said.append
    )


def wait_for(condition: Any) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
