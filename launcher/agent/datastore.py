"""Data on this machine: blobs by their hash, trees of hard links to them, and whether they are still what they were.

data/blobs/<sha256>            one content, mode 0444, its time set to a fixed instant: any later write shows
data/manifests/<digest>.json   [[path, size, sha256], …] of a source; of a single file, the path is ""
data/trees/<digest>            the source itself; it has this name only when it is complete
data/used/<digest>             empty; its time says when a run last asked for it
"""

import json
import os
import re
import stat

from launcher.agent import hashing, records

WRITTEN_NS = 10**18  # 2001-09-09: no file is this old by chance to the nanosecond
FILE_MODE, FOLDER_MODE = 0o444, 0o555
MOST_SHOWN = 5
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Damaged(Exception):
    """What is wrong with a manifest, in one line."""


def blob(root, sha256):
    return os.path.join(root, "data", "blobs", checked(sha256))


def manifest(root, digest):
    return os.path.join(root, "data", "manifests", checked(digest) + ".json")


def tree(root, digest):
    return os.path.join(root, "data", "trees", checked(digest))


def used(root, digest):
    return os.path.join(root, "data", "used", checked(digest))


def checked(digest):
    """The digest, if it is one: it becomes a name."""
    if not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
        raise ValueError("not a SHA-256: %.80r" % (digest,))
    return digest


def encode(files):
    """The bytes of a manifest."""
    return records.canonical(sorted(list(entry) for entry in files))


def read(data, digest):
    """The files of a manifest whose digest must be this; raises Damaged."""
    try:
        files = json.loads(data)
        if not files or records.tree_digest(files) != digest:
            raise Damaged("the manifest is not the one of %s" % digest[:12])
        for path, size, sha256 in files:
            checked(sha256)
            if type(size) is not int or size < 0 or not _inside(path, len(files)):
                raise Damaged("the manifest has a line that makes no sense: %.80r" % (path,))
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged("the manifest cannot be read: %s" % str(error)[:80]) from error
    return files


def load(path, digest):
    """As `read`, from a file."""
    try:
        with open(path, "rb") as file:
            return read(file.read(), digest)
    except OSError as error:
        raise Damaged("the manifest is not there: %s" % error.strerror) from error


def sound(path, size, sha256):
    """Whether a file is what it was: untouched since it was written, or at least of that hash."""
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        return found.st_mtime_ns == WRITTEN_NS or hashing.hash_file(path)[1] == sha256
    except (OSError, hashing.Changed):
        return False


def differences(base, files):
    """(path, what is wrong with it) of a source at `base`, in the order of paths; nothing when it is as it was."""
    if files[0][0] == "":
        return [] if sound(base, files[0][1], files[0][2]) else [("", _why(base))]
    wrong = [
        (path, _why(os.path.join(base, path)))
        for path, size, sha256 in files
        if not sound(os.path.join(base, path), size, sha256)
    ]
    known = {path for path, _, _ in files}
    if os.path.isdir(base) and not os.path.islink(base):
        wrong += [(path, "was added") for path, _ in hashing.walk(base) if path not in known]
    return wrong


def shown(wrong):
    """A few of the differences in one line."""
    parts = ["%s %s" % (json.dumps(path, ensure_ascii=False) if path else "it", why) for path, why in wrong]
    more = " and %d more" % (len(parts) - MOST_SHOWN) if len(parts) > MOST_SHOWN else ""
    return ", ".join(parts[:MOST_SHOWN]) + more


def whole(root, digest):
    """Whether the source lies here as it was sent."""
    try:
        return not differences(tree(root, digest), load(manifest(root, digest), digest))
    except Damaged:
        return False


def _why(path):
    return "has changed" if os.path.lexists(path) else "is missing"


def _inside(path, count):
    """Whether a path stays below the source's folder."""
    if path == "":
        return count == 1
    parts = path.split("/")
    return not {"", ".", ".."}.intersection(parts) and "\0" not in path
