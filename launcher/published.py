"""What an agent says it published: manifest lines and the exit record, read as a stranger's words (pure)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.run import Artifact, File, State

MAX_LINE_BYTES = 16 << 20
MAX_FILES = 100_000
MAX_EXIT_BYTES = 64 << 10
HEX = re.compile(r"^[0-9a-f]{64}$")
ENDS = {s.value for s in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.PREEMPTED)}


@dataclass(frozen=True)
class ExitRecord:
    """exit.json: the only proof of an end. Sizes in bytes, hashes hex SHA-256 of the whole files."""

    state: State
    reason: str
    exit_code: int | None
    started_at: str
    ended_at: str
    last_seq: int
    log_size: int
    log_sha256: str
    manifest_size: int
    manifest_sha256: str


def artifact(line: bytes) -> Artifact | None:
    """One manifest line as an Artifact; None for what was skipped. Raises IntegrityError for nonsense."""
    value = _object(line, "manifest line")
    if value.get("v") != records.VERSION:
        raise IntegrityError(f"the manifest is of version {value.get('v')!r}", "upgrade launcher")
    if value.get("kind") == "skipped":
        return None
    try:
        return _checked(value)
    except (KeyError, TypeError, ValueError) as e:
        raise IntegrityError(f"the manifest has a line that makes no sense: {line[:120]!r}") from e


def exit_record(data: bytes, run_id: str, segment: int) -> ExitRecord:
    """exit.json of this very segment. Raises IntegrityError for another's or for nonsense."""
    if len(data) > MAX_EXIT_BYTES:
        raise IntegrityError("the exit record is larger than any exit record can be")
    value = _object(data, "exit record")
    if value.get("run") != run_id or value.get("segment") != segment:
        raise IntegrityError("the exit record belongs to another run")
    try:
        return ExitRecord(
            state=State(_one_of(value["state"], ENDS)),
            reason=_text(value.get("reason", "")),
            exit_code=None if value.get("exit_code") is None else _number(value["exit_code"]),
            started_at=_text(value.get("started_at") or ""),
            ended_at=_text(value.get("ended_at") or ""),
            last_seq=_number(value["last_seq"]),
            log_size=_number(value["log"]["size"]),
            log_sha256=_hash(value["log"]["sha256"]),
            manifest_size=_number(value["manifest"]["size"]),
            manifest_sha256=_hash(value["manifest"]["sha256"]),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise IntegrityError(f"the exit record makes no sense: {data[:120]!r}") from e


def fingerprint(data: bytes) -> dict[str, Any]:
    """fingerprint.json, whose portable part has the digest that it says. Raises IntegrityError."""
    value = dict(_object(data, "fingerprint"))
    portable = value.get("portable")
    if not isinstance(portable, dict):
        raise IntegrityError("the fingerprint has no portable part")
    if hashlib.sha256(records.canonical(portable)).hexdigest() != value.get("portable_sha256"):
        raise IntegrityError("the fingerprint is not what its own digest says")
    return value


def _checked(value: Mapping[str, Any]) -> Artifact:
    kind, name = _one_of(value["kind"], {"checkpoint", "output"}), _text(value["name"])
    files = tuple(
        File(_text(f["path"]), _number(f["size"]), _hash(f["sha256"])) for f in _several(value["files"])
    )
    folder = bool(value.get("folder"))
    root = f"{records.CHECKPOINTS}/{name}" if kind == "checkpoint" else name
    for file in files:
        if "\0" in file.path or not all(part not in ("", ".", "..") for part in file.path.split("/")):
            raise ValueError(f"{file.path!r} is not a path below the folder")
        inside = file.path.startswith(root + "/") if folder else file.path == root
        if not inside:
            raise ValueError(f"{file.path!r} does not belong to {name!r}")
    if not folder and len(files) != 1:
        raise ValueError("not one file")
    found = _digest(files, root) if folder else files[0].sha256
    if found != value["digest"]:
        raise ValueError("the digest is not that of the files")
    size = sum(f.size_bytes for f in files)
    return Artifact(_number(value["n"]), kind, name, files, found, size, _text(value.get("time", "")), folder)


def _digest(files: tuple[File, ...], root: str) -> str:
    return str(records.tree_digest([(f.path[len(root) + 1 :], f.size_bytes, f.sha256) for f in files]))


def _object(data: bytes, what: str) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise IntegrityError(f"the {what} is not JSON: {data[:120]!r}") from e
    if not isinstance(value, dict):
        raise IntegrityError(f"the {what} is not an object: {data[:120]!r}")
    return value


def _several(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_FILES:
        raise ValueError("not a list of files, or too long")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError("not a text")
    value.encode()  # lone surrogates raise UnicodeEncodeError, a ValueError
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError("not a count")
    return value


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not HEX.match(value):
        raise ValueError("not a SHA-256")
    return value


def _one_of(value: Any, allowed: set[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {sorted(allowed)}")
    return str(value)
