"""Data on this machine, for the client: what is there, what is missing, and the trees that jobs are given."""

import contextlib
import hashlib
import os
import shutil

from launcher.agent import datastore, records
from launcher.agent.operation import Failure
from launcher.agent.steward_files import below

PROGRESS_BYTES = 1 << 20


def data_have(operation):
    """Which of the sources (by digest) lie here whole, how large the single blobs are, and the room that is left."""
    root = operation.root
    return {
        "whole": [datastore.whole(root, digest) for digest in operation.args["digests"]],
        "blobs": [_size(datastore.blob(root, sha256), sha256) for sha256 in operation.args.get("blobs", [])],
        "free_bytes": free_bytes(root),
    }


def data_lacks(operation):
    """The places in the given list of [sha256, size] of what is not here, or not any more as it was."""
    lacks = []
    for place, (sha256, size) in enumerate(operation.args["files"]):
        operation.check()
        if not datastore.sound(datastore.blob(operation.root, sha256), size, sha256):
            lacks.append(place)
    return {"lacks": lacks, "free_bytes": free_bytes(operation.root)}


def data_put(operation):
    """Many small blobs in one upload, one behind the other; says how far it is, and which were not what was said."""
    folder = _folder(operation.root, "blobs")
    stream = _Stream(operation.uploads())
    wrong, done, told = [], 0, 0
    for place, (sha256, size) in enumerate(operation.args["files"]):
        data = stream.take(size)
        if hashlib.sha256(data).hexdigest() != datastore.checked(sha256):
            wrong.append(place)
        elif not datastore.sound(
            os.path.join(folder, sha256), size, sha256
        ):  # another client may have been faster
            _keep(operation, os.path.join(folder, sha256), data)
        done += size
        if done - told >= PROGRESS_BYTES:
            operation.send(done=done)
            told = done
    return {"wrong": wrong}


def data_tree(operation):
    """Make the tree of the uploaded manifest, or mend it; says which blobs (places in the manifest) it still lacks."""
    root, digest = operation.root, datastore.checked(operation.args["digest"])
    payload = operation.payload()
    try:
        files = datastore.read(payload, digest)
    except datastore.Damaged as error:
        raise Failure("bad", str(error)) from error
    _touch(root, digest)
    lacks = [place for place, entry in enumerate(files) if not _mended(root, entry)]
    if lacks:
        return {"lacks": lacks}
    blobs = _folder(root, "blobs")
    _folder(root, "manifests")
    records.write_durably(datastore.manifest(root, digest), payload, datastore.FILE_MODE)
    target = os.path.join(_folder(root, "trees"), digest)
    if not (os.path.lexists(target) and _repaired(operation, target, files)):
        _build(operation, target, files)
    # Nobody waits for it: what a power cut leaves short is found by its size, and sent again.
    operation.linger(lambda: _sync(blobs))
    return {"lacks": []}


def data_use(operation):
    """Give a segment its sources: their manifests for its agent, and with `links` the names below its data/."""
    folder = below(operation.root, operation.args["folder"])
    sources = os.path.join(folder, records.SOURCES)
    os.makedirs(sources, mode=0o700, exist_ok=True)
    os.makedirs(os.path.join(folder, records.DATA), exist_ok=True)
    for key, digest in operation.args["sources"].items():
        if "/" in key or key in ("", ".", ".."):
            raise Failure("bad", "not a name for data: %.80r" % key)
        _touch(operation.root, digest)
        _replace(os.link, datastore.manifest(operation.root, digest), os.path.join(sources, key + ".json"))
        if operation.args.get("links"):
            tree = datastore.tree(operation.root, digest)
            _replace(os.symlink, tree, os.path.join(folder, records.DATA, key))


def data_kept(operation):
    """How many sources lie here, and what all contents take."""
    sizes = [
        entry.stat(follow_symlinks=False).st_size for entry in os.scandir(_folder(operation.root, "blobs"))
    ]
    trees = [name for name in os.listdir(_folder(operation.root, "trees")) if "." not in name]
    return {"sources": len(trees), "blobs": len(sizes), "size_bytes": sum(sizes)}


def free_bytes(root):
    """What an ordinary user may still write here."""
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


class _Stream:
    """Exact pieces of an upload."""

    def __init__(self, pieces):
        self._pieces = pieces
        self._rest = memoryview(b"")

    def take(self, size):
        parts, missing = [], size
        while missing > len(self._rest):
            parts.append(self._rest)
            missing -= len(self._rest)
            piece = next(self._pieces, None)
            if piece is None:
                raise Failure("bad", "the upload ended early")
            self._rest = memoryview(piece)
        parts.append(self._rest[:missing])
        self._rest = self._rest[missing:]
        return b"".join(parts)


def _keep(operation, path, data):
    """A blob gets its name when it is whole; a damaged one of that name is replaced."""
    temporary = "%s.%d-%d.tmp" % (path, os.getpid(), operation.id)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fchmod(fd, datastore.FILE_MODE)
        os.utime(fd, ns=(datastore.WRITTEN_NS, datastore.WRITTEN_NS))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def _mended(root, entry):
    """Whether the blob of a manifest's line is sound; a mere touch is taken back."""
    _, size, sha256 = entry
    path = datastore.blob(root, sha256)
    if not datastore.sound(path, size, sha256):
        return False
    if os.lstat(path).st_mtime_ns != datastore.WRITTEN_NS:
        os.utime(path, ns=(datastore.WRITTEN_NS, datastore.WRITTEN_NS))
    return True


def _build(operation, target, files):
    """Under another name first: what has the name is complete."""
    temporary = "%s.%d-%d.tmp" % (target, os.getpid(), operation.id)
    discard(temporary)
    try:
        if files[0][0] == "":
            _link(operation.root, files[0][2], temporary)
            os.replace(temporary, target)
        else:
            _fill(operation, temporary, files)
            os.rename(temporary, target)
    except OSError:
        if not datastore.whole(operation.root, os.path.basename(target)):  # else another client was faster
            raise
    finally:
        discard(temporary)
    records.sync_folder(os.path.dirname(target))


def _fill(operation, folder, files):
    made = {folder}
    os.mkdir(folder, 0o700)
    for path, _, sha256 in files:
        operation.check()
        full = os.path.join(folder, path)
        parent = os.path.dirname(full)
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            while parent not in made:
                made.add(parent)
                parent = os.path.dirname(parent)
        _link(operation.root, sha256, full)
    for one in made:
        os.chmod(one, datastore.FOLDER_MODE)


def _repaired(operation, target, files):
    """Put right, file by file and each at once, what is not as it was: a run may be reading the others."""
    try:
        wrong = datastore.differences(target, files)
        hashes = {path: sha256 for path, _, sha256 in files}
        for path, _ in wrong:
            full = os.path.join(target, path) if path else target
            with _writable(os.path.dirname(full), target):
                if path in hashes:
                    temporary = "%s.%d-%d.tmp" % (target, os.getpid(), operation.id)
                    _link(operation.root, hashes[path], temporary)
                    os.replace(temporary, full)
                else:
                    os.unlink(full)
    except OSError:  # a folder where a file was, and the like
        discard(target)
        return False
    return True


@contextlib.contextmanager
def _writable(folder, target):
    """The folder of a tree, made where it is missing, may be written for a moment."""
    inside = folder == target or folder.startswith(target + "/")
    if inside and not os.path.isdir(folder):
        with _writable(os.path.dirname(folder), target):
            os.mkdir(folder)
    if inside:
        os.chmod(folder, 0o700)
    try:
        yield
    finally:
        if inside:
            os.chmod(folder, datastore.FOLDER_MODE)


def _link(root, sha256, path):
    source = datastore.blob(root, sha256)
    try:
        os.link(source, path)
    except OSError:  # too many links to one content, or a file system without any
        shutil.copyfile(source, path)
        os.chmod(path, datastore.FILE_MODE)
        os.utime(path, ns=(datastore.WRITTEN_NS, datastore.WRITTEN_NS))


def _replace(make, source, path):
    temporary = "%s.%d.tmp" % (path, os.getpid())
    with contextlib.suppress(OSError):
        os.unlink(temporary)
    make(source, temporary)
    os.replace(temporary, path)
    if os.path.lexists(temporary):
        os.unlink(temporary)  # rename of two links to the same file does nothing


def discard(path):
    """A tree or a file, gone; its folders let nobody write."""
    if os.path.isdir(path) and not os.path.islink(path):
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _touch(root, digest):
    _folder(root, "used")
    with open(datastore.used(root, digest), "wb"):
        pass
    os.utime(datastore.used(root, digest))


def _size(path, sha256):
    try:
        size = os.lstat(path).st_size
    except OSError:
        return None
    return size if datastore.sound(path, size, sha256) else None


def _folder(root, name):
    path = os.path.join(root, "data", name)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def _sync(folder):
    """One for many files: all that was written to this disk is on it."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        import ctypes

        if ctypes.CDLL(None).syncfs(fd) == 0:
            return
    except (ImportError, OSError, AttributeError):
        pass
    finally:
        os.close(fd)
    os.sync()
