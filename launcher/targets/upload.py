"""Files from home to a machine: sent once, verified there, resumed where a cut left them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.errors import IntegrityError, RemoteError
from launcher.run import State
from launcher.target import Step, Submission

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 256 << 10


class Batch:
    """Small requests that travel as one: `steps` and their joined `payload` for the steward's `batch`."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.payload = b""

    def add(self, op: str, payload: bytes = b"", **args: Any) -> None:
        """One more request, done after those before it."""
        self.steps.append({"op": op, "n": len(payload), **args})
        self.payload += payload

    def put(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """A small file, whole or not at all."""
        digest = hashlib.sha256(data).hexdigest()
        self.add("put", data, path=path, size=len(data), sha256=digest, offset=0, mode=mode)


def put_file(
    steward: Any, source: Path, path: str, sha256: str, what: str, mode: int = 0o600
) -> Iterator[Step]:
    """`source` stands at `path` there, with this hash. Nothing travels when it is there already."""
    size = source.stat().st_size
    whole = {"path": path, "size": size, "sha256": sha256, "mode": mode}
    for last_try in (False, True):
        if steward.call("have", files=[[path, size]])["have"][0]:
            return
        offset = steward.call("partial", sha256=sha256)["offset"] if size > CHUNK_BYTES else 0
        yield Step(State.SYNCING, what, source.name, offset, size)
        try:
            steward.call("put", _chunks(source, offset), offset=offset, **whole)
            break
        except (
            RemoteError
        ) as e:  # another client's upload of the same came first, or the part there was harmed
            if last_try or e.code not in ("bad", "exists"):
                raise
    yield Step(State.SYNCING, what, source.name, size, size)


def put_resume(steward: Any, submission: Submission, folder: str) -> Generator[Step, None, dict[str, Any]]:
    """The checkpoint to go on from, below `resume/`; returns the order's two keys about it."""
    checkpoint = submission.resume_from
    if checkpoint is None:
        return {}
    digests: dict[str, str] = {}
    for path in _files(checkpoint.path):
        inside = checkpoint.name if path == checkpoint.path else _below(path, checkpoint)
        digests[inside] = _sha256(path)
        target = f"{folder}/{records.RESUME}/{inside}"
        yield from put_file(steward, path, target, digests[inside], "upload checkpoint")
    _same_as_published(checkpoint, digests)
    return {"resume": f"{records.RESUME}/{checkpoint.name}", "resume_digest": digests}


def _below(path: Path, checkpoint: Any) -> str:
    return f"{checkpoint.name}/{path.relative_to(checkpoint.path).as_posix()}"


def _same_as_published(checkpoint: Any, digests: Mapping[str, str]) -> None:
    from launcher.vault import digest_of

    if digest_of(checkpoint.path) != checkpoint.digest:
        raise IntegrityError(
            f"{checkpoint.path} is no longer what was published", "choose another with --checkpoint NAME"
        )


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(source: Path, offset: int) -> Iterator[bytes]:
    with source.open("rb") as file:
        file.seek(offset)
        while data := file.read(CHUNK_BYTES):
            yield data
