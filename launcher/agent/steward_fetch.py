"""A blob that this machine fetches by itself: resumable, hashed as it comes, one fetch of a content at a time."""

import os
import time

from launcher.agent import datastore, download, records, steward_put
from launcher.agent.operation import Failure
from launcher.agent.steward_data import free_bytes

TELL_S = 0.2
MARGIN_BYTES = 64 << 20


def data_fetch(operation):
    """`url` into the blob `sha256`; streams {"done","total"}. The error `no-way` says that others may reach it."""
    root, sha256 = operation.root, datastore.checked(operation.args["sha256"])
    path = datastore.blob(root, sha256)
    part = steward_put.part_of(operation)
    for folder in (os.path.dirname(part), os.path.dirname(path)):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    fd = steward_put.open_part(operation, part)
    try:
        if os.path.exists(path) and datastore.sound(path, os.stat(path).st_size, sha256):
            steward_put.forget(part)  # another client's fetch was under way and is done
            return {"size": os.stat(path).st_size}
        size = _download(operation, fd, part)
        os.fchmod(fd, datastore.FILE_MODE)
        os.utime(fd, ns=(datastore.WRITTEN_NS, datastore.WRITTEN_NS))
        os.fsync(fd)
        os.replace(part, path)
    finally:
        os.close(fd)
    records.sync_folder(os.path.dirname(path))
    return {"size": size}


def _download(operation, fd, part):
    told = [0.0]

    def progress(done, total):
        operation.check()
        if total is not None and total - done > free_bytes(operation.root) - MARGIN_BYTES:
            raise Failure(
                "full", "%d bytes are to come and %d are free" % (total - done, free_bytes(operation.root))
            )
        if time.monotonic() - told[0] >= TELL_S:
            told[0] = time.monotonic()
            operation.send(done=done, total=total)

    try:
        return download.download(operation.args["url"], operation.args["sha256"], fd, progress)
    except download.BadDownload as error:
        if not os.fstat(fd).st_size:  # else a server that is out of order for a moment: go on another time
            steward_put.forget(part)
        raise Failure("bad", str(error)) from error
    except download.NoWay as error:
        raise Failure("no-way", str(error)) from error
