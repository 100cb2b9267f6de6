"""Uploads: a token and a URL each, bytes that arrive in one piece or go on where the last attempt ended."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.emulators.kaggle.problem import Problem


@dataclass
class Blob:
    """One file on its way; `path` holds what has arrived."""

    owner: str
    name: str
    size_bytes: int
    path: Path

    @property
    def arrived(self) -> int:
        return self.path.stat().st_size

    @property
    def complete(self) -> bool:
        return self.arrived == self.size_bytes


class Blobs:
    """All uploads by token; the URL's key is another secret than the token."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._by_token: dict[str, Blob] = {}
        self._by_key: dict[str, Blob] = {}
        self._lock = threading.Lock()

    def start(self, owner: str, name: str, size_bytes: int) -> tuple[str, str]:
        """The token and the key of the URL for a new upload."""
        token, key = secrets.token_hex(12), secrets.token_hex(12)
        blob = Blob(owner, name, size_bytes, self._folder / token)
        blob.path.touch()
        with self._lock:
            self._by_token[token] = self._by_key[key] = blob
        return token, key

    def of_key(self, key: str) -> Blob:
        """404, as an upload that has expired."""
        with self._lock:
            if key not in self._by_key:
                raise Problem(404, "the upload has expired")
            return self._by_key[key]

    def expire(self) -> None:
        """All URLs end now; what was not complete has to start again."""
        with self._lock:
            self._by_key.clear()

    def use(self, owner: str, token: str) -> Blob:
        """A finished upload, for a dataset's version."""
        with self._lock:
            blob = self._by_token.get(token)
        if blob is None or blob.owner != owner or not blob.complete:
            raise Problem(400, f"the upload token {token!r} is unknown or its file is not complete")
        return blob


def range_of(header: str | None, size_bytes: int) -> tuple[int | None, int]:
    """Where a PUT starts, None for a question, and how long it says the whole is."""
    if header is None:
        return 0, size_bytes
    part, _, total = header.removeprefix("bytes ").partition("/")
    return (None if part == "*" else int(part.split("-")[0])), int(total)
