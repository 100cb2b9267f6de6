"""What an agent says it published is read as a stranger's words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from launcher import published
from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.run import State

A = hashlib.sha256(b"a").hexdigest()


def entry(**changes: Any) -> bytes:
    file = {"path": "checkpoints/a", "size": 1, "sha256": A}
    value = {"v": 1, "n": 1, "kind": "checkpoint", "name": "a", "digest": A, "files": [file], "folder": False}
    return json.dumps({**value, **changes}).encode()


def end(**changes: Any) -> bytes:
    part = {"size": 0, "sha256": A}
    value = {"v": 1, "run": "x-aaaaaaaa", "segment": 0, "state": "failed", "exit_code": 3, "last_seq": 9}
    return json.dumps({**value, "log": part, "manifest": part, **changes}).encode()


def test_a_checkpoint_is_read() -> None:
    found = published.artifact(entry())
    assert found is not None
    assert (found.name, found.digest, found.size_bytes, found.folder) == ("a", A, 1, False)


def test_the_digest_of_a_folder_is_that_of_its_files() -> None:
    file = {"path": "checkpoints/d/x", "size": 1, "sha256": A}
    good = records.tree_digest([("x", 1, A)])
    assert published.artifact(entry(name="d", folder=True, files=[file], digest=good)) is not None
    with pytest.raises(IntegrityError):
        published.artifact(entry(name="d", folder=True, files=[file], digest=A))


def test_what_was_skipped_is_nothing() -> None:
    assert published.artifact(entry(kind="skipped")) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "b"},
        {"files": []},
        {"files": [{"path": "checkpoints/a", "size": -1, "sha256": A}]},
        {"files": [{"path": "checkpoints/a", "size": 1 << 60, "sha256": A}]},
        {"files": [{"path": "checkpoints/a", "size": True, "sha256": A}]},
        {"files": [{"path": "checkpoints/a", "size": 1, "sha256": "../x"}]},
        {"digest": "0" * 64},
        {"kind": "gift"},
        {"n": "1"},
        {"v": 2},
        {"files": "all of them"},
    ],
)
def test_a_manifest_line_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        published.artifact(entry(**changes))


@pytest.mark.parametrize("name", ["..", "../../evil", "a//b", "/etc/passwd", "a/./b", "a\0b", "", "a/"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    file = {"path": f"checkpoints/{name}", "size": 1, "sha256": A}
    with pytest.raises(IntegrityError):
        published.artifact(entry(name=name, files=[file]))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        published.artifact(data)


def test_an_exit_record_is_read() -> None:
    record = published.exit_record(end(), "x-aaaaaaaa", 0)
    assert (record.state, record.exit_code, record.last_seq) == (State.FAILED, 3, 9)


@pytest.mark.parametrize(
    "changes", [{"run": "y"}, {"segment": 1}, {"state": "lost"}, {"exit_code": "0"}, {"log": {}}]
)
def test_an_exit_record_of_another_run_or_without_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        published.exit_record(end(**changes), "x-aaaaaaaa", 0)


def test_a_fingerprint_must_have_its_own_digest() -> None:
    portable = {"python": "3.12.1"}
    digest = hashlib.sha256(records.canonical(portable)).hexdigest()
    assert published.fingerprint(json.dumps({"portable": portable, "portable_sha256": digest}).encode())
    with pytest.raises(IntegrityError):
        published.fingerprint(json.dumps({"portable": {"python": "3"}, "portable_sha256": digest}).encode())
