"""Downloads: whole and of the right hash, or one line and nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import RemoteError
from launcher.hosts.steward import Steward
from tests.servers.web import Web

DATA = os.urandom(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        server.files["/words"] = DATA
        yield server


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "root" / "data" / "blobs"


def fetch(steward: Steward, url: str, sha256: str = SHA) -> Any:
    return steward.call("data_fetch", url=url, sha256=sha256)


def failure(steward: Steward, url: str, sha256: str = SHA) -> tuple[str, str]:
    with pytest.raises(RemoteError) as error:
        fetch(steward, url, sha256)
    return str(error.value.code), error.value.message


def test_a_file_comes_whole_and_only_once(steward: Steward, web: Web, blobs: Path) -> None:
    assert fetch(steward, web.url("/words#sha256=" + SHA)) == {"size": len(DATA)}
    assert (blobs / SHA).read_bytes() == DATA
    assert fetch(steward, web.url("/words")) == {"size": len(DATA)}
    assert len(web.asked) == 1
    assert os.listdir(blobs.parent.parent / "blobs") == []


def test_a_cut_download_goes_on_where_it_stopped(steward: Steward, web: Web, blobs: Path) -> None:
    web.cut_after = 1_200_000
    assert fetch(steward, web.url("/words")) == {"size": len(DATA)}
    assert [asked for _, asked in web.asked] == [None, "bytes=1200000-", "bytes=2400000-"]
    assert web.sent_bytes == len(DATA)
    assert (blobs / SHA).read_bytes() == DATA


def test_the_start_of_something_else_is_forgotten(steward: Steward, web: Web, blobs: Path) -> None:
    part = blobs.parent.parent / "blobs" / f"{SHA}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert fetch(steward, web.url("/words")) == {"size": len(DATA)}
    part.write_bytes(DATA)  # complete, and never named
    (blobs / SHA).unlink()
    assert fetch(steward, web.url("/words")) == {"size": len(DATA)}


def test_another_hash_is_one_line_with_both_and_nothing_is_kept(
    steward: Steward, web: Web, blobs: Path
) -> None:
    wanted = "a" * 64
    code, said = failure(steward, web.url("/words"), wanted)
    assert code == "bad"
    assert SHA in said
    assert wanted in said
    assert not blobs.exists() or os.listdir(blobs) == []
    assert os.listdir(blobs.parent.parent / "blobs") == []


def test_what_the_server_answers_is_told(steward: Steward, web: Web) -> None:
    code, said = failure(steward, web.url("/gone"))
    assert code == "bad"
    assert "answers 404" in said


def test_a_server_that_nobody_reaches_may_be_reached_from_elsewhere(steward: Steward, web: Web) -> None:
    assert failure(steward, "http://127.0.0.1:1/words")[0] == "no-way"


def test_redirects_stay_encrypted(steward: Steward, web: Web) -> None:
    web.files["/moved"] = (302, web.url("/words"))
    assert fetch(steward, web.url("/moved")) == {"size": len(DATA)}
    web.files["/out"] = (302, "http://example.com/words")
    code, said = failure(steward, web.url("/out"), "b" * 64)
    assert code == "bad"
    assert "not encrypted" in said
    web.files["/file"] = (302, "file:///etc/passwd")
    assert failure(steward, web.url("/file"), "c" * 64)[0] == "bad"
