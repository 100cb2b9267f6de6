"""A payload where the notebook finds it: every file has the size and the SHA-256 that payload.json says."""

import hashlib
import json
import os
import shutil
import tarfile

from launcher.agent import records

MANIFEST, AGENT, BUNDLE, ENVIRONMENT = "payload.json", "agent.bin", "bundle.bin", "environment.bin"
CHECKPOINT, SECRETS = "checkpoint.bin", "secrets.bin"
CHUNK = 1 << 20
_NEEDED = ("run", "segment", "platform", "root", "segments", "secrets", "order", "environment", "files")


class NotebookError(Exception):
    """What is wrong, in one line; a notebook shows it without a traceback."""

    def _render_traceback_(self):
        return ["launcher: %s" % self]


class Payload:
    """`facts` is payload.json; `path` finds the others, in its own folder or in one of `inputs`."""

    def __init__(self, folder, inputs=(), sha256=None):
        self._folders = [folder, *inputs]
        data = _read(os.path.join(folder, MANIFEST))
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise NotebookError("payload.json is not the one of this notebook; %s" % _AGAIN)
        try:
            self.facts = json.loads(data.decode("utf-8"))
            missing = [key for key in _NEEDED if key not in self.facts]
        except (ValueError, TypeError) as error:
            raise NotebookError("payload.json cannot be read (%s); %s" % (error, _AGAIN)) from error
        if missing or self.facts.get("v") != records.VERSION:
            raise NotebookError("payload.json is of another version of launcher; %s" % _AGAIN)

    def __contains__(self, name):
        return name in self.facts["files"]

    def path(self, name):
        """Where a file lies, with the right size; its content is checked by whoever reads it."""
        size, _ = self.facts["files"][name]
        seen = None
        for folder in self._folders:
            path = os.path.join(folder, name)
            try:
                seen = os.stat(path).st_size
            except OSError:
                continue
            if seen == size:
                return path
        if seen is None:
            raise NotebookError("%s is missing; %s" % (name, _AGAIN))
        raise NotebookError("%s has %d bytes and should have %d; %s" % (name, seen, size, _AGAIN))

    def checked(self, name):
        """The path of a file whose content was read and is right."""
        path = self.path(name)
        with open(path, "rb") as file:
            _compare(name, _drain(file).hexdigest(), self.facts["files"][name][1])
        return path

    def data(self, name):
        """The content of a small file."""
        data = _read(self.path(name))
        _compare(name, hashlib.sha256(data).hexdigest(), self.facts["files"][name][1])
        return data

    def open(self, name):
        """A file to be read to its end; `close` raises unless it was what it should be."""
        return _Proven(name, self.path(name), self.facts["files"][name][1])


_AGAIN = "make the notebook again with `launcher notebook`, and leave its files as they are"


class _Proven:
    """A file that hashes itself as it is read, from start to end."""

    def __init__(self, name, path, sha256):
        self._name, self._sha256 = name, sha256
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._digest = hashlib.sha256()

    def read(self, size):
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def finish(self):
        """Read what is left, and compare."""
        self._digest.update(b"")
        while self.read(CHUNK):
            pass
        _compare(self._name, self._digest.hexdigest(), self._sha256)

    def close(self):
        self._file.close()


def unpacked(path, folder):
    """The files of a packed payload (a tar) in `folder`; what already is there and has the right size stays."""
    os.makedirs(folder, 0o700, exist_ok=True)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg() or "/" in member.name or member.name in ("", ".", ".."):
                    raise NotebookError("%s holds %r; %s" % (os.path.basename(path), member.name, _AGAIN))
                _put(archive.extractfile(member), os.path.join(folder, member.name), member.size)
    except (OSError, tarfile.TarError) as error:
        raise NotebookError("%s cannot be unpacked: %s" % (os.path.basename(path), error)) from error
    return folder


def _put(source, path, size):
    if os.path.exists(path) and os.path.getsize(path) == size and os.path.basename(path) != MANIFEST:
        return
    temporary = "%s.%d.tmp" % (path, os.getpid())
    with open(temporary, "wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    os.replace(temporary, path)


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        name = os.path.basename(path)
        raise NotebookError("%s cannot be read: %s; %s" % (name, error.strerror, _AGAIN)) from error


def _drain(file):
    digest = hashlib.sha256()
    for data in iter(lambda: file.read(CHUNK), b""):
        digest.update(data)
    return digest


def _compare(name, found, wanted):
    if found != wanted:
        raise NotebookError("%s was changed: its SHA-256 is %s…; %s" % (name, found[:12], _AGAIN))
