"""Checkpoint and data as they come to a notebook: tars of plain files, proven while they are unpacked."""

import hashlib
import os
import shutil
import zipfile

from launcher.agent import datastore, download, hashing, records, unpack
from launcher.agent.notebook_payload import NotebookError

SINGLE, TREE = "single", "tree"  # below these names a source's one file, or its folder, lies in the tar


def unpack_tree(payload, name, folder):
    """The files below `files/` of the payload's tar `name`, in the new folder `folder`: all of them or none.

    Returns [path, size, SHA-256] of each.
    """
    temporary = folder + ".tmp"
    discard(temporary)
    os.makedirs(temporary, 0o755)
    source, made = payload.open(name), []
    try:
        for path, size, executable in unpack.members(_Forward(source)):
            below = unpack.inside(path)
            made.append([below, size, _make(source, os.path.join(temporary, below), size, executable)])
            source.read(-size % unpack.BLOCK)
        source.finish()
        os.replace(temporary, folder)
        return made
    except unpack.BadBundle as error:
        raise NotebookError("%s was changed: %s" % (name, error)) from error
    except OSError as error:
        raise NotebookError("%s cannot be unpacked: %s" % (name, error.strerror or error)) from error
    finally:
        source.close()
        discard(temporary)


def unpack_data(payload, name, place, digest):
    """A data source at `place`, a file or a folder; its list of [path, size, SHA-256], proven by `digest`."""
    if os.path.lexists(place):
        files = _listed(place)
    else:
        made = unpack_tree(payload, name, place + ".all")
        single = [path for path, _, _ in made] == [SINGLE]
        files = [["" if single else path[len(TREE) + 1 :], size, sha256] for path, size, sha256 in made]
        os.replace(os.path.join(place + ".all", SINGLE if single else TREE), place)
        discard(place + ".all")
    if digest_of(files) != digest:
        discard(place)
        raise NotebookError("%s was changed: its files are not those of the run" % name)
    return files


def seal(base, files):
    """Write-protect the files of a data source and date them, so that any later change is seen at once."""
    for path, _, _ in files:
        full = os.path.join(base, path) if path else base
        os.chmod(full, datastore.FILE_MODE)
        os.utime(full, ns=(datastore.WRITTEN_NS, datastore.WRITTEN_NS))


def fetch(key, told, path, say):
    """A source from the web at `path`; [its one entry]."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    part = path + ".part"
    fd = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        say("data %s: fetching %s" % (key, told["url"].partition("#")[0]))
        size = download.download(told["url"], told["sha256"], fd, lambda done, total: None)
        os.replace(part, path)
    except (download.NoWay, download.BadDownload) as error:
        raise NotebookError("data %s: %s" % (key, error)) from error
    except OSError as error:
        raise NotebookError("data %s cannot be kept: %s" % (key, error.strerror or error)) from error
    finally:
        os.close(fd)
    return [["", size, told["sha256"]]]


def pack(folder, path, inside):
    """A zip of the regular files of `folder`, below the name `inside`; links lead to what is no result."""
    temporary = path + ".tmp"
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, kind in hashing.walk(folder):
            if kind == "file":
                archive.write(os.path.join(folder, name), os.path.join(inside, name))
    os.replace(temporary, path)


def digest_of(files):
    return records.tree_digest([tuple(entry) for entry in files])


def discard(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)


def _listed(place):
    if os.path.isfile(place):
        return [["", *hashing.hash_file(place)]]
    return [[path, *hashing.hash_file(os.path.join(place, path))] for path, _ in hashing.walk(place)]


class _Forward:
    """What `unpack.members` needs of a file, of one that can only be read forward."""

    def __init__(self, source):
        self._source = source

    def read(self, size):
        return self._source.read(size)

    def seek(self, offset, whence):
        assert whence == os.SEEK_CUR
        self._source.read(offset)


def _make(source, path, size, executable):
    """Its SHA-256."""
    digest, left = hashlib.sha256(), size
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with open(path, "xb") as file:
        while left:
            data = source.read(min(left, 1 << 20))
            if not data:
                raise unpack.BadBundle("it ends in the middle of a file")
            digest.update(data)
            file.write(data)
            left -= len(data)
    os.chmod(path, 0o755 if executable else 0o644)
    return digest.hexdigest()
