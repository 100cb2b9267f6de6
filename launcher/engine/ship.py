"""Brings an image made here to another engine: only the layers that it lacks travel, and each byte once.

For servers that cannot pull or build. A cut leaves what arrived; the next try goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from launcher.engine.connection import Engine, download
from launcher.engine.layers import Export, Part, exported, kept, known_prefix
from launcher.engine.sending import Upload, sending
from launcher.errors import IntegrityError, RemoteError
from launcher.events import Progress

PHASE = "ship image"
FOLDER = "ships"


class There(Protocol):
    """The steward of the machine that gets the image."""

    def call(self, op: str, payload: bytes | Iterable[bytes] = b"", **args: Any) -> dict[str, Any]: ...

    def stream(
        self, op: str, payload: bytes | Iterable[bytes] = b"", **args: Any
    ) -> Generator[Any, None, Any]: ...


@dataclass(frozen=True)
class Shipment:
    """The image `tag` of the engine here; `spool` is a folder of this disk for its parts on the way."""

    tag: str
    spool: Path


def ship(engine: Engine, there: There, shipment: Shipment) -> Generator[Progress, None, str]:
    """The id of the image on the machine there. Nothing travels when it is there already."""
    ours = engine.inspect_image(shipment.tag)
    layers: list[str] = ours["RootFS"]["Layers"]
    if found := _inspect(there, shipment.tag, layers):
        return found
    folder = shipment.spool / str(ours["Id"]).partition(":")[2]
    chains = there.call("image_layers", first=layers[0])["chains"]
    known = known_prefix(layers, chains)
    arrived = yield from _bring(engine, there, shipment.tag, _Load(folder, layers, known))
    if arrived is None and known:  # not every store of images takes an archive that leaves out what it has
        arrived = yield from _bring(engine, there, shipment.tag, _Load(folder, layers, 0))
    if arrived is None:
        raise IntegrityError(f"the image {shipment.tag} was loaded and is not what was sent")
    shutil.rmtree(folder, ignore_errors=True)
    return arrived


@dataclass(frozen=True)
class _Load:
    folder: Path
    layers: Sequence[str]
    known: int


def _bring(engine: Engine, there: There, tag: str, load: _Load) -> Generator[Progress, None, str | None]:
    """The image's id there; None when that engine does not take it like this."""
    wanted = set(load.layers[load.known :])
    export = kept(load.folder, wanted)
    if export is None:
        yield Progress(PHASE, f"take {len(wanted)} of {len(load.layers)} layers out of the image")
        export = exported(download(engine, f"/images/{quote(tag, safe='')}/get"), wanted, load.folder)
    parts = [part for part in export.layers if part.digest in wanted]
    yield from _upload(there, export, [export.config, *parts])
    places = {part.digest: f"{FOLDER}/{part.sha256}" for part in parts}
    yield Progress(PHASE, "load")
    config = f"{FOLDER}/{export.config.sha256}"
    described = [[digest, places.get(digest)] for digest in load.layers]
    try:
        yield from _loading(there.stream("load_image", config=config, layers=described, tag=tag), len(parts))
    except RemoteError as error:
        if error.code == "docker" and load.known:
            return None
        raise
    for path in (config, *places.values()):
        there.call("remove", path=path)
    return _inspect(there, tag, load.layers)


def _loading(frames: Iterator[Any], count: int) -> Generator[Progress, None, None]:
    for number, _ in enumerate(frames, 1):
        yield Progress(PHASE, f"load layer {number} of {count}")


def _upload(there: There, export: Export, parts: Sequence[Part]) -> Generator[Progress, None, None]:
    """Each part whole and verified on the other disk; bytes that an earlier try left there stay at home."""
    there.call("mkdir", path=FOLDER)
    asked = [[f"{FOLDER}/{part.sha256}", part.size_bytes] for part in parts]
    have = there.call("have", files=asked)["have"]
    total = sum(part.size_bytes for part in parts)
    done = sum(part.size_bytes for part, there_already in zip(parts, have, strict=True) if there_already)
    yield _sent(done, total)
    for part, there_already in zip(parts, have, strict=True):
        if there_already:
            continue
        yield from _put(there, export.path(part), part, partial(_sent, done, total))
        done += part.size_bytes
    yield Progress(PHASE, "send", total, total, finished=True)


def _sent(before: int, total: int, at: int = 0) -> Progress:
    return Progress(PHASE, "send", before + at, total)


def _put(
    there: There, source: Path, part: Part, shown: Callable[[int], Progress]
) -> Generator[Progress, None, None]:
    """Sends one file from where the other side's copy ends."""
    offset = there.call("partial", sha256=part.sha256)["offset"]
    where = {"path": f"{FOLDER}/{part.sha256}", "sha256": part.sha256, "size": part.size_bytes}
    with source.open("rb") as file:
        file.seek(offset)
        upload = Upload(file)
        yield from sending(upload, lambda: there.call("put", upload.chunks(), offset=offset, **where), shown)


def _inspect(there: There, tag: str, layers: Sequence[str]) -> str | None:
    """The id of the image of that name there, if it has these layers."""
    answer = there.call("docker", method="GET", path=f"/images/{quote(tag, safe='')}/json")
    body = answer["body"]
    if answer["status"] != 200 or not isinstance(body, dict) or body["RootFS"]["Layers"] != list(layers):
        return None
    return str(body["Id"])
