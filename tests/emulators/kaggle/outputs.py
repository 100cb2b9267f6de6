"""What a session left: its pages of files behind signed URLs, and its log, live or finished."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.emulators.kaggle.problem import Problem
from tests.emulators.kaggle.sessions import Session, plain_files
from tests.emulators.kaggle.settings import Faults

Body = dict[str, Any]
SECRET = secrets.token_bytes(16)
LOOK_S = 0.2


def page(session: Session, body: Body, base: str, lives_s: float) -> Body:
    """A page of the outputs, with URLs that need no account; nothing before the session is over."""
    if not session.over or session.outputs is None:
        return {"files": [], "log": "", "nextPageToken": ""}
    paths = list(plain_files(session.outputs))
    start, size = int(body.get("pageToken") or 0), min(int(body.get("pageSize") or 20), 200)
    files = []
    for path in paths[start : start + size]:
        name = str(path.relative_to(session.outputs))
        files.append({"fileName": name, "url": base + signed(session.id, name, time.time() + lives_s)})
    more = str(start + size) if start + size < len(paths) else ""
    return {"files": files, "log": session.log.array(), "nextPageToken": more}


def signed(session_id: int, name: str, until: float) -> str:
    """The path of a URL that opens one file until a time."""
    query = urllib.parse.urlencode(
        {"until": f"{until:.3f}", "sig": _signature(session_id, name, f"{until:.3f}")}
    )
    return f"/signed/{session_id}/{urllib.parse.quote(name)}?{query}"


def open_signed(target: str, sessions: list[Session]) -> Path:
    """The file behind such a URL; 403 when it is forged or over, as the storage answers."""
    parts = urllib.parse.urlsplit(target)
    _, _, number, name = parts.path.split("/", 3)
    name = urllib.parse.unquote(name)
    query = dict(urllib.parse.parse_qsl(parts.query))
    until = query.get("until", "0")
    good = hmac.compare_digest(query.get("sig", ""), _signature(int(number), name, until))
    if not good or float(until) < time.time():
        raise Problem(403, "the signature is invalid or has expired")
    session = next((one for one in sessions if one.id == int(number)), None)
    if session is None or session.outputs is None:
        raise Problem(404, "no such object")
    return session.outputs / name


def stream(session: Session, faults: Faults) -> Iterator[bytes | None]:
    """A live log from its start, framed; None: the connection is to be cut now, in the middle of an event."""
    sent, began = 0, time.monotonic()
    last = began
    while True:
        events = session.log.after(sent, LOOK_S)
        sent += len(events)
        now = time.monotonic()
        last = now if events else last
        frames = b"".join(f"data: {event}\n\n".encode() for event in events)
        if _due(faults.cut_stream_after_s, now - began) or _due(faults.cut_idle_stream_after_s, now - last):
            yield frames[: len(frames) // 2]
            yield None
        yield frames
        if session.log.closed and not session.log.after(sent, 0):
            yield b"data: END_OF_LOG\n\n"
            return


def byte_range(path: Path, headers: Any) -> tuple[int, int, int]:
    """Status, first byte and length of what a GET of a file answers."""
    size = path.stat().st_size
    asked = headers.get("Range", "")
    whole = headers.get("If-Range") not in (None, etag(path), modified(path))
    if not asked.startswith("bytes=") or whole:
        return 200, 0, size
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if not first:
        start = max(0, size - int(last))
        return 206, start, size - start
    if int(first) >= size:
        return 416, 0, 0
    end = min(int(last), size - 1) if last else size - 1
    return 206, int(first), end - int(first) + 1


def etag(path: Path) -> str:
    about = path.stat()
    return f'"{hashlib.md5(f"{path} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()}"'


def modified(path: Path) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(path.stat().st_mtime))


def _due(limit_s: float | None, passed_s: float) -> bool:
    return limit_s is not None and passed_s >= limit_s


def _signature(session_id: int, name: str, until: str) -> str:
    return hmac.new(SECRET, f"{session_id}/{name}?{until}".encode(), "sha256").hexdigest()
