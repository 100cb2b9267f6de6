"""A server that lies: each lie is one clear line and 125, and nothing is written outside the run's folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.laptop import Laptop, records

JOB = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
(out / "checkpoints").mkdir()
for n in (1, 2):
    part = out / "checkpoints" / f"{n}.bin.tmp"
    part.write_bytes(bytes([n]) * 1000)
    part.rename(part.with_suffix(""))
(out / "final.txt").write_text("done")
print("one"); print("two")
"""


class Server:
    """The folder of an ended run as its owner may change it before anybody fetched it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def manifest(self) -> list[dict[str, Any]]:
        return records(self.folder / "manifest.jsonl")

    def write_manifest(self, lines: list[Any]) -> None:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        self.write("manifest.jsonl", "".join(text + "\n" for text in texts).encode())

    def write(self, name: str, data: bytes) -> None:
        """Change a file, and the exit record so that it agrees: this attacker knows how."""
        (self.folder / name).write_bytes(data)
        end = json.loads((self.folder / "exit.json").read_bytes())
        for key, file in (("log", "log.jsonl"), ("manifest", "manifest.jsonl")):
            content = (self.folder / file).read_bytes()
            end[key] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (self.folder / "exit.json").write_text(json.dumps(end))

    def rename(self, name: str, path: str) -> None:
        """The first checkpoint claims another name and path."""
        lines = self.manifest()
        lines[0]["name"] = name
        lines[0]["files"][0]["path"] = path
        self.write_manifest(lines)


def dots(server: Server) -> None:
    (server.folder / "evil").write_bytes(b"\1" * 1000)
    server.rename("../../evil", "checkpoints/../../evil")


def absolute(server: Server) -> None:
    server.rename("/tmp/launcher-evil", "checkpoints//tmp/launcher-evil")


def nul(server: Server) -> None:
    server.rename("a\0b", "checkpoints/a\0b")


def other_place(server: Server) -> None:
    server.rename("ok.bin", "log.jsonl")


def link(server: Server) -> None:
    path = server.folder / "out/checkpoints/1.bin"
    path.unlink()
    path.symlink_to("/etc/passwd")


def fifo(server: Server) -> None:
    path = server.folder / "out/checkpoints/2.bin"
    path.unlink()
    os.mkfifo(path)


def longer(server: Server) -> None:
    with (server.folder / "out/final.txt").open("ab") as file:
        file.truncate(1 << 40)


def shorter(server: Server) -> None:
    (server.folder / "out/final.txt").write_text("d")


def other_content(server: Server) -> None:
    (server.folder / "out/final.txt").write_text("DONE")


def wrong_digest(server: Server) -> None:
    lines = server.manifest()
    lines[0]["digest"] = "0" * 64
    server.write_manifest(lines)


def negative_size(server: Server) -> None:
    lines = server.manifest()
    lines[0]["files"][0]["size"] = -1
    server.write_manifest(lines)


def no_json(server: Server) -> None:
    server.write_manifest(["{nonsense", *server.manifest()])


def deep_json(server: Server) -> None:
    server.write_manifest(["[" * 100_000, *server.manifest()])


def endless_line(server: Server) -> None:
    server.write("manifest.jsonl", b"x" * (40 << 20))


def gap_in_the_log(server: Server) -> None:
    lines = (server.folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    server.write("log.jsonl", b"".join(lines[:1] + lines[2:]))


def repeated_line(server: Server) -> None:
    lines = (server.folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    server.write("log.jsonl", b"".join([*lines, lines[-1]]))


def other_segment(server: Server) -> None:
    text = (server.folder / "log.jsonl").read_bytes()
    server.write("log.jsonl", text.replace(b'"segment":0', b'"segment":7'))


def endless_log_line(server: Server) -> None:
    server.write("log.jsonl", (server.folder / "log.jsonl").read_bytes() + b'{"v":1,"' + b"x" * (4 << 20))


def other_run(server: Server) -> None:
    end = json.loads((server.folder / "exit.json").read_bytes())
    (server.folder / "exit.json").write_text(json.dumps({**end, "run": "another-aaaaaaaa"}))


def newer_version(server: Server) -> None:
    server.write_manifest([{**line, "v": 99} for line in server.manifest()])


def invented_state(server: Server) -> None:
    end = json.loads((server.folder / "exit.json").read_bytes())
    (server.folder / "exit.json").write_text(json.dumps({**end, "state": "glorious"}))


def manifest_without_the_end(server: Server) -> None:
    lines = (server.folder / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (server.folder / "manifest.jsonl").write_bytes(b"".join(lines[:-1]))


def damaged_fingerprint(server: Server) -> None:
    path = server.folder / "fingerprint.json"
    value = json.loads(path.read_bytes())
    value["portable"]["python"] = "3.99.0"
    path.write_text(json.dumps(value))


LIES: list[Callable[[Server], None]] = [
    *(dots, absolute, nul, other_place, longer, shorter, other_content, wrong_digest),
    *(negative_size, no_json, deep_json, endless_line, gap_in_the_log, repeated_line, other_segment),
    *(endless_log_line, other_run, newer_version, invented_state, manifest_without_the_end),
    damaged_fingerprint,
]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Laptop, str]]:
    """A detached run that has ended and of which nothing is home."""
    laptop = Laptop(tmp_path_factory.mktemp("hostile") / "laptop")
    try:
        laptop.ok("target", "add", "here", "local", "--docker", "never")
        laptop.ok("run", str(laptop.job("prey", JOB)), "--on", "here", "-d")
        run = json.loads(laptop.ok("--json", "ps", "-a").out)["runs"][0]["id"]
        there = laptop.folder / ".launcher/runs" / run / "0"
        laptop.wait_for(lambda: (there / "exit.json").exists(), "the end of the job")
        yield laptop, run
    finally:
        laptop.close()


@pytest.fixture
def prey(ended: tuple[Laptop, str], tmp_path: Path) -> Iterator[tuple[Laptop, str, Server]]:
    """The same moment again for each lie: state, home and server are copies."""
    original, run = ended
    laptop = Laptop(tmp_path / "laptop")
    shutil.copytree(original.folder, laptop.folder, dirs_exist_ok=True, symlinks=True)
    database = laptop.folder / "state" / "ledger.sqlite3"
    relocate(database, str(original.folder), str(laptop.folder))
    yield laptop, run, Server(laptop.folder / ".launcher/runs" / run / "0")
    laptop.close()


def relocate(database: Path, old: str, new: str) -> None:
    import sqlite3

    with sqlite3.connect(database) as db:
        db.execute("UPDATE runs SET home = replace(home, ?, ?)", [old, new])
        db.execute("UPDATE segments SET handle = replace(handle, ?, ?)", [old, new])
    db.close()


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_is_told_and_nothing_leaves_the_runs_folder(
    lie: Callable[[Server], None], prey: tuple[Laptop, str, Server]
) -> None:
    laptop, run, server = prey
    lie(server)
    before = everything(laptop.folder)

    done = laptop.launcher("attach", run, timeout=60)

    assert done.code == 125, done.out + done.err
    assert "Traceback" not in done.err
    assert [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert not Path("/tmp/launcher-evil").exists()
    home = laptop.work / "runs" / run
    outside = {p for p in everything(laptop.folder) - before if not p.is_relative_to(home)}
    assert {p for p in outside if not p.is_relative_to(laptop.folder / "state")} == set()
    for path in home.rglob("*"):
        assert not path.is_symlink()
    final = home / "final.txt"
    assert not final.exists() or final.read_text() == "done"


@pytest.mark.parametrize("lie", [link, fifo], ids=lambda lie: lie.__name__)
def test_what_is_no_regular_file_counts_as_gone(
    lie: Callable[[Server], None], prey: tuple[Laptop, str, Server]
) -> None:
    laptop, run, server = prey
    lie(server)

    done = laptop.ok("attach", run)

    assert "was replaced or deleted before it was home" in done.err
    home = laptop.work / "runs" / run
    assert len(list((home / "checkpoints").iterdir())) == 1
    assert not any(path.is_symlink() or path.is_fifo() for path in home.rglob("*"))


def test_without_a_lie_the_same_run_comes_home(prey: tuple[Laptop, str, Server]) -> None:
    laptop, run, _ = prey
    done = laptop.ok("attach", run)

    assert "one\ntwo\n" in done.out
    assert (laptop.work / "runs" / run / "final.txt").read_text() == "done"


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
