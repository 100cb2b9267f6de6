"""A bundle becomes exactly its files, and a hostile one becomes an error."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import bundle as client
from launcher.agent import unpack
from tests.agent.segment import SegmentFolder, bundle

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


def unpacked(tmp_path: Path, data: bytes, sha256: str | None = None) -> Path:
    (tmp_path / "bundle.tar").write_bytes(data)
    work = tmp_path / "work"
    unpack.unpack(str(tmp_path / "bundle.tar"), str(work), sha256 or hashlib.sha256(data).hexdigest())
    return work


def archive(*members: tuple[str, bytes, dict[str, Any]], fmt: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as tar:
        for name, data, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_files_come_out_with_their_modes_and_what_lies_beside_them_does_not(tmp_path: Path) -> None:
    work = unpacked(
        tmp_path, bundle({"a/b/run.sh": "#!/bin/sh\n", "train.py": "x" * 2000, "empty": ""}, "lock")
    )
    assert sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()) == [
        "a/b/run.sh",
        "empty",
        "train.py",
    ]
    assert (work / "train.py").read_text() == "x" * 2000
    assert (work / "a/b/run.sh").stat().st_mode & 0o777 == 0o755
    assert (work / "train.py").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_come_out_whatever_the_dialect(tmp_path: Path, fmt: int) -> None:
    name = "files/" + "/".join(["long" * 10] * 4)
    work = unpacked(tmp_path, archive((name, b"here", {}), fmt=fmt))
    assert (work / name[len("files/") :]).read_bytes() == b"here"


@given(names=st.sets(NAMES, max_size=5))
def test_every_name_that_the_client_packs_comes_out(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    data = b""
    for name in names:
        content = name.encode()
        data += client.header("files/" + name, len(content), 0o644) + content + bytes(-len(content) % 512)
    work = unpacked(tmp_path_factory.mktemp("bundle"), data + bytes(1024))
    assert {path.name: path.read_bytes() for path in work.iterdir()} == {
        name: name.encode() for name in names
    }


def test_other_bytes_than_were_sent_make_no_file(tmp_path: Path) -> None:
    data = bytearray(bundle({"a": "1"}))
    digest = hashlib.sha256(data).hexdigest()
    data[600] ^= 1
    with pytest.raises(unpack.BadBundle, match="SHA-256"):
        unpacked(tmp_path, bytes(data), digest)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("files/../../evil", {}),
        ("/etc/evil", {}),
        ("files//etc/evil", {}),
        ("files/./a", {}),
        ("files/", {}),
        ("elsewhere/a", {}),
        ("files/a", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("files/a", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}),
        ("files/a", {"type": tarfile.FIFOTYPE}),
        ("files/a", {"type": tarfile.CHRTYPE}),
        ("files/a", {"type": tarfile.DIRTYPE}),
    ],
)
def test_what_could_escape_or_is_no_file_is_refused(
    tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(unpack.BadBundle):
        unpacked(tmp_path, archive((name, b"", fields)))
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or path.is_symlink()]


@pytest.mark.parametrize(
    "names",
    [("files/a", "files/a"), ("files/a", "files/a/b"), ("files/a/b", "files/a"), ("requirements.lock",) * 2],
)
def test_one_path_cannot_be_two_things(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(unpack.BadBundle):
        unpacked(tmp_path, archive(*((name, b"x", {}) for name in names)))


def test_a_mode_grants_nothing_but_execution(tmp_path: Path) -> None:
    work = unpacked(tmp_path, archive(("files/a", b"x", {"mode": 0o6777})))
    assert (work / "a").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("size", [100, 600, 1100, 1500, 3072])
def test_a_cut_archive_is_an_error(tmp_path: Path, size: int) -> None:
    whole = archive(("files/a", b"x" * 700, {}), ("files/b", b"y" * 700, {}))
    with pytest.raises(unpack.BadBundle):
        unpacked(tmp_path, whole[:size])


@given(data=st.binary(max_size=3000), at=st.integers(0, 2000))
def test_nonsense_is_an_error_and_never_a_file_outside(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("nonsense")
    whole = bytearray(bundle({"a": "1" * 600}))
    whole[at : at + len(data)] = data
    with contextlib.suppress(unpack.BadBundle):
        unpacked(folder, bytes(whole))
    assert {path.name for path in folder.iterdir()} <= {"bundle.tar", "work"}


def test_a_job_whose_bundle_is_wrong_does_not_start(segment: SegmentFolder) -> None:
    end = segment.run("echo ran", bundle_sha256="0" * 64)
    assert (end["state"], end["exit_code"]) == ("failed", None)
    assert end["reason"].startswith("agent: the bundle's bytes are not those that were sent")
    assert "the bundle's bytes" in segment.said()
    assert segment.said("stdout") == ""
    assert not os.path.exists(segment.path / "work")
