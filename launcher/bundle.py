"""Packs a job's files, lock and environment into one reproducible archive whose SHA-256 is their identity.

    environment.json    canonical JSON of the spec's `environment`
    files/<path>        the chosen files
    requirements.lock   the lock, where there is one

An uncompressed POSIX tar with every free field fixed: sorted by UTF-8 path, time 0, uid and gid 0, no names,
mode 0755 where the content starts with `#!`, else 0644. The headers are written here, not by `tarfile`, whose
bytes have changed between Python versions (device numbers, 3.9).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError, SpecError
from launcher.files import Choice, SourceFile

ENVIRONMENT = "environment.json"
LOCK = "requirements.lock"
FILES = "files/"

BLOCK = 512
CHUNK = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
MAX_OCTAL = 8**11  # what the size field of a ustar header can hold


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle. `environment` is Environment.canonical()."""

    root: Path
    choice: Choice
    lock: bytes | None
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """An archive on this disk; `large` are the files a person was asked about."""

    path: Path
    digest: str
    size_bytes: int
    large: tuple[SourceFile, ...] = ()


def pack(contents: Contents, cache: Path) -> Bundle:
    """Writes `<cache>/<digest>` durably and returns it. Memory does not grow with the files."""
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd, temporary = tempfile.mkstemp(prefix=".packing-", dir=cache)
        try:
            with os.fdopen(fd, "wb") as out:
                digest, size = _write(out, _archive(contents))
            os.replace(temporary, cache / digest)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):  # Ctrl-C may come when it has its name already
                os.unlink(temporary)
            raise
        records.sync_folder(str(cache))
    except OSError as error:
        raise LauncherError(
            f"cannot write the bundle to {cache}: {error.strerror}",
            f"free some space on the disk of {cache}" if error.errno in NO_ROOM else "set LAUNCHER_HOME",
        ) from error
    return Bundle(cache / digest, digest, size, contents.choice.large)


def stored(cache: Path, digest: str) -> Bundle:
    """A bundle packed earlier, verified; IntegrityError when it is gone or not what its name says."""
    path = cache / digest
    try:
        with open(path, "rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except FileNotFoundError as error:
        raise IntegrityError(f"the bundle {digest[:12]} is no longer in {cache}") from error
    if actual != digest:
        raise IntegrityError(f"the bundle {path} is damaged: its SHA-256 is {actual[:12]}…")
    return Bundle(path, digest, size)


def member(path: Path, name: str) -> bytes | None:
    """The bytes of one member of a stored bundle; None when it has none of that name."""
    with tarfile.open(path, "r:") as archive:
        try:
            file = archive.extractfile(name)
        except KeyError:
            return None
        return file.read() if file else None


def job_digest(bundle: str, run: Any, params: Mapping[str, Any], env: Mapping[str, str]) -> str:
    """The identity of what will be executed: bundle, command, parameters and variables."""
    job = {"bundle": bundle, "run": run, "params": dict(params), "env": dict(env)}
    return hashlib.sha256(records.canonical(job)).hexdigest()


def _write(out: BinaryIO, chunks: Iterable[bytes]) -> tuple[str, int]:
    """SHA-256 and size of what now stands on the disk."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        out.write(chunk)
    out.flush()
    os.fsync(out.fileno())
    return digest.hexdigest(), out.tell()


def _archive(contents: Contents) -> Iterator[bytes]:
    """The bytes of the archive, piece by piece; these three names are in the order of UTF-8 paths."""
    yield from _small(ENVIRONMENT, records.canonical(contents.environment))
    for file in sorted(contents.choice.files, key=lambda file: file.path.encode()):
        yield from _file(contents.root, file)
    if contents.lock is not None:
        yield from _small(LOCK, contents.lock)
    yield bytes(2 * BLOCK)


def _small(name: str, data: bytes) -> Iterator[bytes]:
    yield header(name, len(data), 0o644) + data + _padding(len(data))


def _file(root: Path, file: SourceFile) -> Iterator[bytes]:
    """Header and content of one file; SpecError if it is being written to meanwhile."""
    try:
        with open(file.at or root / file.path, "rb") as source:
            before = os.fstat(source.fileno())
            first = source.read(CHUNK)
            yield header(FILES + file.path, before.st_size, 0o755 if first.startswith(b"#!") else 0o644)
            done, chunk = 0, first
            while chunk and done <= before.st_size:
                yield chunk
                done += len(chunk)
                chunk = source.read(CHUNK)
            after = os.fstat(source.fileno())
    except OSError as error:
        raise SpecError(
            f"cannot read {file.path}: {error.strerror}", "make it readable, or ignore it"
        ) from error
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if done != before.st_size or not same:
        raise SpecError(
            f"{file.path} changed while it was packed", "wait until nothing writes to it, or ignore it"
        )
    yield _padding(before.st_size)


def header(name: str, size: int, mode: int) -> bytes:
    """One tar header: ustar, preceded by a pax header where ustar cannot hold the name or the size."""
    raw = name.encode()
    extended = {}
    if len(raw) > 100 or not raw.isascii():
        extended["path"] = raw
    if size >= MAX_OCTAL:
        extended["size"] = str(size).encode()
    if not extended:
        return _ustar(raw, size, mode, b"0")
    records_ = b"".join(_pax_record(key.encode(), value) for key, value in sorted(extended.items()))
    pax = _ustar(b"pax", len(records_), 0o644, b"x") + records_ + _padding(len(records_))
    fallback = hashlib.sha256(raw).hexdigest().encode()  # a name for readers that know no pax
    return pax + _ustar(fallback if "path" in extended else raw, size if size < MAX_OCTAL else 0, mode, b"0")


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`<length> key=value\\n`, where the length counts its own digits."""
    length = len(key) + len(value) + 3
    total = length + len(str(length))
    if len(str(total)) > len(str(length)):
        total += 1
    return b"%d %s=%s\n" % (total, key, value)


def _ustar(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    fields = [
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,  # uid
        b"%07o\0" % 0,  # gid
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time
        b" " * 8,  # the checksum, counted as spaces
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(32 + 32 + 8 + 8 + 155 + 12),
    ]
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)
