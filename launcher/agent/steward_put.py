"""Uploads: resumable, hashed on arrival, and under their name only when whole and on disk."""

import contextlib
import fcntl
import hashlib
import os
import re
import time

from launcher.agent import datastore
from launcher.agent.operation import Failure
from launcher.agent.records import sync_folder
from launcher.agent.steward_files import below

SHA256 = re.compile(r"[0-9a-f]{64}")
BLOCK = 1 << 20
PATIENCE_S = 90.0  # for another upload of the same content; one whose client is gone ends sooner


def partial(operation):
    """How many bytes of a file with this hash an earlier, cut upload left here."""
    try:
        return {"offset": os.stat(part_of(operation)).st_size}
    except FileNotFoundError:
        return {"offset": 0}


def put(operation):
    """The upload's bytes, from `offset` (default: where an earlier one stopped), into `path`."""
    path = below(operation.root, operation.args["path"])
    part = part_of(operation)
    for folder in (os.path.dirname(part), os.path.dirname(path)):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    fd = open_part(operation, part)
    try:
        if _came_first(operation, path):
            forget(part)
            return
        _receive(operation, fd, part)
        os.fchmod(fd, int(operation.args.get("mode") or 0o600))
        if operation.args.get("mtime_ns") is not None:
            os.utime(fd, ns=(int(operation.args["mtime_ns"]),) * 2)
        os.fsync(fd)
        os.replace(part, path)
    except BaseException:
        if operation.args.get("keep_partial") is False:
            forget(part)
        raise
    finally:
        os.close(fd)
    sync_folder(os.path.dirname(path))


def _came_first(operation, path):
    """Whether another upload of the same blob was under way and has ended well."""
    args = operation.args
    return args.get("mtime_ns") is not None and datastore.sound(path, int(args["size"]), args["sha256"])


def _receive(operation, fd, part):
    digest = hashlib.sha256()
    at = _start(operation, fd, digest)
    size = int(operation.args["size"])
    for piece in operation.uploads():
        at += len(piece)
        if at > size:
            break
        digest.update(piece)
        _write(fd, piece)
    if at < size:
        raise Failure("bad", "the upload ended after %d of %d bytes" % (at, size))
    if at > size or digest.hexdigest() != operation.args["sha256"]:
        forget(part)
        raise Failure("bad", "what arrived has not the SHA-256 that was announced")


def _start(operation, fd, digest):
    """Cut the part file where this upload goes on, and hash what stays."""
    here = os.fstat(fd).st_size
    offset = here if operation.args.get("offset") is None else int(operation.args["offset"])
    if offset > here:
        raise Failure("bad", "only %d bytes are here, cannot go on at %d" % (here, offset))
    os.ftruncate(fd, offset)
    os.lseek(fd, 0, os.SEEK_SET)
    left = offset
    while left:
        piece = os.read(fd, min(BLOCK, left))
        digest.update(piece)
        left -= len(piece)
    return offset


def open_part(operation, part):
    """The part file, locked: one upload of a content at a time, the next one waits until it has ended."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        if _locked(fd, part):
            return fd
        os.close(fd)
        operation.check()
        if time.monotonic() > give_up:
            raise Failure("exists", "another upload of the same content is under way")
        time.sleep(0.02)


def _locked(fd, part):
    """Ours now, and still the file of that name: the one before may have renamed it away."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.stat(part), os.fstat(fd))
    except OSError:
        return False


def _write(fd, piece):
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def forget(part):
    with contextlib.suppress(OSError):
        os.unlink(part)


def part_of(operation):
    digest = operation.args["sha256"]
    if not (isinstance(digest, str) and SHA256.fullmatch(digest)):
        raise Failure("bad", "not a SHA-256: %.80r" % (digest,))
    return os.path.join(operation.root, "blobs", digest + ".part")
