"""Room for new data: sources that no run needs now go, the longest unused first, and none unless that is enough."""

import contextlib
import json
import os
import time

from launcher.agent import datastore, records
from launcher.agent.steward_data import discard, free_bytes

FRESH_S = 3600.0  # asked for so lately: its run may be about to start


def data_evict(operation):
    """Free at least `bytes`, or remove nothing; says how many sources went."""
    root, wanted = operation.root, int(operation.args["bytes"])
    leaving, freed = [], 0
    for digest in _unused(root):
        if freed >= wanted:
            break
        leaving.append(digest)
        freed = _size(root, leaving)
    if freed < wanted:
        return {"removed": 0, "free_bytes": free_bytes(root)}
    for digest in leaving:
        operation.check()
        _remove(root, digest)
    return {"removed": len(leaving), "free_bytes": free_bytes(root)}


def _unused(root):
    """The digests of sources that no segment without an exit record has, the longest unused first."""
    busy, now = _busy(root), time.time()
    found = []
    for name in _listing(os.path.join(root, "data", "trees")):
        try:
            asked = os.stat(datastore.used(root, name)).st_mtime
        except (OSError, ValueError):  # not ours, or still being built
            continue
        if name not in busy and now - asked > FRESH_S:
            found.append((asked, name))
    return [name for _, name in sorted(found)]


def _busy(root):
    """The digests of all sources of segments that have not ended."""
    busy = set()
    runs = os.path.join(root, "runs")
    for run in _listing(runs):
        for number in _listing(os.path.join(runs, run)):
            folder = os.path.join(runs, run, number)
            if not os.path.exists(os.path.join(folder, records.EXIT)):
                busy.update(_digests(os.path.join(folder, records.ORDER)))
    return busy


def _digests(order):
    try:
        with open(order, "rb") as file:
            return [told["digest"] for told in json.loads(file.read())["data"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _size(root, leaving):
    """What the contents take that only these sources have."""
    links, sizes = {}, {}
    for digest in leaving:
        for _, size, sha256 in _files(root, digest):
            links[sha256] = links.get(sha256, 0) + 1
            sizes[sha256] = size
    return sum(size for sha256, size in sizes.items() if _links(root, sha256) <= links[sha256] + 1)


def _remove(root, digest):
    """The tree first: what has its name is complete. Then the contents that no other tree has."""
    files = _files(root, digest)
    discard(datastore.tree(root, digest))
    for path in (datastore.manifest(root, digest), datastore.used(root, digest)):
        discard(path)
    for _, _, sha256 in files:
        if _links(root, sha256) == 1:
            with contextlib.suppress(OSError):
                os.unlink(datastore.blob(root, sha256))


def _files(root, digest):
    try:
        return datastore.load(datastore.manifest(root, digest), digest)
    except datastore.Damaged:
        return []


def _links(root, sha256):
    try:
        return os.lstat(datastore.blob(root, sha256)).st_nlink
    except OSError:
        return 0


def _listing(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
