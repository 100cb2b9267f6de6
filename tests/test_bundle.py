"""Bundles: the same files give the same digest anywhere, and the archive is what `tar` reads."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from launcher.bundle import Contents, header, job_digest, pack, stored
from launcher.errors import IntegrityError, SpecError
from launcher.files import Choice, SourceFile, choose
from launcher.job.spec import Environment, Files

ODD_NAMES = [
    "a b",
    "quote'\"$(x)",
    "new\nline",
    "tab\t",
    "ünïcødé",
    "絵文字/🦊",
    "-rf",
    "x" * 120,
    "d" * 90 + "/" + "f" * 90,
]


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def contents(root: Path, lock: bytes | None = b"six==1.17.0\n") -> Contents:
    return Contents(root, choose(root, Files()), lock, Environment(python="3.12").canonical())


def test_the_same_files_give_the_same_digest_at_any_time_in_any_place(tmp_path: Path) -> None:
    files = {name: name.encode() for name in ODD_NAMES} | {"run.sh": b"#!/bin/sh\n", "empty": b""}
    digests = set()
    for number, order in enumerate(["there", "elsewhere/deep"]):
        names = random.Random(number).sample(sorted(files), len(files))
        root = write(tmp_path / order, {name: files[name] for name in names})
        for name in names:
            os.chmod(root / name, random.Random(number).choice([0o600, 0o644, 0o777]))
            os.utime(root / name, (number * 1e9, number * 1e9))
        digests.add(pack(contents(root), tmp_path / "cache").digest)
    assert len(digests) == 1


def test_the_digest_is_the_one_recorded_for_ever(tmp_path: Path) -> None:
    root = write(tmp_path / "job", {"train.py": b"print(1)\n", "ä/" + "n" * 100: b"#!x", "a": b"\0" * 1000})
    fixed = Contents(root, choose(root, Files()), b"six==1.17.0\n", {"python": "3.12", "base": None})
    assert (
        pack(fixed, tmp_path / "cache").digest
        == "1dd8dca6b27b37093f8e1f9d309de5417fd71ee89313a57622414caf39529c41"
    )


def test_a_file_beyond_8_gib_has_a_header_that_tar_reads() -> None:
    raw = header("files/huge", 2**33 + 5, 0o644)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        member = archive.firstmember
    assert (member.name, member.size) == ("files/huge", 2**33 + 5)


def test_the_archive_is_what_tar_reads(tmp_path: Path) -> None:
    files = {name: os.urandom(index * 300) for index, name in enumerate(ODD_NAMES)} | {
        "run.sh": b"#!/bin/sh\n"
    }
    bundle = pack(contents(write(tmp_path / "job", files)), tmp_path / "cache")
    with tarfile.open(bundle.path, "r:") as archive:
        members = archive.getmembers()
        read = {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert read.pop("requirements.lock") == b"six==1.17.0\n"
    assert json.loads(read.pop("environment.json"))["python"] == "3.12"
    assert read == {"files/" + name: content for name, content in files.items()}
    assert [member.name for member in members] == sorted((m.name for m in members), key=str.encode)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.type) for m in members} == {(0, 0, 0, "", "", b"0")}
    assert {m.name: m.mode for m in members if m.mode != 0o644} == {"files/run.sh": 0o755}


def test_the_digest_is_the_sha256_of_the_archive(tmp_path: Path) -> None:
    bundle = pack(contents(write(tmp_path / "job", {"a": b"1"}), None), tmp_path / "cache")
    assert hashlib.sha256(bundle.path.read_bytes()).hexdigest() == bundle.digest == bundle.path.name
    assert bundle.path.stat().st_size == bundle.size_bytes
    assert bundle.path.stat().st_mode & 0o777 == 0o600


def test_a_shared_file_gives_the_digest_that_the_same_file_in_the_folder_gives(tmp_path: Path) -> None:
    shared = {"common.py": b"#!x", "lib/a.py": b"1", "lib/sub/b.py": b"2"}
    whole = write(tmp_path / "whole", {"train.py": b"", **shared})
    apart = write(tmp_path / "apart", {"job/train.py": b"", **shared}) / "job"
    names = Files(also=("../lib", "../common.py"))

    def digest(root: Path, files: Files) -> str:
        return pack(Contents(root, choose(root, files), None, {}), tmp_path / "cache").digest

    assert digest(apart, names) == digest(whole, Files())
    assert digest(apart, Files(also=names.also[::-1])) == digest(whole, Files())
    write(tmp_path / "apart", {"lib/sub/b.py": b"3"})
    assert digest(apart, names) != digest(whole, Files())


@pytest.mark.parametrize("change", ["content", "name", "lock", "environment", "shebang"])
def test_what_matters_changes_the_digest(tmp_path: Path, change: str) -> None:
    root = write(tmp_path / "job", {"a": b"1"})
    before = contents(root)
    first = pack(before, tmp_path / "cache").digest
    if change == "content":
        write(root, {"a": b"2"})
    elif change == "name":
        (root / "a").rename(root / "b")
    elif change == "shebang":
        write(root, {"a": b"#!1"})
    after = Contents(
        root,
        choose(root, Files()),
        b"six==1.16.0\n" if change == "lock" else before.lock,
        Environment(python="3.13").canonical() if change == "environment" else before.environment,
    )
    assert pack(after, tmp_path / "cache").digest != first


def test_a_large_file_is_packed_without_being_held_in_memory(tmp_path: Path) -> None:
    root = write(tmp_path / "job", {"a": b"1"})
    with open(root / "large", "wb") as file:
        file.truncate(60_000_000)
    tracemalloc.start()
    bundle = pack(contents(root), tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert [file.path for file in bundle.large] == ["large"]


def test_a_file_that_grows_while_it_is_packed_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "job", {"log.txt": b"x" * 20_000_000})
    stop = threading.Event()

    def grow() -> None:
        with open(root / "log.txt", "ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"more\n")
                time.sleep(0.0005)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(SpecError, match=r"log\.txt changed while it was packed"):
            pack(contents(root), tmp_path / "cache")
    finally:
        stop.set()
        writer.join()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_vanished_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    root = write(tmp_path / "job", {"a": b"1"})
    gone = Contents(root, Choice((SourceFile("gone.py", 3),)), None, {})
    with pytest.raises(SpecError, match=r"gone\.py"):
        pack(gone, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_stored_bundle_is_verified_before_it_is_used_again(tmp_path: Path) -> None:
    bundle = pack(contents(write(tmp_path / "job", {"a": b"1"})), tmp_path / "cache")
    assert stored(tmp_path / "cache", bundle.digest).size_bytes == bundle.size_bytes
    with open(bundle.path, "r+b") as file:
        file.seek(600)
        file.write(b"?")
    with pytest.raises(IntegrityError, match="damaged"):
        stored(tmp_path / "cache", bundle.digest)
    bundle.path.unlink()
    with pytest.raises(IntegrityError, match="no longer"):
        stored(tmp_path / "cache", bundle.digest)


def test_the_job_digest_is_over_bundle_command_parameters_and_variables() -> None:
    digest = job_digest("ab", "python train.py", {"lr": 0.1}, {"A": "b"})
    text = b'{"bundle":"ab","env":{"A":"b"},"params":{"lr":0.1},"run":"python train.py"}'
    assert digest == hashlib.sha256(text).hexdigest()
    assert job_digest("ab", ["python", "train.py"], {"lr": 0.1}, {"A": "b"}) != digest
