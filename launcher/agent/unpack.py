"""Unpack a bundle: an uncompressed tar of regular files; those below `files/` go into the job's folder.

Own code, because `tarfile` does what an archive says: here nothing is ever made but plain files and folders.
"""

import hashlib
import os

BLOCK = 512
FILES = "files/"
BESIDE = (
    "requirements.lock",
    "environment.json",
)  # in the bundle for its digest and for building, not for the job
_MAX_HEADER_BYTES = 1024 * 1024
_REGULAR = (b"0", b"\0")
_LONG_NAME, _EXTENDED = b"L", b"x"


class BadBundle(Exception):
    """What is wrong with it, in one line."""


def unpack(path, folder, sha256):
    """Make the files of the bundle in `folder`, which is made too, if the archive's digest is `sha256`."""
    with open(path, "rb") as archive:
        if _digest(archive) != sha256:
            raise BadBundle("the bundle's bytes are not those that were sent (SHA-256 differs)")
        archive.seek(0)
        os.mkdir(folder, 0o755)
        made = set()
        for name, size, executable in members(archive):
            below = inside(name)
            if name in made:
                raise BadBundle("twice in the bundle: %r" % name)
            made.add(name)
            if below is None:
                archive.seek(size, os.SEEK_CUR)
            else:
                _make_file(os.path.join(folder, below), _chunks(archive, size), executable)
            archive.seek(-size % BLOCK, os.SEEK_CUR)


def members(archive):
    """(name, size, executable) of each file; the caller reads or skips its data and the padding behind."""
    name = size = None
    while True:
        header = archive.read(BLOCK)
        if header == b"\0" * BLOCK:
            return  # the end mark
        _check(header)
        kind, length = header[156:157], _number(header[124:136])
        if kind in (_LONG_NAME, _EXTENDED):
            data = _header_data(archive, length)
            if kind == _LONG_NAME:
                name = data.split(b"\0", 1)[0]
            else:
                extended = _extended(data)
                name, size = extended.get(b"path", name), extended.get(b"size", size)
            continue
        if kind not in _REGULAR:
            raise BadBundle("not a regular file in the bundle: %r" % _name(header))
        length = length if size is None else _decimal(size)
        yield _text(_name(header) if name is None else name), length, bool(_number(header[100:108]) & 0o100)
        name = size = None


def inside(name):
    """The path below the job's folder, None for what does not belong there; refuses all that could escape."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise BadBundle("not a plain relative path in the bundle: %r" % name)
    if name.startswith(FILES):
        return os.path.join(*parts[1:])
    if name in BESIDE:
        return None
    raise BadBundle("unknown in a bundle: %r" % name)


def _make_file(path, chunks, executable):
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            os.fchmod(file.fileno(), 0o755 if executable else 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadBundle("a path in the bundle is both file and folder: %r" % path) from error


def _chunks(archive, size):
    while size:
        chunk = archive.read(min(size, 1024 * 1024))
        if not chunk:
            raise BadBundle("the bundle ends in the middle of a file")
        size -= len(chunk)
        yield chunk


def _digest(archive):
    digest = hashlib.sha256()
    for chunk in iter(lambda: archive.read(1024 * 1024), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _check(header):
    """The header's own sum, with its field read as spaces."""
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    if len(header) < BLOCK or total != _number(header[148:156]):
        raise BadBundle("the bundle ends early, or what should be a tar header is none")


def _header_data(archive, size):
    if size > _MAX_HEADER_BYTES:
        raise BadBundle("a header of %d bytes in the bundle" % size)
    data = archive.read(size)
    archive.seek(-size % BLOCK, os.SEEK_CUR)
    return data


def _extended(data):
    """The records `LENGTH KEY=VALUE\\n` of a pax header."""
    values = {}
    while data:
        length = _decimal(data.split(b" ", 1)[0])
        key, equals, value = data[:length].partition(b" ")[2].partition(b"=")
        if length > len(data) or not equals or not value.endswith(b"\n"):
            raise BadBundle("a broken pax header in the bundle")
        values[key] = value[:-1]
        data = data[length:]
    return values


def _decimal(digits):
    if not digits.isdigit():
        raise BadBundle("a broken pax header in the bundle")
    return int(digits)


def _name(header):
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _number(field):
    if field[0] & 0x80:  # GNU's way for more than 8 GiB
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise BadBundle("not a number in a tar header") from None


def _text(name):
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise BadBundle("a name in the bundle is not UTF-8: %r" % name) from None
