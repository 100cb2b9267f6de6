"""Packs the files that an image is built from: a Docker build context as one tar."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from launcher.engine.squeeze import Squeezer

IN_MEMORY_BYTES = 8 << 20


@dataclass(frozen=True)
class Context:
    """`files` by their path in the context (bytes, or a file of this disk); `bundle` adds a job's files.

    Only what stands here travels: no folder is walked, so nothing gets in by accident.
    """

    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    bundle: Path | None = None
    compress: bool = False  # worth it over a network, not over a local socket


@contextlib.contextmanager
def packed(context: Context) -> Iterator[IO[bytes]]:
    """The tar, at its start; gone afterwards."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as out:
        if context.compress:
            with Squeezer(out.write) as squeezed:
                _write(context, cast(IO[bytes], squeezed))
        else:
            _write(context, out)
        out.seek(0)
        yield out


def _write(context: Context, out: IO[bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        if context.bundle is not None:
            _add_bundle(archive, context.bundle)
        for name, source in sorted(context.files.items()):
            _add(archive, name, source)


def _add(archive: tarfile.TarFile, name: str, source: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)
    if isinstance(source, Path):
        status = source.stat()
        entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
        with source.open("rb") as file:
            archive.addfile(entry, file)
    else:
        entry.size, entry.mode = len(source), 0o644
        archive.addfile(entry, io.BytesIO(source))


def _add_bundle(archive: tarfile.TarFile, bundle: Path) -> None:
    """A job's files as its author sees them: without the `files/` that they stand under in the bundle."""
    with tarfile.open(bundle, mode="r:") as source:
        for entry in source:
            if not (entry.isfile() and entry.name.startswith("files/")):
                continue
            content = source.extractfile(entry)
            assert content is not None
            entry.name = entry.name.removeprefix("files/")
            entry.pax_headers = {}
            archive.addfile(entry, content)


def size_of(file: IO[bytes]) -> int:
    """How many bytes there are from here to the end."""
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    return end - here
