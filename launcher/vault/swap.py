"""Putting one thing in the place of another, so that the place is never empty."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable

EXCHANGE = 2  # RENAME_EXCHANGE (Linux) and RENAME_SWAP (macOS) have the same value
UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)  # an old kernel, or a filesystem that cannot

Place = tuple[int, str]  # (open folder, name)


def replace(new: Place, old: Place) -> None:
    """`new` takes the place of `old`, which ends up where `new` was. Both exist; files or folders.

    Where the system cannot exchange two names, the place is empty for a moment, with both still at hand:
    whoever opens the run's folder next finishes the move.
    """
    try:
        if _exchange(new, old):
            return
    except OSError as e:
        if e.errno not in UNKNOWN:
            raise
    aside = (new[0], f"{new[1]}.old")
    os.rename(old[1], aside[1], src_dir_fd=old[0], dst_dir_fd=aside[0])
    os.rename(new[1], old[1], src_dir_fd=new[0], dst_dir_fd=old[0])
    os.rename(aside[1], new[1], src_dir_fd=aside[0], dst_dir_fd=new[0])


def _exchange(a: Place, b: Place) -> bool:
    call = _system_call()
    if call is None:
        return False
    if call(a[0], os.fsencode(a[1]), b[0], os.fsencode(b[1]), EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), b[1])
    return True


@functools.cache
def _system_call() -> Callable[[int, bytes, int, bytes, int], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call
