"""Ranges of a file behind a signed URL, which go on by themselves after a cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import requests

from launcher.errors import RemoteError, Unreachable
from launcher.targets.kaggle.rpc import denied, patiently
from launcher.targets.kaggle.wire import Ask, Wire, chunks

EXPIRED = (400, 401, 403)  # what storages answer to a signature whose time is over
SPAN = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass
class Place:
    """Where a download is: the next byte, where it ends, and which file it is."""

    at: int
    end: int | None
    same: str = ""  # the file's ETag, or its date
    size: int | None = None

    @property
    def done(self) -> bool:
        ends = [limit for limit in (self.end, self.size) if limit is not None]
        return bool(ends) and self.at >= min(ends)


def read(wire: Wire, url: str, offset: int, length: int | None) -> Iterator[bytes]:
    """The bytes from `offset` on. RemoteError with code expired, missing or changed says what is to do."""
    place = Place(offset, None if length is None else offset + length)
    waits = wire.patience.waits()
    while not place.done:
        before = place.at
        try:
            yield from _attempt(wire, url, place)
            if place.size is None:  # and the answer was whole
                return
        except Unreachable:
            if place.at > before:
                waits.progress()
            if not waits.again():
                raise
        else:
            if place.at == before and not place.done:
                raise RemoteError("Kaggle's storage sends less of the file than there is", "try again later")


def _attempt(wire: Wire, url: str, place: Place) -> Iterator[bytes]:
    """One answer's worth; the place moves with it."""
    with patiently(
        wire, Ask("GET", url, headers=_headers(place), follow=True), lambda answer: answer
    ) as answer:
        skip = _begins(answer, place)
        for piece in chunks(answer) if skip is not None else ():
            skipped, skip = piece[: skip or 0], max(0, (skip or 0) - len(piece))
            kept = piece[len(skipped) :]
            if place.end is not None:
                kept = kept[: place.end - place.at]
            place.at += len(kept)
            if kept:
                yield kept
            if place.done:
                return


def _headers(place: Place) -> dict[str, str]:
    if place.at == 0 and place.end is None:
        return {}
    last = "" if place.end is None else str(place.end - 1)
    same = {"If-Range": place.same} if place.same and not place.same.startswith("W/") else {}
    return {"Range": f"bytes={place.at}-{last}", **same}


def _begins(answer: requests.Response, place: Place) -> int | None:
    """How many of the answer's bytes lie before the place; None when there is nothing from there on."""
    if answer.status_code == 416:
        place.size = place.at
        return None
    if answer.status_code not in (200, 206):
        raise _no(answer)
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RemoteError("Kaggle's storage sends the file packed, which was not asked for")
    same = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if place.same and same != place.same:
        raise _coded("Kaggle's file changed while it was fetched", "changed")
    place.same = same
    if answer.status_code == 200:
        said = answer.headers.get("Content-Length", "")
        place.size = int(said) if re.fullmatch(r"\d{1,18}", said) else None
        return place.at
    found = SPAN.fullmatch(answer.headers.get("Content-Range", ""))
    if not found or int(found[1]) != place.at:
        raise RemoteError("Kaggle's storage sends another part of the file than was asked for")
    place.size = None if found[3] == "*" else int(found[3])
    return 0


def _no(answer: requests.Response) -> RemoteError:
    error: RemoteError = denied("the download", answer)
    if answer.status_code in EXPIRED:
        return _coded("Kaggle's address of the file is no longer valid", "expired")
    if answer.status_code in (404, 410):
        return _coded("the file is no longer at Kaggle", "missing")
    return error


def _coded(message: str, code: str) -> RemoteError:
    error = RemoteError(message)
    error.code = code
    return error
