"""An image taken apart: its configuration and the layers that somebody else lacks, as files of this disk.

Reads what `docker save` writes, of both kinds: until Docker 24 one folder a layer, whose hash is the layer's
own digest; since then an OCI layout, where layers may be compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

from launcher.agent import records
from launcher.engine.squeeze import COMPRESSED, Squeezer
from launcher.errors import IntegrityError

INDEX = "export.json"
SMALL = ("json", "VERSION", "repositories", "oci-layout")
BLOB = "blobs/sha256/"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """A layer (`digest` is that of its uncompressed tar) or the configuration: a file named by its hash."""

    digest: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Export:
    """An image's parts in `folder`; layers that were not wanted are left out."""

    folder: Path
    config: Part
    layers: Sequence[Part]

    def path(self, part: Part) -> Path:
        return self.folder / part.sha256


def known_prefix(ours: Sequence[str], chains: Iterable[Sequence[str]]) -> int:
    """How many of our layers, from the lowest, an engine has: one counts only on the same ones below."""
    best = 0
    for chain in chains:
        same = 0
        for ours_one, theirs in zip(ours, chain, strict=False):
            if ours_one != theirs:
                break
            same += 1
        best = max(best, same)
    return best


def exported(chunks: Iterable[bytes], wanted: Set[str], folder: Path) -> Export:
    """Take a saved image apart; of its layers keep those of which the digest is wanted, compressed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    reader = _Reader(folder, wanted)
    with tarfile.open(fileobj=cast(IO[bytes], _Stream(chunks)), mode="r|", bufsize=CHUNK_BYTES) as archive:
        for entry in archive:
            reader.take(archive, entry)
    export = reader.export()
    records.write_durably(str(folder / INDEX), records.canonical(_plain(export)))
    return export


def kept(folder: Path, wanted: Set[str]) -> Export | None:
    """What an earlier, interrupted shipping took apart, if all that is wanted is still there."""
    try:
        plain = json.loads((folder / INDEX).read_bytes())
        export = Export(folder, Part(**plain["config"]), [Part(**layer) for layer in plain["layers"]])
        whole = all(export.path(p).stat().st_size == p.size_bytes for p in (export.config, *export.layers))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return export if whole and wanted <= {layer.digest for layer in export.layers} else None


def _plain(export: Export) -> dict[str, Any]:
    return {"config": asdict(export.config), "layers": [asdict(layer) for layer in export.layers]}


class _Reader:
    """Sees every member of a saved image once; which layer is which it learns last."""

    def __init__(self, folder: Path, wanted: Set[str]) -> None:
        self._folder = folder
        self._wanted = wanted
        self._small: dict[str, bytes] = {}
        self._large: dict[str, tuple[str, int]] = {}  # name -> (SHA-256, size)
        self._links: dict[str, str] = {}

    def take(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        if entry.issym() or entry.islnk():
            base = posixpath.dirname(entry.name) if entry.issym() else ""
            self._links[entry.name] = posixpath.normpath(posixpath.join(base, entry.linkname))
            return
        source = archive.extractfile(entry) if entry.isfile() else None
        if source is None:
            return
        if entry.name.rpartition("/")[2].rpartition(".")[2] in SMALL:
            self._small[entry.name] = source.read()
        else:
            self._large[entry.name] = _stored(source, self._folder)

    def export(self) -> Export:
        """Keeps what is wanted, forgets the rest."""
        manifest = json.loads(self._small["manifest.json"])[0]
        raw = self._read(manifest["Config"])
        digests = json.loads(raw)["rootfs"]["diff_ids"]
        parts = {}
        for digest, name in zip(digests, manifest["Layers"], strict=True):
            if digest in self._wanted:
                parts[digest] = Part(digest, *self._found(name))
        config = self._config(raw)
        self._forget({config.sha256, *(part.sha256 for part in parts.values())})
        if missing := self._wanted - parts.keys():
            raise IntegrityError(f"the saved image has no layer {min(missing)}")
        return Export(self._folder, config, list(parts.values()))

    def _found(self, name: str) -> tuple[str, int]:
        return self._large[self._links.get(name, name)]

    def _read(self, name: str) -> bytes:
        if name in self._small:
            return self._small[name]
        data = (self._folder / self._found(name)[0]).read_bytes()
        return gzip.decompress(data) if data.startswith(COMPRESSED[0]) else data

    def _config(self, raw: bytes) -> Part:
        sha256 = hashlib.sha256(raw).hexdigest()
        (self._folder / sha256).write_bytes(raw)
        return Part(f"sha256:{sha256}", sha256, len(raw))

    def _forget(self, keep: Set[str]) -> None:
        for sha256, _ in self._large.values():
            if sha256 not in keep:
                (self._folder / sha256).unlink(missing_ok=True)


def _stored(source: IO[bytes], folder: Path) -> tuple[str, int]:
    """Copy a member into the folder, compressed, under the SHA-256 of that; (SHA-256, size)."""
    temporary = folder / f"{os.getpid()}.tmp"
    with temporary.open("wb") as out:
        hashed = _Hashed(out)
        first = source.read(CHUNK_BYTES)
        if first.startswith(COMPRESSED):
            hashed.write(first)
            shutil.copyfileobj(source, hashed, CHUNK_BYTES)
        else:
            with Squeezer(hashed.write) as squeezed:
                squeezed.write(first)
                shutil.copyfileobj(source, squeezed, CHUNK_BYTES)
    sha256 = hashed.digest.hexdigest()
    os.replace(temporary, folder / sha256)
    return sha256, hashed.size_bytes


class _Hashed:
    """A file to write to that knows the digest of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest, self.size_bytes = hashlib.sha256(), 0
        self._file = file

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)


class _Stream:
    """Chunks as what tarfile reads from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        pieces, have = [self._rest], len(self._rest)
        while have < size and (piece := next(self._chunks, b"")):
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self._rest = data[size:]
        return data[:size]
