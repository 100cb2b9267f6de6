"""The agent lets no job start on data that is not what it was sent, whatever the machine says of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.agent import datastore, records
from tests.agent.segment import SegmentFolder

FILES = {"a b/1.png": b"one", "ü\n": b"two", "empty": b""}


def laid_out(segment: SegmentFolder, key: str = "train") -> dict[str, Any]:
    """The source as a steward leaves it; what the order says of it."""
    tree = segment.path.parent / "tree"
    for name, data in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
        os.utime(tree / name, ns=(datastore.WRITTEN_NS, datastore.WRITTEN_NS))
    files = sorted([name, len(data), hashlib.sha256(data).hexdigest()] for name, data in FILES.items())
    for folder in ("data", "sources"):
        (segment.path / folder).mkdir()
    (segment.path / "data" / key).symlink_to(tree)
    (segment.path / "sources" / f"{key}.json").write_bytes(datastore.encode(files))
    return {key: {"digest": records.tree_digest(files), "files": len(files), "size_bytes": 6}}


def test_the_digests_stand_in_the_log_and_the_job_sees_the_files(segment: SegmentFolder) -> None:
    told = laid_out(segment)
    end = segment.run("cat $LAUNCHER_DATA/train/a*/1.png", data=told)
    assert end["state"] == "succeeded"
    assert segment.said("stdout") == "one"
    digest = told["train"]["digest"]
    assert segment.said().splitlines()[0].startswith("fingerprint sha256:")
    assert segment.said().splitlines()[1] == f"data train sha256:{digest} · 3 files · 6 bytes"


def test_an_order_of_a_client_that_knew_no_data_runs(segment: SegmentFolder) -> None:
    assert segment.run("ls $LAUNCHER_DATA")["state"] == "succeeded"


def other(tree: Path) -> None:
    (tree / "a b/1.png").write_bytes(b"ONE")


def shorter(tree: Path) -> None:
    (tree / "a b/1.png").write_bytes(b"on")


def gone(tree: Path) -> None:
    (tree / "a b/1.png").unlink()


def added(tree: Path) -> None:
    (tree / "a b/2.png").write_bytes(b"")


def link(tree: Path) -> None:
    (tree / "a b/1.png").rename(tree.parent / "1.png")
    (tree / "a b/1.png").symlink_to(tree.parent / "1.png")


def pipe(tree: Path) -> None:
    gone(tree)
    os.mkfifo(tree / "a b/1.png")


def all_gone(tree: Path) -> None:
    tree.rename(tree.with_name("elsewhere"))


DAMAGES: dict[Callable[[Path], None], str] = {
    other: '"a b/1.png" has changed',
    shorter: '"a b/1.png" has changed',
    gone: '"a b/1.png" is missing',
    added: '"a b/2.png" was added',
    link: '"a b/1.png" has changed',
    pipe: '"a b/1.png" has changed',
    all_gone: '"a b/1.png" is missing, "empty" is missing, "ü\\n" is missing',
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_data_that_is_not_what_was_sent_ends_the_segment_before_the_job(
    segment: SegmentFolder, damage: Callable[[Path], None], said: str
) -> None:
    told = laid_out(segment)
    damage(segment.path.parent / "tree")

    end = segment.run("echo ran", data=told)

    reason = f"agent: data train is not what was sent: {said}"
    assert (end["state"], end["reason"], end["exit_code"]) == ("failed", reason, None)
    assert f"{reason[len('agent: ') :]}; the next submission mends it" in segment.said()
    assert segment.said("stdout") == ""


def test_a_touched_file_is_hashed_and_is_good(segment: SegmentFolder) -> None:
    told = laid_out(segment)
    os.utime(segment.path.parent / "tree" / "empty")
    assert segment.run("true", data=told)["state"] == "succeeded"


@pytest.mark.parametrize("text", ["", "[]", "{", '[["../x",1,"%s"]]' % ("0" * 64), "[1]"])
def test_a_list_of_another_digest_ends_the_segment(segment: SegmentFolder, text: str) -> None:
    told = laid_out(segment)
    (segment.path / "sources" / "train.json").write_text(text)
    end = segment.run("echo ran", data=told)
    assert end["state"] == "failed"
    assert end["reason"].startswith("agent: data train: the manifest")
