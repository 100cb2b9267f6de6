"""Hear about new names in folders: Linux's inotify through ctypes; elsewhere `open_watch` returns None."""

import ctypes
import os
import struct
import sys

MODIFY = 0x2
CREATE, MOVED_TO, CLOSE_WRITE, DELETE_SELF, MOVE_SELF = 0x100, 0x80, 0x8, 0x400, 0x800
OVERFLOW, IGNORED = 0x4000, 0x8000

_ONLYDIR, _DONT_FOLLOW = 0x01000000, 0x02000000
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def open_watch():
    """A new Watch, or None where the system has none to give."""
    if _libc is None:
        return None
    fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    return Watch(fd) if fd >= 0 else None


class Watch:
    """An inotify descriptor: give `fd` to a selector, then read()."""

    def __init__(self, fd):
        self.fd = fd

    def add(self, folder, mask):
        """Watch a folder (never through a link); its watch number, or None if that cannot be."""
        number = _libc.inotify_add_watch(self.fd, os.fsencode(folder), mask | _ONLYDIR | _DONT_FOLLOW)
        return number if number >= 0 else None

    def add_open_file(self, fd):
        """Hear about every write to a file that is open here."""
        _libc.inotify_add_watch(self.fd, b"/proc/self/fd/%d" % fd, MODIFY)

    def read(self):
        """All events that wait now, as (watch number, mask, name in bytes)."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            number, mask, _cookie, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            events.append((number, mask, data[at : at + length].rstrip(b"\0")))
            at += length
        return events

    def close(self):
        os.close(self.fd)
