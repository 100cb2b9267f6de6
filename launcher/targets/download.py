"""A data source from the web: fetched by the machine itself, or, where it has no way out, by way of this one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from typing import Any

from launcher.agent import download
from launcher.data.source import Entry, Source
from launcher.errors import IntegrityError, LauncherError, Refused, RemoteError, TargetError
from launcher.ledger.files import private_folder
from launcher.run import State
from launcher.target import Step
from launcher.targets.later import Later
from launcher.targets.send import TELL_S, Large, figure, send_large


def bring_download(steward: Any, source: Source) -> Generator[Step, None, Entry]:
    """The blob of the source is there; what stands in its list."""
    sha256 = str(source.sha256)
    size = steward.call("data_have", digests=[], blobs=[sha256]).get("blobs")
    size = None if size == [None] else figure(steward, size, 0)
    if size is None:
        try:
            size = yield from _there(steward, source)
        except RemoteError as error:
            if error.code != "no-way":
                raise _told(source, error) from error
            yield Step(State.SYNCING, f"data {source.key}", notice=f"{_said(error)}; fetching it here")
            size = yield from _here(steward, source)
    return "", figure(steward, size), sha256


def _there(steward: Any, source: Source) -> Generator[Step, None, Any]:
    stream = steward.stream("data_fetch", url=source.origin, sha256=source.sha256)
    yield Step(State.SYNCING, f"data {source.key}", "fetched there")
    while True:
        try:
            header, _ = next(stream)
        except StopIteration as end:
            return end.value.get("size")
        done, total = header.get("done"), header.get("total")
        if type(done) is int:
            yield _step(source, "fetched there", done, total if type(total) is int else None)


def _here(steward: Any, source: Source) -> Generator[Step, None, int]:
    """Into our own cache first: another machine may want it too."""
    sha256, told = str(source.sha256), [0, 0]

    def progress(done: int, total: int | None) -> None:
        told[:] = done, total or 0

    work = Later(lambda: _cached(source, progress))
    while not work.done(TELL_S):
        yield _step(source, "fetched here", told[0], told[1] or None)
    path = work.result()
    large = Large(path, os.stat(path).st_size, sha256)
    for sent in send_large(steward, large):
        yield _step(source, "sent from here", sent, large.size)
    return large.size


def _cached(source: Source, progress: Any) -> str:
    private_folder(source.kept)
    folder = source.kept / "downloads"
    private_folder(folder)
    path, part = folder / str(source.sha256), folder / f"{source.sha256}.part"
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if not path.exists():
            download.download(source.origin, str(source.sha256), fd, progress)
            os.fsync(fd)
            os.replace(part, path)
        else:
            part.unlink(missing_ok=True)
    except download.BadDownload as error:
        if not os.fstat(fd).st_size:
            part.unlink(missing_ok=True)
        raise IntegrityError(f"data {source.key}: {error}") from error
    except download.NoWay as error:
        raise TargetError(f"data {source.key}: {error}, neither from there nor from here") from error
    except OSError as error:
        raise LauncherError(f"cannot write to {folder}: {error.strerror}", "free some space") from error
    finally:
        os.close(fd)
    return str(path)


def _told(source: Source, error: RemoteError) -> LauncherError:
    what = f"data {source.key}: {_said(error)}"
    if error.code == "full":
        return Refused(f"{what} there", "free some space there, or choose another target with --on")
    return (
        IntegrityError(what, "does the address still lead to the same file?")
        if error.code == "bad"
        else error
    )


def _said(error: RemoteError) -> str:
    """The machine's own words, without the name of the request."""
    return error.message.partition("data_fetch: ")[2] or error.message


def _step(source: Source, detail: str, done: int, total: int | None) -> Step:
    return Step(
        State.SYNCING, f"data {source.key}", detail, done, None if total is None else max(total, done) + 1
    )
